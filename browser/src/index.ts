/** Offline-first collaboration in the browser: shared documents, on this device first. */

export type { Availability, Capabilities, Capability } from "./capabilities.js";
export type { Chat, ChatEvent, History, SendOptions } from "./chat.js";
export { open, type Client, type Options, type Storage } from "./client.js";
export type { ConnectionStatus, State, Token } from "./connection.js";
export {
  BadArgument,
  BadFrame,
  BadMessage,
  Closed,
  CollabError,
  HistoryReplaced,
  IdConflict,
  NotSent,
  OfflineError,
  OtherUser,
  OutboxFull,
  QuotaExceeded,
  ReadOnly,
  Rejected,
  RoomReplaced,
  StorageUnavailable,
  TooLarge,
  WrongState,
} from "./errors.js";
export type { Unsubscribe } from "./events.js";
export type { Broadcast } from "./live.js";
export type { Members, MembersChanged } from "./members.js";
export type { Message, MessageVerdict } from "./message.js";
export type { Gap, Gaps } from "./protocol/gaps.js";
export type { Member, Role } from "./protocol/members.js";
export type { MessageState } from "./protocol/messages.js";
export type { Room, Status } from "./room.js";
