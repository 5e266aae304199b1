/** What a relay may say on a socket. */

import assert from "node:assert/strict";
import test from "node:test";

import { Link } from "../src/link.js";
import { EXAMPLES, FROM_DEVICE } from "./examples.js";

const RUN = new Uint8Array(16).fill(7);

/** Why a link ends on which this frame comes; null if it does not. */
async function endOf(data: Uint8Array): Promise<string | null> {
  const socket = { bufferedAmount: 0, send: () => undefined, close: () => undefined };
  const stop = new AbortController();
  const running = new Link(socket as unknown as WebSocket, RUN).run(stop.signal);
  const receive = (socket as unknown as { onmessage: (event: { data: unknown }) => void }).onmessage;
  receive({ data: data.slice().buffer });
  stop.abort();
  const { message } = await running.catch((error: Error) => error);
  return message === "this device went offline" ? null : message;
}

test("what only a device may send ends the connection, and so does a second WELCOME", async () => {
  assert.ok(FROM_DEVICE.length > 10);
  for (const { kind, data } of EXAMPLES) {
    const isWrong = FROM_DEVICE.includes(kind) || kind === "welcome";
    assert.equal(await endOf(data), isWrong ? `${kind} is not allowed now` : null, kind);
  }
});

test("what is no frame ends the connection", async () => {
  assert.equal(await endOf(Uint8Array.of(0x91, 99)), "a frame with tag 99");
  assert.equal(await endOf(Uint8Array.of(0xc1)), "a frame with the tag 193");
});
