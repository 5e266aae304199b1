/** A socket whose other end is the test. Not a test. */

import assert from "node:assert/strict";

import { Link } from "../src/link.js";
import { decode, encode } from "../src/protocol/codec.js";
import type { Frame } from "../src/protocol/frames.js";

const ID = new Uint8Array(16).fill(7);
export const GREETING = { device: ID, connection: 1, token: null };

export class FakeSocket {
  static last: FakeSocket;
  readonly bufferedAmount = 0;
  readonly sent: Uint8Array[] = [];
  isClosed = false;
  onopen: () => void = () => assert.fail();
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

  receive(frame: Frame | Uint8Array): void {
    const data = frame instanceof Uint8Array ? frame : encode(frame);
    this.onmessage({ data: data.slice().buffer });
  }

  /** The relay's answer to the HELLO of this attempt. */
  get welcome(): Frame {
    const hello = decode(this.sent[0]!);
    assert.ok(hello.kind === "hello");
    return { kind: "welcome", version: 1, nonce: hello.nonce, relay: ID, generation: ID };
  }
}
globalThis.WebSocket = FakeSocket as unknown as typeof WebSocket;

/** A link that a relay has welcomed; `end` it. */
export async function welcomed(): Promise<{ link: Link; socket: FakeSocket; end: () => Promise<void> }> {
  const stop = new AbortController();
  const link = new Link("", GREETING, () => undefined);
  const ended = assert.rejects(link.run(stop.signal));
  const socket = FakeSocket.last;
  socket.onopen();
  socket.receive(socket.welcome);
  return { link, socket, end: () => (stop.abort(), ended) };
}
