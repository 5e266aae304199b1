/** One socket to the relay: the greeting, then every room's frames, until it is lost. */

import { isEqual, randomBytes } from "./bytes.js";
import { BadFrame } from "./errors.js";
import * as limits from "./limits.js";
import { decode, encode, Reassembly } from "./protocol/codec.js";
import { SUBPROTOCOL, VERSION, isTransient, type Frame, type FrameOf } from "./protocol/frames.js";
import { Outgoing } from "./protocol/outgoing.js";
import type { RoomSync } from "./roomSync.js";

const WAIT_BEHIND_BYTES = 256 * 1024; // more than this in the socket's own buffer: wait
const LOOK_AGAIN_MS = 10; // a WebSocket does not tell when its buffer drains

/** This attempt is over: why, and the relay's close code if it gave one. */
export class Lost extends Error {
  constructor(
    message: string,
    readonly code: number | null = null,
  ) {
    super(message);
  }
}

/** Who greets the relay. */
export interface Greeting {
  readonly device: Uint8Array;
  readonly connection: number;
  readonly token: string | null;
}

/** One socket. Nothing of a room goes up before the relay has answered with this attempt's nonce. */
export class Link {
  private readonly socket: WebSocket;
  private readonly nonce = randomBytes(16);
  private isWelcome = false;
  private generation: Uint8Array = new Uint8Array(); // of the relay, once we are welcome
  private readonly outgoing = new Outgoing();
  private readonly reassembly = new Reassembly();
  private readonly joining = new Map<number, RoomSync>();
  private readonly waiting = new Set<RoomSync>(); // to be joined once their last JOIN is answered
  private readonly channels = new Map<number, RoomSync>();
  private readonly inOrder = new Map<string, Uint8Array<ArrayBuffer>[]>(); // JOIN and LEAVE of a name
  private readonly timers = new Set<ReturnType<typeof setTimeout>>();
  private readonly casts: { readonly room: RoomSync; readonly payload: Uint8Array }[] = [];
  private requests = 0;
  private writing = false;
  private pings = 0;
  private ponged = 0;
  private finish: (why: Error) => void = () => undefined;
  private isOver = false;

  /** `welcomed` is called once rooms can be joined. */
  constructor(
    url: string,
    private readonly greeting: Greeting,
    private readonly welcomed: () => void,
  ) {
    this.socket = new WebSocket(url, SUBPROTOCOL);
    this.socket.binaryType = "arraybuffer";
    this.outgoing.attach("\0", () => this.nextCast());
  }

  /** Speak until the socket, the relay or `signal` ends it; throws {@link Lost}, always. */
  async run(signal: AbortSignal): Promise<never> {
    const { socket, nonce } = this;
    try {
      return await new Promise<never>((_, reject) => {
        this.finish = reject;
        signal.throwIfAborted();
        signal.addEventListener("abort", () => this.finish(new Lost("this device went offline")));
        socket.onopen = () => {
          socket.send(encode({ kind: "hello", version: VERSION, nonce, ...this.greeting }));
        };
        socket.onclose = (event) => reject(lost(event));
        socket.onmessage = (event) => {
          try {
            this.take(decode(bytesOf(event.data)));
          } catch (error) {
            if (error instanceof BadFrame) this.fail(error);
            else reject(error);
          }
        };
        this.later(limits.CONNECT_TIMEOUT_MS, () => {
          if (!this.isWelcome) this.finish(new Lost("the relay did not answer in time"));
        });
      });
    } finally {
      this.isOver = true;
      socket.onopen = socket.onclose = socket.onmessage = null;
      socket.close(1000);
      for (const timer of this.timers) clearTimeout(timer);
    }
  }

  /** Open a room; if a JOIN of it is under way, after its answer. */
  join(room: RoomSync): void {
    if (room.isStopped) return;
    room.link = this;
    if ([...this.joining.values()].includes(room)) {
      this.waiting.add(room);
      return;
    }
    this.requests += 1;
    this.joining.set(this.requests, room);
    this.postInOrder(room, room.join(this.requests));
  }

  /** Close a room at the relay. */
  leave(room: RoomSync): void {
    this.waiting.delete(room);
    for (const [channel, joined] of this.channels) {
      if (joined !== room) continue;
      this.channels.delete(channel);
      this.postInOrder(room, { kind: "leave", channel });
    }
  }

  /** The relay broke the protocol. */
  fail(error: Error): void {
    this.finish(new Lost(error.message));
  }

  /** Queue a control frame. */
  send(frame: Frame): void {
    this.outgoing.send(encode(frame));
    this.wake();
  }

  /** Tell everybody else in the room; to a socket that is slow the oldest are not sent. */
  cast(room: RoomSync, payload: Uint8Array): void {
    this.casts.push({ room, payload });
    let bytes = this.casts.reduce((sum, cast) => sum + cast.payload.length, 0);
    while (this.casts.length > limits.MAX_WAITING_CASTS || bytes > limits.MAX_WAITING_CAST_BYTES) {
      bytes -= this.casts.shift()?.payload.length ?? 0;
    }
    this.wake();
  }

