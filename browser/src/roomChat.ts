/**
 * How one room's chat comes level with the relay: in the leading tab, one step after the other, each
 * of them one transaction. What came meanwhile is the next step.
 */

import { isEqual } from "./bytes.js";
import type { Chat } from "./chat.js";
import { BadFrame, Closed, CollabError } from "./errors.js";
import { ChatSync, type ChatFrame } from "./protocol/chatSync.js";
import { unpacked } from "./protocol/codec.js";
import type { Frame } from "./protocol/frames.js";
import { unpackMembers } from "./protocol/members.js";
import {
  checkOutcome,
  isForNow,
  unpackOutcomes,
  unpackReceipts,
  unpackVerdicts,
  uuid,
} from "./protocol/messages.js";
import { Requests, type Answer } from "./protocol/requests.js";
import { otherUser, type ChatTransaction } from "./storage/chatRows.js";
import * as messages from "./storage/messages.js";
import type { Wish } from "./tabs/hints.js";

const TRY_AGAIN_MS = 1_000;
const LOOK_AGAIN_MS = 60_000;

/** What a room's chat needs of its room. */
export interface Uplink {
  /** There may be something to send. */
  wake(): void;
  /** Something of how it stands changed. */
  changed(): void;
  /** Open the room again on this connection. */
  rejoin(): void;
  /** The relay broke the protocol: end the connection. */
  fail(error: BadFrame): void;
}

export class RoomChat {
  private failure: CollabError | null = null;
  private machine: ChatSync | null = null;
  private frames: ChatFrame[] = [];
  private isRunning = false;
  private runAgain = false;
  private isOver = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private seen = -1; // the last change that a step has seen
  private readonly unwatch: () => void;
  private readonly requests = new Requests();

  constructor(
    private readonly chat: Chat,
    private readonly uplink: Uplink,
  ) {
    this.unwatch = chat.watchers.add((row) => {
      if (!this.isRunning && row.version > this.seen) this.moved();
    });
    this.moved();
  }

  /** Why the chat does not go on. */
  get error(): CollabError | null {
    return this.machine?.phase === "closed" ? otherUser(this.chat.row) : this.failure;
  }

  /** Whether messages can go up now. */
  get isOpen(): boolean {
    return this.machine?.isOpen ?? false;
  }

  /** Whether all that was in the log at entering is here. */
  get isCaughtUp(): boolean {
    const { machine } = this;
    return machine !== null && machine.isOpen && machine.standing.seq >= machine.head;
  }

  joined(channel: number, generation: Uint8Array): void {
    this.detach();
    this.machine = new ChatSync(channel, generation, this.chat.row, this.requests);
    this.moved();
  }

  /** The connection is gone, or the room is left or joined again. */
  detach(): void {
    this.machine = null;
    this.frames = [];
    this.requests.detach();
  }

  end(): void {
    this.isOver = true;
    this.unwatch();
    clearTimeout(this.timer);
    this.detach();
  }

  receive(frame: ChatFrame): void {
    this.frames.push(frame);
    this.moved();
  }

  /** The next frame that goes up; null while a step is under way. */
  nextFrame(): Frame | null {
    return this.isRunning ? null : (this.machine?.nextFrame(this.chat.tab.clock.now()) ?? null);
  }

  /** Ask the relay; null: it cannot be asked now, or the joining ended before it answered. */
  async ask(wish: Wish): Promise<Answer | null> {
    const { machine } = this;
    if (machine === null || !this.isOpen) return null;
    if (wish.kind === "fetch" && wish.high > this.chat.row.seq) return null;
    const { channel } = machine;
    const answer = this.requests.ask((request) =>
      wish.kind === "fetch" ? machine.fetch(request, wish) : { ...wish, channel, request },
    );
    this.uplink.wake();
    return answer;
  }

  /** There is something to be done: a frame, more in the store, or a time has come. */
  private moved(): void {
    this.runAgain = true;
    if (!this.isRunning && !this.isOver) void this.run();
  }

  private async run(): Promise<void> {
    this.isRunning = true;
    while ((this.runAgain || this.chat.row.version > this.seen) && !this.isOver) {
      this.runAgain = false;
      const { frames, machine } = this;
      this.frames = [];
      try {
        await this.step(machine, frames);
        this.failure = null;
      } catch (error) {
        if (error instanceof BadFrame) {
          this.detach();
          this.uplink.fail(error);
        } else this.failed(error as CollabError);
      }
    }
    this.isRunning = false;
    this.uplink.wake();
    this.uplink.changed();
  }

