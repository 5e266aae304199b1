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

const MAX_DEPTH = 64;
const NIL = 0xc0;
const FALSE = 0xc2;
const TRUE = 0xc3;
const FLOAT32 = 0xca;
const FLOAT64 = 0xcb;
// The first of a row: of 1, 2, 4 and, with integers, 8 bytes.
const BINARY = 0xc4;
const UNSIGNED = 0xcc;
const SIGNED = 0xd0;
const TEXT = 0xd9;
// These begin with 2 bytes; a tag before them would have 1.
const ARRAY = 0xdc - 1;
const MAP = 0xde - 1;
// With a small number in the tag itself.
const FIX_MAP = 0x80;
const FIX_ARRAY = 0x90;
const FIX_TEXT = 0xa0;
const NEGATIVE = 0xe0;

/** The bytes are not msgpack, or not the part of it that is spoken here. */
export class Malformed extends Error {}

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes of `value`. Throws `TypeError` for what cannot be packed. */
export function pack(value: unknown): Uint8Array<ArrayBuffer> {
  let packed = new Uint8Array(256);
  let at = 0;

  const put = (bytes: ArrayLike<number>): void => {
    const end = at + bytes.length;
    if (end > packed.length) {
      const grown = new Uint8Array(Math.max(packed.length * 2, end));
      grown.set(packed);
      packed = grown;
    }
    packed.set(bytes, at); // which takes each modulo 256
    at = end;
  };

  /** An integer in the narrowest width, from 2^`least` bytes on, behind its tag. */
  const integer = (tag: number, value: number, least = 0): void => {
    const fits = (power: number): boolean => {
      const bits = 8 * 2 ** power;
      return power >= least && (value < 0 ? value >= -(2 ** (bits - 1)) : value < 2 ** bits);
    };
    const power = [0, 1, 2].find(fits) ?? 3;
    const bytes = [tag + power];
    for (let left = 2 ** power; left-- > 0; ) bytes.push(Math.floor(value / 256 ** left) % 256);
    put(bytes);
  };

  const head = (length: number, fix: number, most: number, tag: number, least = 0): void =>
    length <= most ? put([fix + length]) : integer(tag, length, least);

  const text = (text: string): void => {
    if (!text.isWellFormed()) throw new TypeError("text with half of a surrogate pair");
    const bytes = utf8.encode(text);
    head(bytes.length, FIX_TEXT, 31, TEXT);
    put(bytes);
  };

  const add = (value: unknown, depth: number): void => {
    if (depth > MAX_DEPTH) throw new TypeError(`nested deeper than ${MAX_DEPTH}`);
    if (value === null || value === undefined) put([NIL]);
    else if (typeof value === "boolean") put([value ? TRUE : FALSE]);
    else if (typeof value === "string") text(value);
    else if (typeof value === "number") {
      if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
        const float = new DataView(new ArrayBuffer(8));
        float.setFloat64(0, value);
        put([FLOAT64, ...new Uint8Array(float.buffer)]);
      } else if (value >= -0x20 && value < FIX_MAP) put([value]);
      else integer(value < 0 ? SIGNED : UNSIGNED, value);
    } else if (value instanceof Uint8Array) {
      head(value.length, 0, -1, BINARY);
      put(value);
    } else if (Array.isArray(value)) {
      head(value.length, FIX_ARRAY, 15, ARRAY, 1);
      for (const item of value) add(item, depth + 1);
    } else if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
      const entries = Object.entries(value);
      head(entries.length, FIX_MAP, 15, MAP, 1);
      for (const [key, item] of entries) {
        text(key);
        add(item, depth + 1);
      }
    } else throw new TypeError(`${typeof value} cannot be packed`);
  };

  add(value, 0);
  return packed.slice(0, at);
}

/** The value in `data`, which must be all of it. Throws {@link Malformed}. */
export function unpack(data: Uint8Array): unknown {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;

  /** Go on by `size` bytes, which must be there; where they begin. */
  const take = (size: number): number => {
    if (size > data.length - at) throw new Malformed("cut off");
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
      throw new Malformed("text that is no UTF-8");
    }
  };

  /** What `next` gives, `count` times; an item takes `size` bytes at least. */
  const items = <T>(count: number, size: number, next: () => T): T[] => {
    if (count * size > data.length - at) throw new Malformed("longer than its bytes");
    return Array.from({ length: count }, next);
  };

  const array = (count: number, depth: number): unknown[] =>
    items(count, 1, () => next(depth + 1));

  const map = (count: number, depth: number): Record<string, unknown> => {
    const entry = (): [string, unknown] => {
      const key = next(MAX_DEPTH);
      if (typeof key !== "string") throw new Malformed("a key that is no text");
      return [key, next(depth + 1)];
    };
    return Object.fromEntries(items(count, 2, entry)); // own properties, also of "__proto__"
  };

  const next = (depth: number): unknown => {
    if (depth > MAX_DEPTH) throw new Malformed(`nested deeper than ${MAX_DEPTH}`);
    const tag = data[take(1)] as number;
    const isWithin = (first: number, last: number): boolean => first <= tag && tag <= last;
    if (tag < FIX_MAP) return tag;
    if (tag < FIX_ARRAY) return map(tag - FIX_MAP, depth);
    if (tag < FIX_TEXT) return array(tag - FIX_ARRAY, depth);
    if (tag < NIL) return text(tag - FIX_TEXT);
    if (tag >= NEGATIVE) return tag - 256;
    if (tag === NIL) return null;
    if (isWithin(FALSE, TRUE)) return tag === TRUE;
    if (isWithin(BINARY, BINARY + 2)) return bytes(integer(tag - BINARY)).slice();
    if (tag === FLOAT32) return view.getFloat32(take(4));
    if (tag === FLOAT64) return view.getFloat64(take(8));
    if (isWithin(UNSIGNED, UNSIGNED + 3)) return integer(tag - UNSIGNED);
    if (isWithin(SIGNED, SIGNED + 3)) return integer(tag - SIGNED, true);
    if (isWithin(TEXT, TEXT + 2)) return text(integer(tag - TEXT));
    if (isWithin(ARRAY + 1, ARRAY + 2)) return array(integer(tag - ARRAY), depth);
    if (isWithin(MAP + 1, MAP + 2)) return map(integer(tag - MAP), depth);
    throw new Malformed(`the tag ${tag}`);
  };

  const value = next(0);
  if (at !== data.length) throw new Malformed("more than one value");
  return value;
}
