/**
 * The part of msgpack that `collab.v1` speaks: nil, booleans, integers, floats, text, bytes, arrays
 * and maps with text keys; no extensions. A general codec is a quarter of what this package may weigh.
 *
 * Every length is bounded by the bytes that remain before anything is made of it, and nesting by
 * `MAX_DEPTH`. Integers beyond 2^53 - 1 are refused: a number could not hold them exactly.
 * The format: https://github.com/msgpack/msgpack/blob/master/spec.md
 *
 * What comes in several widths has them under tags in a row, each for twice the bytes of the one
 * before: so a width is said as a `power` of 2, and added to the first tag.
 */

import * as encoding from "lib0/encoding";
import { encodeUtf8 } from "lib0/string";

const MAX_DEPTH = 64;
const TOO_DEEP = `nested deeper than ${MAX_DEPTH}`;
const CUT_OFF = "cut off";
const NO_UTF8 = "text that is no UTF-8";
// The first tags of rows. With a small number in the tag itself:
const FIX_MAP = 0x80;
const FIX_ARRAY = 0x90;
const FIX_TEXT = 0xa0;
const NEGATIVE = 0xe0;
// For 1, 2, 4 and, with integers, 8 bytes:
const BINARY = 0xc4;
const EXTENSION = 0xc7;
const UNSIGNED = 0xcc;
const SIGNED = 0xd0;
const TEXT = 0xd9;
// For 2 and 4 bytes, or 4 and 8:
const ARRAY = 0xdc;
const MAP = 0xde;
const FLOAT = 0xca;
// And others:
const NIL = 0xc0;
const FALSE = 0xc2;
const TRUE = 0xc3;
const FIXED_EXTENSION = 0xd4;

/** The bytes are not msgpack, or not the part of it that is spoken here. */
export class Malformed extends Error {}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes of `value`. Throws `TypeError` for what cannot be packed. */
export function pack(value: unknown): Uint8Array<ArrayBuffer> {
  const packed = encoding.createEncoder();
  const byte = (value: number): void => encoding.writeUint8(packed, value); // modulo 256

  /** An integer in the narrowest width, from 2^`least` bytes on, behind its tag. */
  const integer = (tag: number, value: number, least = 0): void => {
    const fits = (power: number): boolean => {
      const bits = 8 * 2 ** power;
      return power >= least && (value < 0 ? value >= -(2 ** (bits - 1)) : value < 2 ** bits);
    };
    const power = [0, 1, 2].find(fits) ?? 3;
    byte(tag + power);
    for (let left = 2 ** power; left-- > 0; ) byte(Math.floor(value / 256 ** left));
  };

  const head = (length: number, fix: number, most: number, tag: number, least = 0): void =>
    length <= most ? byte(fix + length) : integer(tag, length, least);

  const text = (text: string): void => {
    if (!text.isWellFormed()) throw new TypeError(NO_UTF8);
    const bytes = encodeUtf8(text);
    head(bytes.length, FIX_TEXT, 31, TEXT);
    encoding.writeUint8Array(packed, bytes);
  };

  const add = (value: unknown, depth: number): void => {
    if (depth > MAX_DEPTH) throw new TypeError(TOO_DEEP);
    if (value === null || value === undefined) byte(NIL);
    else if (typeof value === "boolean") byte(value ? TRUE : FALSE);
    else if (typeof value === "string") text(value);
    else if (typeof value === "number") {
      if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
        byte(FLOAT + 1);
        encoding.writeFloat64(packed, value);
      } else if (value >= -0x20 && value < FIX_MAP) byte(value);
      else integer(value < 0 ? SIGNED : UNSIGNED, value);
    } else if (value instanceof Uint8Array) {
      head(value.length, 0, -1, BINARY);
      encoding.writeUint8Array(packed, value);
    } else if (Array.isArray(value)) {
      head(value.length, FIX_ARRAY, 15, ARRAY - 1, 1);
      for (const item of value) add(item, depth + 1);
    } else if (Object.getPrototypeOf(value) === Object.prototype) {
      const entries = Object.entries(value as object);
      head(entries.length, FIX_MAP, 15, MAP - 1, 1);
      for (const [key, item] of entries) {
        text(key);
        add(item, depth + 1);
      }
    } else throw new TypeError(`${typeof value} cannot be packed`);
  };

  add(value, 0);
  return encoding.toUint8Array(packed);
}

/** The value in `data`, which must be all of it. Throws {@link Malformed}. */
export function unpack(data: Uint8Array): unknown {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  let depth = 0;

  /** Go on by `size` bytes, which must be there; where they begin. */
  const take = (size: number): number => {
    if (size > data.length - at) throw new Malformed(CUT_OFF);
    at += size;
    return at - size;
  };

  const bytes = (size: number): Uint8Array => data.subarray(take(size), at);

  /** An integer of 2^`power` bytes. */
  const integer = (power: number, isSigned = false): number => {
    const first = data[at] as number;
    let value = isSigned && first > 127 ? -1 : 0; // all bits before the first are set, or none is
    for (const byte of bytes(2 ** power)) value = value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw new Malformed("an integer beyond 2^53 - 1");
    return value;
  };

  const text = (length: number): string => {
    const encoded = bytes(length);
    try {
      return strictUtf8.decode(encoded);
    } catch {
      throw new Malformed(NO_UTF8);
    }
  };

  /** What `item` gives, `count` times; each takes `size` bytes at least. */
  const items = <T>(count: number, size: number, item: () => T): T[] => {
    if (count * size > data.length - at) throw new Malformed(CUT_OFF);
    depth += 1;
    if (depth > MAX_DEPTH) throw new Malformed(TOO_DEEP);
    const made = Array.from({ length: count }, item);
    depth -= 1;
    return made;
  };

  const array = (count: number): unknown[] => items(count, 1, next);

  const map = (count: number): Record<string, unknown> => {
    const entry = (): [string, unknown] => {
      const key = next();
      if (typeof key !== "string") throw new Malformed("a key that is no text");
      return [key, next()];
    };
    return Object.fromEntries(items(count, 2, entry)); // own properties, also of "__proto__"
  };

  /** The first tag of each row, from the last, and what is read behind the one after `power` more. */
  const rows: [first: number, read: (power: number) => unknown][] = [
    [NEGATIVE, (above) => above - 0x20],
    [MAP, (power) => map(integer(power + 1))],
    [ARRAY, (power) => array(integer(power + 1))],
    [TEXT, (power) => text(integer(power))],
    [FIXED_EXTENSION, () => undefined],
    [SIGNED, (power) => integer(power, true)],
    [UNSIGNED, (power) => integer(power)],
    [FLOAT, (power) => (power > 0 ? view.getFloat64(take(8)) : view.getFloat32(take(4)))],
    [EXTENSION, () => undefined],
    [BINARY, (power) => bytes(integer(power)).slice()],
    [NIL, (which) => [null, undefined, false, true][which]],
    [FIX_TEXT, text],
    [FIX_ARRAY, array],
    [FIX_MAP, map],
    [0, (value) => value],
  ];

  const next = (): unknown => {
    const tag = data[take(1)] as number;
    for (const [first, read] of rows) {
      if (tag < first) continue;
      const value = read(tag - first);
      if (value !== undefined) return value;
      break;
    }
    throw new Malformed(`the tag ${tag}`);
  };

  const value = next();
  if (at !== data.length) throw new Malformed("more than one value");
  return value;
}
