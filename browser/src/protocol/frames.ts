/**
 * The frames of `collab.v1`: their tags, fields, bounds and directions.
 *
 * A frame is a msgpack array `[tag, field, …]` of fixed length. PROTOCOL.md says what each one
 * means; this module says what each one looks like. `codec` turns them into bytes and back.
 */

import { sizeOf } from "../bytes.js";
import * as limits from "../limits.js";

export const SUBPROTOCOL = "collab.v1";
export const VERSION = 1;

/** What a user may do in a room; each level includes those below it. */
export const Access = { NONE: 0, READ: 1, WRITE: 2, ADMIN: 3 } as const;

/** Close codes: 44xx are permanent, all others transient. */
export const Close = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  BAD_FRAME: 4400,
  UNAUTHENTICATED: 4401,
  FENCED: 4409,
} as const;

/** Whether a device must not come back by itself after this close. */
export function isPermanent(closeCode: number): boolean {
  return closeCode >= 4400 && closeCode < 4500;
}

/** Whether the same request can succeed later without a change by the user. */
export function isTransient(code: string): boolean {
  return code === "busy" || code === "quarantined";
}

/** What a field holds. */
export interface Values {
  int: number;
  optionalInt: number | null;
  id: Uint8Array;
  optionalId: Uint8Array | null;
  bytes: Uint8Array;
  answer: Uint8Array;
  bool: boolean;
  room: string;
  token: string | null;
  reason: string;
  user: string;
  code: string;
  body: string;
  meta: Uint8Array;
}
type Type = keyof Values;

/** What the fields of these names hold, in all frames and rows; those of any other name are `int`. */
const TYPES = {
  optionalInt: "ttlMs",
  id: "nonce device relay generation epoch laneEpoch messageId id",
  bytes: "stateVector update data outcomes payload",
  bool: "good confirm newest whole",
  room: "room",
  token: "token",
  reason: "code reason service role",
  user: "user sender",
  body: "body",
  meta: "meta",
} as const satisfies { readonly [T in Type]?: string };

/**
 * The fields of every frame, in their order; the frames in the order of their tags, from 1. A field
 * that holds something else than its name says has that behind a colon.
 */
export const SHAPES = {
  hello: "version nonce device connection token",
  welcome: "version nonce relay generation",
  join: "request room epoch:optionalId generation offset stateVector",
  joined: "request channel epoch good head stateVector access",
  denied: "request code reason",
  leave: "channel",
  left: "channel code reason",
  update: "channel number update",
  offer: "channel number update",
  updates: "channel offset update",
  difference: "channel offset update",
  ack: "channel number offset",
  resync: "channel stateVector",
  refused: "channel number code reason",
  awareness: "channel data",
  ping: "number",
  pong: "number",
  part: "stream total data",
  enter: "channel laneEpoch laneSeq generation seq",
  entered: "channel laneSeq outcomes good after head oldest readUpto unread user",
  send: "channel laneSeq messageId body meta sentAt ttlMs confirm",
  skip: "channel laneSeq messageId",
  outcome: "channel laneSeq messageId code seq retryAfterMs reason",
  expected: "channel laneSeq",
  messages: "channel after upto data",
  fetch: "channel request after before newest",
  page: "channel request after upto oldest data",
  mark: "channel deliveredUpto readUpto",
  receipts: "channel data",
  cast: "channel payload",
  call: "channel request service payload",
  answer: "channel request code reason payload:answer",
  change: "channel request user role",
  changed: "channel request code reason",
  members: "channel whole data",
  inquire: "channel data",
  verdicts: "channel data",
  broadcast: "channel sender payload",
} as const;

type Shapes = typeof SHAPES;
export type Kind = keyof Shapes;

type Words<S extends string> = S extends `${infer First} ${infer Rest}` ? First | Words<Rest> : S;
type NameOf<Word> = Word extends `${infer Name}:${string}` ? Name : Word;
type Named<Name> = {
  [T in keyof typeof TYPES]: Name extends Words<(typeof TYPES)[T]> ? T : never;
}[keyof typeof TYPES];
type TypeOf<Word> = Word extends `${string}:${infer T}`
  ? T & Type
  : [Named<Word>] extends [never]
    ? "int"
    : Named<Word>;

/** A record with the fields of a shape. */
export type Shaped<S extends string> = {
  readonly [Word in Words<S> as NameOf<Word> & string]: Values[TypeOf<Word>];
};

/** One frame: its kind, and its fields by name. */
export type FrameOf<K extends Kind> = K extends Kind
  ? { readonly kind: K } & Shaped<Shapes[K]>
  : never;
export type Frame = FrameOf<Kind>;

type Check = (value: unknown) => boolean;

const isInt: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;

const isBytes =
  (most = Infinity): Check =>
  (value) =>
    value instanceof Uint8Array && value.length <= most;

export const isText =
  (most: number): Check =>
  (value) =>
    typeof value === "string" && value.isWellFormed() && sizeOf(value) <= most;

const isId: Check = (value) => isBytes()(value) && (value as Uint8Array).length === 16;

const optional =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);

/** Whether `value` may name a room: 1–255 bytes of UTF-8, no control characters. */
export const isRoomName: Check = (value) =>
  isText(limits.MAX_ROOM_NAME_BYTES)(value) &&
  /^\P{Cc}+$/u.test(value as string);

/** The check of each type of field. */
const CHECKS: { readonly [T in Type]: Check } = {
  int: isInt,
  optionalInt: optional(isInt),
  id: isId,
  optionalId: optional(isId),
  bytes: isBytes(),
  answer: isBytes(limits.MAX_ANSWER_BYTES),
  bool: (value) => typeof value === "boolean",
  room: isRoomName,
  token: optional(isText(limits.MAX_TOKEN_BYTES)),
  reason: isText(limits.MAX_REASON_BYTES),
  user: isText(limits.MAX_USER_BYTES),
  code: isText(limits.MAX_CODE_BYTES),
  body: isText(limits.MAX_BODY_BYTES),
  meta: isBytes(limits.MAX_META_BYTES),
};

const NAMED = new Map(
  Object.entries(TYPES).flatMap(([type, names]) =>
    names.split(" ").map((name) => [name, type as Type] as const),
  ),
);

/** The fields of a shape: their names, and whether a value may be in them. */
export function fieldsOf(shape: string): [name: string, check: Check][] {
  return shape.split(" ").map((word) => {
    const [name = "", type = NAMED.get(name) ?? "int"] = word.split(":");
    return [name, CHECKS[type as Type]];
  });
}