  /** There may be something to send. */
  wake(): void {
    if (this.writing || this.isOver) return;
    this.writing = true;
    queueMicrotask(() => this.write());
  }

  private write(): void {
    this.writing = false;
    while (!this.isOver && this.socket.bufferedAmount <= WAIT_BEHIND_BYTES) {
      const data = this.outgoing.next();
      if (data === null) return;
      this.socket.send(data);
    }
    this.later(LOOK_AGAIN_MS, () => this.wake());
  }

  private postInOrder(room: RoomSync, frame: Frame): void {
    const waiting = this.inOrder.get(room.name) ?? [];
    waiting.push(encode(frame));
    this.inOrder.set(room.name, waiting);
    this.outgoing.attach(room.name, () => this.nextOf(room));
    this.wake();
  }

  /** The next frame that goes up for a room. */
  private nextOf(room: RoomSync): Uint8Array<ArrayBuffer> | null {
    const next = this.inOrder.get(room.name)?.shift();
    return next ?? this.nextFrom(room, room);
  }

  private nextFrom(
    room: RoomSync,
    source: { nextFrame(): Frame | null },
  ): Uint8Array<ArrayBuffer> | null {
    const frame = this.isOpen(room) ? source.nextFrame() : null;
    return frame === null ? null : encode(frame);
  }

  /** The oldest broadcast that waits; none of a room that is open no more. */
  private nextCast(): Uint8Array<ArrayBuffer> | null {
    for (let cast = this.casts.shift(); cast !== undefined; cast = this.casts.shift()) {
      const { room, payload } = cast;
      if (!this.isOpen(room)) continue;
      return encode({ kind: "cast", channel: room.machine.channel, payload });
    }
    return null;
  }

  private isOpen(room: RoomSync): boolean {
    return [...this.channels.values()].includes(room) && room.machine.phase === "open";
  }

  private take(arrived: Frame): void {
    if (!this.isWelcome) {
      this.greeted(arrived);
      return;
    }
    const frame = arrived.kind === "part" ? this.reassembly.add(arrived) : arrived;
    if (frame === null) return;
    switch (frame.kind) {
      case "pong":
        this.ponged = frame.number;
        return;
      case "joined": {
        const room = this.answered(frame.request);
        if (room === undefined || room.isStopped) {
          this.send({ kind: "leave", channel: frame.channel });
          return;
        }
        this.channels.set(frame.channel, room);
        room.receive(frame, this.generation);
        // Beside its document, however long that is; no room's name begins like this.
        this.outgoing.attach(`\0${room.name}`, () => (room.isNamed ? this.nextFrom(room, room.chat) : null));
        break;
      }
      case "denied":
        this.refused(this.answered(frame.request), frame);
        break;
      case "left": {
        const room = this.channels.get(frame.channel);
        this.channels.delete(frame.channel);
        this.refused(room, frame);
        break;
      }
      case "updates":
      case "difference":
      case "ack":
      case "resync":
      case "refused":
      case "awareness":
      case "broadcast":
        this.channels.get(frame.channel)?.receive(frame, this.generation);
        break;
      case "entered":
      case "outcome":
      case "expected":
      case "messages":
      case "page":
      case "receipts":
      case "members":
      case "changed":
      case "verdicts":
      case "answer":
        this.channels.get(frame.channel)?.chat.receive(frame);
        break;
      default:
        throw new BadFrame(`${frame.kind} is not allowed now`);
    }
    this.wake();
  }

  private greeted(frame: Frame): void {
    if (frame.kind !== "welcome" || !isEqual(frame.nonce, this.nonce)) {
      throw new BadFrame("a WELCOME that does not fit");
    }
    this.isWelcome = true;
    this.generation = frame.generation;
    this.ping();
    this.welcomed();
  }

  private answered(request: number): RoomSync | undefined {
    const room = this.joining.get(request);
    this.joining.delete(request);
    if (room !== undefined && this.waiting.delete(room)) queueMicrotask(() => this.join(room));
    return room;
  }

  private refused(
    room: RoomSync | undefined,
    frame: FrameOf<"denied" | "left">,
  ): void {
    if (room === undefined) return;
    room.receive(frame, this.generation);
    if (isTransient(frame.code)) {
      this.later(limits.BACKOFF_BASE_MS * (0.5 + Math.random()), () => this.join(room));
    }
  }

  private ping(): void {
    this.later(limits.PING_MS, () => {
      this.pings += 1;
      this.send({ kind: "ping", number: this.pings });
      this.later(limits.SILENCE_MS, () => {
        if (this.ponged < this.pings) this.finish(new Lost("the relay did not answer in time"));
        else this.ping();
      });
    });
  }

  private later(delayMs: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (!this.isOver) act();
    }, delayMs);
    this.timers.add(timer);
  }
}

function lost(event: CloseEvent): Lost {
  if (event.code === 1006) return new Lost("the connection was cut");
  return new Lost(event.reason || `closed with ${event.code}`, event.code);
}

function bytesOf(data: unknown): Uint8Array {
  if (!(data instanceof ArrayBuffer)) throw new BadFrame("frames are binary");
  return new Uint8Array(data);
}
