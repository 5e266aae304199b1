/**
 * The errors of this package. Each says what happened, what it means for the data, and what to do.
 *
 *     CollabError
 *     ├── Closed              the client or room is closed
 *     ├── BadArgument         what the program gave cannot be used; nothing was stored
 *     ├── StorageUnavailable  this browser gives no durable storage here
 *     ├── QuotaExceeded       the browser's storage is full
 *     ├── OfflineError        needs the relay, and there is no connection
 *     ├── BadMessage          no message can be made of this; nothing was stored
 *     ├── TooLarge            a body or meta above its bound; nothing was stored
 *     ├── IdConflict          another message of the room has this id; nothing was stored
 *     ├── OutboxFull          too much waits to be sent; what waits stays queued
 *     ├── ReadOnly            this user may not write; nothing was sent
 *     ├── WrongState          a message is not in a state that allows this; it was left as it is
 *     ├── NotSent             a message ended before the relay had it; .state says how
 *     ├── HistoryReplaced     the relay's messages of a room have another history
 *     ├── OtherUser           the store is another user's; nothing was stored or sent
 *     ├── Rejected            the relay said no; .code says why
 *     ├── RoomReplaced        the relay has another room of this name
 *     └── BadFrame            the relay broke the protocol
 *
 * What several modules say is said here, once.
 */

/** Names are written out: a minifier changes those of classes. */
export class CollabError extends Error {
  override readonly name: string = "CollabError";
}

export class Closed extends CollabError {
  override readonly name = "Closed";
}
export class BadArgument extends CollabError {
  override readonly name = "BadArgument";
}
export class StorageUnavailable extends CollabError {
  override readonly name = "StorageUnavailable";
}
export class QuotaExceeded extends CollabError {
  override readonly name = "QuotaExceeded";
}
export class OfflineError extends CollabError {
  override readonly name = "OfflineError";
}
export class BadMessage extends CollabError {
  override readonly name = "BadMessage";
}
export class TooLarge extends CollabError {
  override readonly name = "TooLarge";
}
export class IdConflict extends CollabError {
  override readonly name = "IdConflict";
}
export class OutboxFull extends CollabError {
  override readonly name = "OutboxFull";
}
export class ReadOnly extends CollabError {
  override readonly name = "ReadOnly";
}
export class WrongState extends CollabError {
  override readonly name = "WrongState";
}
export class HistoryReplaced extends CollabError {
  override readonly name = "HistoryReplaced";
}
export class OtherUser extends CollabError {
  override readonly name = "OtherUser";
}
export class RoomReplaced extends CollabError {
  override readonly name = "RoomReplaced";
}
export class BadFrame extends CollabError {
  override readonly name = "BadFrame";
}

export class Rejected extends CollabError {
  override readonly name = "Rejected";
  constructor(
    message: string,
    readonly code: string,
    readonly retryable = false,
  ) {
    super(message);
  }
}

export class NotSent extends CollabError {
  override readonly name = "NotSent";
  constructor(
    message: string,
    readonly state: string,
  ) {
    super(message);
  }
}

export function closed(what: "client" | "room" | "store"): Closed {
  return new Closed(`The ${what} was closed; what was saved is on this device. Open it again.`);
}

export function forgotten(): Closed {
  return new Closed("This room was forgotten on this device. Nothing was stored.");
}

export function unavailable(why: string): StorageUnavailable {
  return new StorageUnavailable(
    `Nothing can be kept on this device: ${why}. Nothing was opened. Use https, allow storage, and ` +
      `open no private window.`,
  );
}

/** `what` was sent, and its answer did not come. */
export function lost(what: string, isClosed: boolean): Closed | OfflineError {
  const why = isClosed ? "The room was closed" : "The connection to the relay was lost";
  return new (isClosed ? Closed : OfflineError)(
    `${why} before ${what} was answered. Whether it was done is not known. Ask again if that does ` +
      `no harm.`,
  );
}

/** `what` needs a connection, and there is none. */
export function offline(what: string): OfflineError {
  return new OfflineError(
    `There is no connection to the relay, and ${what} needs one. Nothing was stored, sent or queued. ` +
      `Try again when there is one.`,
  );
}
