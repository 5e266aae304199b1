/** Frames to bytes and back. */

import { BadFrame } from "../errors.js";
import * as limits from "../limits.js";
import {
  CHECKS,
  FROM_RELAY,
  IN_PARTS,
  SHAPES,
  type Frame,
  type FromRelay,
  type Kind,
  type Values,
} from "./frames.js";
import { Malformed, pack, unpack } from "./msgpack.js";

function kindsByTag(kinds: readonly Kind[]): ReadonlyMap<number, Kind> {
  return new Map(kinds.map((kind) => [SHAPES[kind][0], kind]));
}

const RELAY_KINDS = kindsByTag(FROM_RELAY);

/** What a relay tells every device, and this package has no use for: MEMBERS, VERDICTS, BROADCAST. */
const UNSPOKEN = [35, 37, 38];

/** The bytes of `frame`, of any length; `parts` cuts what is too long for one frame. */
export function encode(frame: Frame): Uint8Array<ArrayBuffer> {
  const [tag, fields] = SHAPES[frame.kind];
  const values = frame as unknown as Record<string, unknown>;
  return pack([tag, ...Object.keys(fields).map((name) => values[name])]);
}

function decodeAs(
  data: Uint8Array,
  kinds: ReadonlyMap<number, Kind>,
  maxBytes: number,
): Frame | null {
  if (data.length > maxBytes) {
    throw new BadFrame(`a frame of ${data.length} bytes; at most ${maxBytes} are allowed`);
  }
  const values = unpacked(data);
  if (!Array.isArray(values)) throw new BadFrame("a frame must be an array");
  if (UNSPOKEN.includes(values[0] as number)) return null;
  const kind = kinds.get(values[0] as number);
  if (kind === undefined) throw new BadFrame(`a frame with tag ${String(values[0])}`);
  const fields = Object.entries(SHAPES[kind][1]) as [string, keyof Values][];
  if (values.length !== fields.length + 1) throw new BadFrame(`${kind} with too many or few fields`);
  const frame: Record<string, unknown> = { kind };
  fields.forEach(([name, type], index) => {
    const value = values[index + 1] as unknown;
    if (!CHECKS[type](value)) throw new BadFrame(`${kind}.${name} is malformed`);
    frame[name] = value;
  });
  return frame as unknown as Frame;
}

function unpacked(data: Uint8Array): unknown {
  try {
    return unpack(data);
  } catch (error) {
    if (error instanceof Malformed) throw new BadFrame(`a frame with ${error.message}`);
    throw error;
  }
}

/**
 * The frame in `data`, or null for one of those that are not spoken here. Throws {@link BadFrame}
 * for anything that a relay may not send.
 */
export function decodeFromRelay(
  data: Uint8Array,
  maxBytes: number = limits.MAX_FRAME_BYTES,
): FromRelay | null {
  return decodeAs(data, RELAY_KINDS, maxBytes) as FromRelay | null;
}

/** The frame in `data`, of either side; for tests of the shapes that both languages share. */
export function decodeAny(data: Uint8Array): Frame | null {
  return decodeAs(data, kindsByTag(Object.keys(SHAPES) as Kind[]), limits.MAX_FRAME_BYTES);
}

/** Rows of plain values as one field of a frame. */
export function packRows(rows: readonly (readonly unknown[])[]): Uint8Array {
  return pack(rows);
}

/** The rows in `data`, each with a value for every check. Throws {@link BadFrame}. */
export function unpackRows(
  data: Uint8Array,
  checks: readonly (keyof Values)[],
  maxRows: number,
): unknown[][] {
  const rows = unpacked(data);
  if (!Array.isArray(rows) || rows.length > maxRows) throw new BadFrame("a field with no rows");
  for (const row of rows as unknown[]) {
    if (!Array.isArray(row) || row.length !== checks.length) {
      throw new BadFrame(`a row that has not ${checks.length} values`);
    }
    row.forEach((value, index) => {
      const check = checks[index];
      if (check === undefined || !CHECKS[check](value)) throw new BadFrame("a malformed row");
    });
  }
  return rows as unknown[][];
}

/** A program's own map (`meta`) as bytes. Throws for what msgpack cannot carry. */
export function packMap(values: Readonly<Record<string, unknown>>): Uint8Array {
  return pack(values);
}

/** The map in `data`; null if it is none: what comes is shown as far as it can be. */
export function unpackMap(data: Uint8Array): Record<string, unknown> | null {
  if (data.length === 0) return {};
  try {
    const values = unpack(data);
    const isMap = typeof values === "object" && values !== null && !Array.isArray(values);
    return isMap && !(values instanceof Uint8Array) ? (values as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** `encoded` cut into the bytes of part frames; lazily, so that other rooms come between. */
export function* parts(
  encoded: Uint8Array,
  stream: number,
): Generator<Uint8Array<ArrayBuffer>, void> {
  for (let start = 0; start < encoded.length; start += limits.PART_BYTES) {
    const data = encoded.subarray(start, start + limits.PART_BYTES);
    yield encode({ kind: "part", stream, total: encoded.length, data });
  }
}

/** Puts the parts of one connection together again; bounded in number and bytes. */
export class Reassembly {
  private readonly open = new Map<number, { total: number; pieces: Uint8Array[]; size: number }>();
  private promised = 0;

  /** The whole frame when `part` was its last one. Throws {@link BadFrame}. */
  add(part: { stream: number; total: number; data: Uint8Array }): FromRelay | null {
    const entry = this.open.get(part.stream) ?? this.start(part.stream, part.total);
    const size = entry.size + part.data.length;
    if (part.total !== entry.total || size > entry.total || part.data.length === 0) {
      throw new BadFrame(`part of stream ${part.stream} does not continue what came before`);
    }
    entry.pieces.push(part.data);
    entry.size = size;
    if (size < entry.total) return null;
    this.open.delete(part.stream);
    this.promised -= entry.total;
    const whole = new Uint8Array(entry.total);
    let at = 0;
    for (const piece of entry.pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    const frame = decodeFromRelay(whole, limits.MAX_PAYLOAD_BYTES);
    if (frame === null || !IN_PARTS.has(frame.kind)) throw new BadFrame("not a frame for parts");
    return frame;
  }

  private start(stream: number, total: number): { total: number; pieces: Uint8Array[]; size: number } {
    if (total <= limits.MAX_FRAME_BYTES || total > limits.MAX_PAYLOAD_BYTES) {
      throw new BadFrame(`parts of a frame of ${total} bytes`);
    }
    if (
      this.open.size >= limits.MAX_OPEN_PARTS ||
      this.promised + total > limits.MAX_OPEN_PART_BYTES
    ) {
      throw new BadFrame("too many payloads in parts at once");
    }
    this.promised += total;
    const entry = { total, pieces: [], size: 0 };
    this.open.set(stream, entry);
    return entry;
  }
}
