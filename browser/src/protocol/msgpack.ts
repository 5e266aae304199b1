/**
 * The part of msgpack that `collab.v1` speaks: nil, booleans, integers, floats, text, bytes, arrays
 * and maps with text keys; no extensions. A general codec is a quarter of what this package may weigh.
 *
 * Every length is bounded by the bytes that remain before anything is made of it, and nesting by
 * `MAX_DEPTH`. Integers beyond 2^53 - 1 are refused: a number could not hold them exactly.
 * The format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */

const MAX_DEPTH = 64;

/** What can be packed. */
export type Packable =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | readonly Packable[]
  | { readonly [key: string]: Packable };

/** The bytes are not msgpack, or not the part of it that is spoken here. */
export class Malformed extends Error {}

const utf8 = new TextEncoder();
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes of `value`. Throws `TypeError` for what cannot be packed. */
export function pack(value: unknown): Uint8Array<ArrayBuffer> {
  const packer = new Packer();
  packer.add(value, 0);
  return packer.taken();
}

/** The value in `data`, which must be all of it. Throws {@link Malformed}. */
export function unpack(data: Uint8Array): unknown {
  const unpacker = new Unpacker(data);
  const value = unpacker.value(0);
  unpacker.end();
  return value;
}

class Packer {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private at = 0;

  taken(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(0, this.at);
  }

  add(value: unknown, depth: number): void {
    if (depth > MAX_DEPTH) throw new TypeError(`nested deeper than ${MAX_DEPTH}`);
    if (value === null || value === undefined) this.byte(0xc0);
    else if (typeof value === "boolean") this.byte(value ? 0xc3 : 0xc2);
    else if (typeof value === "number") this.number(value);
    else if (typeof value === "string") this.text(value);
    else if (value instanceof Uint8Array) this.binary(value);
    else if (Array.isArray(value)) {
      this.head(value.length, 0x90, 15, null, 0xdc, 0xdd);
      for (const item of value) this.add(item, depth + 1);
    } else if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
      const entries = Object.entries(value);
      this.head(entries.length, 0x80, 15, null, 0xde, 0xdf);
      for (const [key, item] of entries) {
        this.text(key);
        this.add(item, depth + 1);
      }
    } else throw new TypeError(`${typeof value} cannot be packed`);
  }

  private number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      this.fixed(0xcb, 8, (at) => this.view.setFloat64(at, value));
    } else if (value >= 0) this.positive(value);
    else if (value >= -0x20) this.byte(value & 0xff);
    else if (value >= -0x80) this.fixed(0xd0, 1, (at) => this.view.setInt8(at, value));
    else if (value >= -0x8000) this.fixed(0xd1, 2, (at) => this.view.setInt16(at, value));
    else if (value >= -0x80000000) this.fixed(0xd2, 4, (at) => this.view.setInt32(at, value));
    else this.fixed(0xd3, 8, (at) => this.view.setBigInt64(at, BigInt(value)));
  }

  private positive(value: number): void {
    if (value < 0x80) this.byte(value);
    else if (value < 0x100) this.fixed(0xcc, 1, (at) => this.view.setUint8(at, value));
    else if (value < 0x10000) this.fixed(0xcd, 2, (at) => this.view.setUint16(at, value));
    else if (value < 0x100000000) this.fixed(0xce, 4, (at) => this.view.setUint32(at, value));
    else this.fixed(0xcf, 8, (at) => this.view.setBigUint64(at, BigInt(value)));
  }

  private text(value: string): void {
    if (!value.isWellFormed()) throw new TypeError("text with half of a surrogate pair");
    const bytes = utf8.encode(value);
    this.head(bytes.length, 0xa0, 31, 0xd9, 0xda, 0xdb);
    this.raw(bytes);
  }

  private binary(value: Uint8Array): void {
    this.head(value.length, null, -1, 0xc4, 0xc5, 0xc6);
    this.raw(value);
  }

  /** The tag and the length of what follows; `fix` is the tag of up to `most` items. */
  private head(
    length: number,
    fix: number | null,
    most: number,
    tag8: number | null,
    tag16: number,
    tag32: number,
  ): void {
    if (fix !== null && length <= most) this.byte(fix | length);
    else if (tag8 !== null && length < 0x100) {
      this.fixed(tag8, 1, (at) => this.view.setUint8(at, length));
    } else if (length < 0x10000) this.fixed(tag16, 2, (at) => this.view.setUint16(at, length));
    else this.fixed(tag32, 4, (at) => this.view.setUint32(at, length));
  }

  private byte(value: number): void {
    this.reserve(1);
    this.bytes[this.at] = value;
    this.at += 1;
  }

  private fixed(tag: number, size: number, put: (at: number) => void): void {
    this.byte(tag);
    this.reserve(size);
    put(this.at);
    this.at += size;
  }

  private raw(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  private reserve(size: number): void {
    if (this.at + size <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.at + size));
    grown.set(this.bytes);
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}

