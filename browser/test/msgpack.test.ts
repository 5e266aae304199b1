import assert from "node:assert/strict";
import test from "node:test";

import { Decoder, Encoder } from "@msgpack/msgpack";

import { Malformed, pack, unpack } from "../src/protocol/msgpack.js";

const SEED = 20261127;

/** mulberry32: numbers in [0, 1), the same for the same seed. */
function chances(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function randomValue(chance: () => number, depth = 0): unknown {
  const count = Math.floor(chance() * (depth > 3 ? 3 : 20));
  switch (Math.floor(chance() * (depth > 3 ? 6 : 8))) {
    case 0:
      return null;
    case 1:
      return chance() < 0.5;
    case 2:
      return Math.floor((chance() - 0.5) * 2 ** Math.floor(chance() * 54));
    case 3:
      return chance() * 1000 - 500;
    case 4:
      return "你好📊é a".repeat(Math.floor(chance() * 30));
    case 5:
      return Uint8Array.from({ length: Math.floor(chance() * 300) }, () => chance() * 256);
    case 6:
      return Array.from({ length: count }, () => randomValue(chance, depth + 1));
    default:
      return Object.fromEntries(
        Array.from({ length: count }, (_, index) => [`k${index}`, randomValue(chance, depth + 1)]),
      );
  }
}

const EDGES = [
  0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, Number.MAX_SAFE_INTEGER,
  -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, Number.MIN_SAFE_INTEGER,
  0.5, -1e300, "", "x".repeat(31), "x".repeat(32), "x".repeat(255), "x".repeat(256),
  "x".repeat(65536), new Uint8Array(255), new Uint8Array(256), new Uint8Array(65536),
  Array.from({ length: 15 }, () => 1), Array.from({ length: 16 }, () => 1),
  Array.from({ length: 65536 }, () => 1), {}, { "": 1 },
]; // prettier-ignore

test("packs as the reference does, and reads what it packs", () => {
  const chance = chances(SEED);
  const values = [...EDGES, ...Array.from({ length: 2000 }, () => randomValue(chance))];
  for (const value of values) {
    const packed = pack(value);
    assert.deepEqual(packed, new Encoder().encode(value).slice(), `seed ${SEED}`);
    assert.deepEqual(unpack(packed), new Decoder().decode(packed), `seed ${SEED}`);
  }
});

test("whatever the bytes, it reads them or says that they are malformed", () => {
  const chance = chances(SEED + 1);
  let read = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const bytes = pack(randomValue(chance, 2));
    const flips = Math.floor(chance() * 4);
    for (let flip = 0; flip < flips; flip += 1) {
      bytes[Math.floor(chance() * bytes.length)] = Math.floor(chance() * 256);
    }
    try {
      unpack(bytes.subarray(0, Math.ceil(chance() * bytes.length)));
      read += 1;
    } catch (error) {
      assert.ok(error instanceof Malformed, `seed ${SEED + 1}: ${String(error)}`);
    }
  }
  assert.ok(read > 1000);
});

test("a length beyond the bytes makes nothing of that length", () => {
  for (const head of [[0xdd, 255, 255, 255, 255], [0xc6, 255, 255, 255, 255], [0xdf, 255, 255, 255, 255]]) {
    assert.throws(() => unpack(Uint8Array.from(head)), Malformed);
  }
});

test("nesting is bounded, both ways", () => {
  assert.throws(() => unpack(new Uint8Array(100_000).fill(0x91)), Malformed);
  let nested: unknown = 1;
  for (let depth = 0; depth < 100; depth += 1) nested = [nested];
  assert.throws(() => pack(nested), TypeError);
});

test("what no peer could read is not packed", () => {
  for (const value of ["\ud800", new Map(), () => 1, Symbol("x"), 10n]) {
    assert.throws(() => pack(value), TypeError);
  }
});

test("a key named __proto__ is a key", () => {
  const read = unpack(pack({ a: 1 })) as object;
  const hostile = unpack(Uint8Array.of(0x81, 0xa9, ...new TextEncoder().encode("__proto__"), 0x80));
  assert.deepEqual(Object.keys(hostile as object), ["__proto__"]);
  assert.equal(Object.getPrototypeOf(read), Object.prototype);
});
