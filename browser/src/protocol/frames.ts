/**
 * The frames of `collab.v1`: their tags, fields, bounds and directions.
 *
 * A frame is a msgpack array `[tag, field, …]` of fixed length. PROTOCOL.md says what each one
 * means; this module says what each one looks like. `codec` turns them into bytes and back.
 */

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

/** What a field of a frame holds. */
export interface Values {
  int: number;
  optionalInt: number | null;
  id: Uint8Array;
  optionalId: Uint8Array | null;
  bytes: Uint8Array;
  bool: boolean;
  room: string;
  token: string | null;
  reason: string;
  user: string;
  code: string;
  body: string;
  meta: Uint8Array;
}

type Fields = Readonly<Record<string, keyof Values>>;
type Shape = readonly [tag: number, fields: Fields];

function shapes<const S extends Readonly<Record<string, Shape>>>(all: S): S {
  return all;
}

/** Every frame: its tag and its fields in their order. */
export const SHAPES = shapes({
  hello: [1, { version: "int", nonce: "id", device: "id", connection: "int", token: "token" }],
  welcome: [2, { version: "int", nonce: "id", relay: "id", generation: "id" }],
  join: [
    3,
    {
      request: "int",
      room: "room",
      epoch: "optionalId",
      generation: "id",
      offset: "int",
      stateVector: "bytes",
    },
  ],
  joined: [
    4,
    {
      request: "int",
      channel: "int",
      epoch: "id",
      good: "bool",
      head: "int",
      stateVector: "bytes",
      access: "int",
    },
  ],
  denied: [5, { request: "int", code: "reason", reason: "reason" }],
  leave: [6, { channel: "int" }],
  left: [7, { channel: "int", code: "reason", reason: "reason" }],
  update: [8, { channel: "int", number: "int", update: "bytes" }],
  offer: [9, { channel: "int", number: "int", update: "bytes" }],
  updates: [10, { channel: "int", offset: "int", update: "bytes" }],
  difference: [11, { channel: "int", offset: "int", update: "bytes" }],
  ack: [12, { channel: "int", number: "int", offset: "int" }],
  resync: [13, { channel: "int", stateVector: "bytes" }],
  refused: [14, { channel: "int", number: "int", code: "reason", reason: "reason" }],
  awareness: [15, { channel: "int", data: "bytes" }],
  ping: [16, { number: "int" }],
  pong: [17, { number: "int" }],
  part: [18, { stream: "int", total: "int", data: "bytes" }],
  enter: [
    19,
    { channel: "int", laneEpoch: "id", laneSeq: "int", generation: "id", seq: "int" },
  ],
  entered: [
    20,
    {
      channel: "int",
      laneSeq: "int",
      outcomes: "bytes",
      good: "bool",
      after: "int",
      head: "int",
      oldest: "int",
      readUpto: "int",
      unread: "int",
      user: "user",
    },
  ],
  send: [
    21,
    {
      channel: "int",
      laneSeq: "int",
      messageId: "id",
      body: "body",
      meta: "meta",
      sentAt: "int",
      ttlMs: "optionalInt",
      confirm: "bool",
    },
  ],
  skip: [22, { channel: "int", laneSeq: "int", messageId: "id" }],
  outcome: [
    23,
    {
      channel: "int",
      laneSeq: "int",
      messageId: "id",
      code: "reason",
      seq: "int",
      retryAfterMs: "int",
      reason: "reason",
    },
  ],
  expected: [24, { channel: "int", laneSeq: "int" }],
  messages: [25, { channel: "int", after: "int", upto: "int", data: "bytes" }],
  fetch: [26, { channel: "int", request: "int", after: "int", before: "int", newest: "bool" }],
  page: [
    27,
    {
      channel: "int",
      request: "int",
      after: "int",
      upto: "int",
      oldest: "int",
      data: "bytes",
    },
  ],
  mark: [28, { channel: "int", deliveredUpto: "int", readUpto: "int" }],
  receipts: [29, { channel: "int", data: "bytes" }],
} as const);

type Shapes = typeof SHAPES;
export type Kind = keyof Shapes;

/** One frame: its kind, and its fields by name. */
export type FrameOf<K extends Kind> = K extends Kind
  ? Readonly<
      { kind: K } & {
        [F in keyof Shapes[K][1]]: Values[Shapes[K][1][F] & keyof Values];
      }
    >
  : never;
export type Frame = FrameOf<Kind>;

/** What a relay may send. */
export const FROM_RELAY = [
  "welcome",
  "joined",
  "denied",
  "left",
  "updates",
  "difference",
  "ack",
  "resync",
  "refused",
  "awareness",
  "pong",
  "part",
  "entered",
  "outcome",
  "expected",
  "messages",
  "page",
  "receipts",
] as const satisfies readonly Kind[];
export type FromRelay = FrameOf<(typeof FROM_RELAY)[number]>;

/** What may come in parts. */
export const IN_PARTS: ReadonlySet<Kind> = new Set<Kind>([
  "join",
  "joined",
  "update",
  "offer",
  "updates",
  "difference",
  "resync",
]);

const encoder = new TextEncoder();

function isText(value: unknown, maxBytes: number): boolean {
  return typeof value === "string" && encoder.encode(value).length <= maxBytes;
}

/** Whether `value` may name a room: 1–255 bytes of UTF-8, no control characters. */
export function isRoomName(value: unknown): boolean {
  return (
    isText(value, limits.MAX_ROOM_NAME_BYTES) &&
    value !== "" &&
    (value as string).isWellFormed() &&
    !/[\u0000-\u001f\u007f-\u009f]/.test(value as string)
  );
}

const isInt = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array;
const isId = (value: unknown): boolean => isBytes(value) && value.length === 16;

/** The check of each kind of field. */
export const CHECKS: { readonly [V in keyof Values]: (value: unknown) => boolean } = {
  int: isInt,
  optionalInt: (value) => value === null || isInt(value),
  id: isId,
  optionalId: (value) => value === null || isId(value),
  bytes: isBytes,
  bool: (value) => typeof value === "boolean",
  room: isRoomName,
  token: (value) => value === null || isText(value, limits.MAX_TOKEN_BYTES),
  reason: (value) => isText(value, limits.MAX_REASON_BYTES),
  user: (value) => isText(value, limits.MAX_USER_BYTES),
  code: (value) => isText(value, limits.MAX_CODE_BYTES),
  body: (value) => isText(value, limits.MAX_BODY_BYTES),
  meta: (value) => isBytes(value) && value.length <= limits.MAX_META_BYTES,
};
