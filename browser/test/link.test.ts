/** What a relay may say on a socket. */

import assert from "node:assert/strict";
import test from "node:test";

import { Link } from "../src/link.js";
import { EXAMPLES, FROM_DEVICE } from "./examples.js";
import { FakeSocket, GREETING } from "./fakeSocket.js";

/** Why an attempt ends on which this comes first; "welcome" stands for the relay's answer. */
async function endOf(...received: (Uint8Array | "welcome")[]): Promise<string> {
  const stop = new AbortController();
  let isWelcome = false;
  const running = new Link("", GREETING, () => (isWelcome = true)).run(stop.signal);
  const socket = FakeSocket.last;
  socket.onopen();
  for (const data of received) socket.receive(data === "welcome" ? socket.welcome : data);
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
    assert.equal(await endOf(data), "a WELCOME that does not fit", kind);
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