class Unpacker {
  private readonly view: DataView;
  private at = 0;

  constructor(private readonly data: Uint8Array) {
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  end(): void {
    if (this.at !== this.data.length) throw new Malformed("more than one value");
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) throw new Malformed(`nested deeper than ${MAX_DEPTH}`);
    const tag = this.view.getUint8(this.take(1));
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 0x100;
    if (tag < 0x90) return this.map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.array(tag & 0x0f, depth);
    if (tag < 0xc0) return this.text(tag & 0x1f);
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return tag === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.data.slice(...this.span(this.length(tag - 0xc4)));
      case 0xca:
        return this.view.getFloat32(this.take(4));
      case 0xcb:
        return this.view.getFloat64(this.take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.length(tag - 0xcc);
      case 0xcf:
        return exact(this.view.getBigUint64(this.take(8)));
      case 0xd0:
        return this.view.getInt8(this.take(1));
      case 0xd1:
        return this.view.getInt16(this.take(2));
      case 0xd2:
        return this.view.getInt32(this.take(4));
      case 0xd3:
        return exact(this.view.getBigInt64(this.take(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.length(tag - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.array(this.length(tag - 0xdb), depth);
      case 0xde:
      case 0xdf:
        return this.map(this.length(tag - 0xdd), depth);
      default:
        throw new Malformed(`the tag ${tag}`);
    }
  }

  /** An unsigned integer of 1, 2 or 4 bytes: `power` 0, 1 or 2. */
  private length(power: number): number {
    if (power === 0) return this.view.getUint8(this.take(1));
    return power === 1 ? this.view.getUint16(this.take(2)) : this.view.getUint32(this.take(4));
  }

  private array(count: number, depth: number): unknown[] {
    this.bound(count);
    return Array.from({ length: count }, () => this.value(depth + 1));
  }

  private map(count: number, depth: number): Record<string, unknown> {
    this.bound(2 * count);
    const entries: [string, unknown][] = [];
    for (let left = count; left > 0; left -= 1) {
      const key = this.value(MAX_DEPTH);
      if (typeof key !== "string") throw new Malformed("a key that is no text");
      entries.push([key, this.value(depth + 1)]);
    }
    return Object.fromEntries(entries); // which makes own properties, also of "__proto__"
  }

  private text(length: number): string {
    try {
      return strictUtf8.decode(this.data.subarray(...this.span(length)));
    } catch (error) {
      throw error instanceof Malformed ? error : new Malformed("text that is no UTF-8");
    }
  }

  private span(length: number): [number, number] {
    const start = this.take(length);
    return [start, start + length];
  }

  /** An item takes a byte at least. */
  private bound(count: number): void {
    if (count > this.data.length - this.at) throw new Malformed("longer than its bytes");
  }

  private take(size: number): number {
    const start = this.at;
    if (size > this.data.length - start) throw new Malformed("cut off");
    this.at += size;
    return start;
  }
}

function exact(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Malformed("an integer beyond 2^53 - 1");
  return number;
}
