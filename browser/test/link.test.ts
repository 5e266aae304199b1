/** What a relay may say on a socket. */

import assert from "node:assert/strict";
import test from "node:test";

import { Link } from "../src/link.js";
import { decode, encode } from "../src/protocol/codec.js";
import { EXAMPLES, FROM_DEVICE } from "./examples.js";

const ID = new Uint8Array(16).fill(7);
const GREETING = { device: ID, connection: 1, token: null };

/** A socket whose other end is the test. */
class FakeSocket {
  static last: FakeSocket;
  readonly bufferedAmount = 0;
  readonly sent: Uint8Array[] = [];
  isClosed = false;
  onopen: () => void = assert.fail;
  onmessage: (event: { data: unknown }) => void = () => assert.fail();

  constructor() {
    FakeSocket.last = this;
  }

  send(data: Uint8Array): void {
    this.sent.push(data);
  }

  close(): void {
    this.isClosed = true;
  }

  receive(data: Uint8Array): void {
    this.onmessage({ data: data.slice().buffer });
  }
}
globalThis.WebSocket = FakeSocket as unknown as typeof WebSocket;

/** Why an attempt ends on which this comes first; "welcome" stands for the relay's answer. */
async function endOf(...received: (Uint8Array | "welcome")[]): Promise<string> {
  const stop = new AbortController();
  let isWelcome = false;
  const running = new Link("", GREETING, () => (isWelcome = true)).run(stop.signal);
  const socket = FakeSocket.last;
  socket.onopen();
  const hello = decode(socket.sent[0]!);
  assert.ok(hello?.kind === "hello");
  const { nonce } = hello;
  const answer = encode({ kind: "welcome", version: 1, nonce, relay: ID, generation: ID });
  for (const data of received) socket.receive(data === "welcome" ? answer : data);
  stop.abort();
  const { message } = await running.catch((error: Error) => error);
  assert.ok(socket.isClosed);
  assert.equal(isWelcome, received[0] === "welcome");
  return message;
}

const STOPPED = "this device went offline";

test("nothing but WELCOME with this attempt's nonce makes the relay believed", async () => {
  assert.equal(await endOf(), STOPPED);
  assert.equal(await endOf("welcome"), STOPPED);
  for (const { kind, data } of EXAMPLES) {
    assert.equal(await endOf(data), "the relay did not echo this attempt's nonce", kind);
  }
});

test("what only a device may send ends the connection, and so does a second WELCOME", async () => {
  assert.ok(FROM_DEVICE.length > 10);
  for (const { kind, data } of EXAMPLES) {
    const isWrong = FROM_DEVICE.includes(kind) || kind === "welcome";
    const end = await endOf("welcome", data);
    assert.equal(end, isWrong ? `${kind} is not allowed now` : STOPPED, kind);
  }
});

test("what is no frame ends the connection", async () => {
  assert.equal(await endOf("welcome", Uint8Array.of(0x91, 99)), "a frame with tag 99");
  assert.equal(await endOf("welcome", Uint8Array.of(0xc1)), "a frame with the tag 193");
});

test("an attempt that is called off before it began ends at once", async () => {
  const link = new Link("", GREETING, assert.fail);
  await assert.rejects(link.run(AbortSignal.abort()));
  assert.ok(FakeSocket.last.isClosed);
});