  private async step(machine: ChatSync | null, frames: readonly ChatFrame[]): Promise<void> {
    const answers: [request: number, answer: Answer][] = [];
    const stored = await this.chat.change(async (work) => {
      for (const frame of frames) {
        if (machine !== null) await this.take(machine, frame, work, answers);
      }
      await messages.expire(work);
      if (machine?.phase === "open") await messages.bindNext(work);
      const expiry = await messages.nextExpiry(work);
      if (expiry < Infinity) await work.storeTime();
      return { slots: await work.bound(), expiry, awaited: work.awaited };
    });
    this.seen = stored.chat.version;
    machine?.stands(stored.chat, stored.result.slots);
    machine?.awaits(stored.result.awaited);
    for (const [request, answer] of answers) this.requests.answered(request, answer);
    clearTimeout(this.timer);
    if (this.isOver) return;
    const now = this.chat.tab.clock.now();
    const deadline = Math.min(machine?.deadline(now) ?? Infinity, stored.result.expiry);
    if (deadline < Infinity) {
      const wait = Math.min(Math.max(0, deadline - now), LOOK_AGAIN_MS);
      this.timer = setTimeout(() => this.moved(), wait);
    }
  }

  private failed(error: CollabError): void {
    this.failure = error;
    this.seen = this.chat.row.version;
    // What this joining knew may be half done; all that counts is in the store.
    const wasJoined = this.machine !== null;
    this.detach();
    clearTimeout(this.timer);
    if (this.isOver || error instanceof Closed) return;
    this.timer = setTimeout(() => (wasJoined ? this.uplink.rejoin() : this.moved()), TRY_AGAIN_MS);
  }

  private async take(
    machine: ChatSync,
    frame: ChatFrame,
    work: ChatTransaction,
    answers: [request: number, answer: Answer][],
  ): Promise<void> {
    const { now } = work;
    if (machine.phase === "closed") return;
    if (!machine.isPlaced && frame.kind !== "entered") {
      throw new BadFrame(`${frame.kind} before ENTERED`);
    }
    const isInLane =
      machine.phase === "open" && isEqual(machine.standing.laneEpoch, work.chat.laneEpoch);
    switch (frame.kind) {
      case "entered": {
        machine.checkEntered(frame);
        if (!messages.isOwner(work, frame.user)) {
          machine.phase = "closed";
          return;
        }
        const outcomes = unpackOutcomes(frame.outcomes);
        for (const one of outcomes) {
          checkOutcome(one.code, one.seq);
          if (isForNow(one.code)) throw new BadFrame("an outcome that does not fit");
        }
        const goesOn = await messages.resolve(work, frame.laneSeq, outcomes);
        await messages.place(work, { ...frame, generation: machine.run });
        machine.entered(frame, goesOn, now);
        break;
      }
      case "outcome": {
        checkOutcome(frame.code, frame.seq);
        if (!isInLane) return; // ENTERED tells of it
        await this.outcome(machine, frame, work);
        break;
      }
      case "expected":
        if (!isInLane) return;
        machine.stands(work.chat, await work.bound());
        if (machine.expected(frame.laneSeq, now)) return;
        await messages.beginLane(work, frame.laneSeq > work.chat.bound);
        machine.renewed(now);
        break;
      case "messages": {
        const run = machine.messages(frame, work.chat.seq);
        if (run !== null) await messages.receive(work, run, machine.run, frame.upto);
        break;
      }
      case "page": {
        const page = machine.page(frame);
        if (page === null) return;
        await messages.fill(work, page.run, page.low, page.high, frame.oldest);
        answers.push([frame.request, { code: "done", reason: "" }]);
        break;
      }
      case "receipts": {
        const receipts = unpackReceipts(frame.data);
        const mine = receipts.find((one) => one.user === machine.user)?.readUpto ?? 0;
        machine.heard(mine);
        const others = receipts.filter((one) => one.user !== machine.user);
        await messages.takeReceipts(work, others, mine);
        break;
      }
      case "members":
        messages.takeMembers(work, unpackMembers(frame.data), frame.whole);
        break;
      case "verdicts":
        await messages.takeVerdicts(work, unpackVerdicts(frame.data));
        break;
      case "answer": {
        const { request, code, reason, payload } = frame;
        answers.push([request, { code, reason, value: code === "done" ? unpacked(payload) : null }]);
        break;
      }
      case "changed":
        answers.push([frame.request, frame]);
        break;
    }
  }

  private async outcome(
    machine: ChatSync,
    frame: Extract<ChatFrame, { kind: "outcome" }>,
    work: ChatTransaction,
  ): Promise<void> {
    const { laneSeq, code } = frame;
    const row = (await work.bound()).find((one) => one.slot === laneSeq);
    if (row === undefined) return; // decided before
    const id = uuid(frame.messageId);
    if (!messages.isOf(row, id, code)) {
      if (!machine.isSent(laneSeq)) return; // of an earlier lane
      await messages.beginLane(work, true);
      machine.renewed(work.now);
    } else if (isForNow(code)) {
      const isCounted = code === "busy" && row.givingUp === null;
      const refusals = isCounted ? await messages.countRefusal(work, row) : row.refusals;
      machine.refusedForNow(laneSeq, frame.retryAfterMs, refusals, work.now, Math.random());
    } else await messages.decide(work, row, code, frame.seq, frame.reason);
  }
}
