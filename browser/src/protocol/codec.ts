/** Frames to bytes and back. */

import { BadFrame } from "../errors.js";
import * as limits from "../limits.js";
import {
  fieldsOf,
  SHAPES,
  type Frame,
  type Kind,
  type Shaped,
} from "./frames.js";
import { Malformed, pack, unpack } from "./msgpack.js";

const KINDS = Object.keys(SHAPES) as Kind[]; // a kind is one below its tag

/** The bytes of `frame`, of any length; `outgoing` cuts what is too long for one frame. */
export function encode(frame: Frame): Uint8Array<ArrayBuffer> {
  const { kind, ...values } = frame as Frame & Record<string, unknown>;
  return pack([KINDS.indexOf(kind) + 1, ...fieldsOf(SHAPES[kind]).map(([name]) => values[name])]);
}

/**
 * The frame in `data`. Which of them a relay may send, and when, is for `link` to say. Throws
 * {@link BadFrame}.
 */
export function decode(data: Uint8Array, maxBytes: number = limits.MAX_FRAME_BYTES): Frame {
  if (data.length > maxBytes) {
    throw new BadFrame(`a frame of ${data.length} bytes`);
  }
  const [tag, ...values] = asArray(unpacked(data));
  const kind = KINDS[(tag as number) - 1];
  if (kind === undefined) throw new BadFrame(`a frame with tag ${tag}`);
  return { kind, ...shaped(values, SHAPES[kind], kind) } as Frame;
}

/** Values as a record with the fields of `shape`. Throws {@link BadFrame}; `what` names them. */
function shaped<S extends string>(values: unknown, shape: S, what: string): Shaped<S> {
  const fields = fieldsOf(shape);
  const { length } = asArray(values);
  if (length !== fields.length) throw new BadFrame(`${what} with ${length} fields`);
  const entries = fields.map(([name, check], index) => {
    const value = (values as unknown[])[index];
    if (!check(value)) throw new BadFrame(`${what}.${name} is malformed`);
    return [name, value];
  });
  return Object.fromEntries(entries) as Shaped<S>;
}

function asArray(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  throw new BadFrame("no array");
}

/** The value in `data`. Throws {@link BadFrame}. */
export function unpacked(data: Uint8Array): unknown {
  try {
    return unpack(data);
  } catch (error) {
    if (error instanceof Malformed) throw new BadFrame(`a frame with ${error.message}`);
    throw error;
  }
}

/** Rows of plain values as one field of a frame. */
export function packRows(rows: readonly (readonly unknown[])[]): Uint8Array {
  return pack(rows);
}

/** The rows in `data`, each of this shape. Throws {@link BadFrame}. */
export function unpackRows<S extends string>(
  data: Uint8Array,
  shape: S,
  maxRows: number,
): Shaped<S>[] {
  const rows = asArray(unpacked(data));
  if (rows.length > maxRows) throw new BadFrame(`${rows.length} rows`);
  return rows.map((row) => shaped(row, shape, "row"));
}

/** The map in `data`; null if it is none: what comes is shown as far as it can be. */
export function unpackMap(data: Uint8Array): Record<string, unknown> | null {
  if (data.length === 0) return {};
  try {
    const values = unpack(data);
    const isMap = Object.getPrototypeOf(values) === Object.prototype;
    return isMap ? (values as Record<string, unknown>) : null;
  } catch {
    return null; // also of nothing at all, which has no prototype
  }
}

/** Puts the parts of one connection together again; bounded in number and bytes. */
export class Reassembly {
  private readonly open = new Map<number, { total: number; pieces: Uint8Array[]; size: number }>();
  private promised = 0;

  /** The whole frame when `part` was its last one. Throws {@link BadFrame}. */
  add(part: { stream: number; total: number; data: Uint8Array }): Frame | null {
    const entry = this.open.get(part.stream) ?? this.start(part.stream, part.total);
    const size = entry.size + part.data.length;
    if (part.total !== entry.total || size > entry.total || part.data.length === 0) {
      throw new BadFrame("a part that does not fit");
    }
    entry.pieces.push(part.data);
    entry.size = size;
    if (size < entry.total) return null;
    this.open.delete(part.stream);
    this.promised -= entry.total;
    const whole = new Uint8Array(entry.total);
    entry.pieces.reduce((at, piece) => (whole.set(piece, at), at + piece.length), 0);
    return decode(whole, limits.MAX_PAYLOAD_BYTES);
  }

  private start(stream: number, total: number): { total: number; pieces: Uint8Array[]; size: number } {
    if (
      total <= limits.MAX_FRAME_BYTES ||
      total > limits.MAX_PAYLOAD_BYTES ||
      this.open.size >= limits.MAX_OPEN_PARTS ||
      this.promised + total > limits.MAX_OPEN_PART_BYTES
    ) {
      throw new BadFrame(`a frame of ${total} bytes in parts`);
    }
    this.promised += total;
    const entry = { total, pieces: [], size: 0 };
    this.open.set(stream, entry);
    return entry;
  }
}
