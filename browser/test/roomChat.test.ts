/** Two tabs, whichever of them leads, and a relay whose connection breaks at any time. */

import assert from "node:assert/strict";
import test from "node:test";

import { hex } from "../src/bytes.js";
import type { Chat, ChatEvent } from "../src/chat.js";
import { QuotaExceeded, type BadFrame } from "../src/errors.js";
import type { ChatFrame } from "../src/protocol/chatSync.js";
import { packRows } from "../src/protocol/codec.js";
import type { Frame, FrameOf } from "../src/protocol/frames.js";
import { idBytes, uuid, type LoggedMessage } from "../src/protocol/messages.js";
import { RoomChat } from "../src/roomChat.js";
import type { Wish } from "../src/tabs/hints.js";
import { dice } from "./dice.js";
import { logged, Store } from "./store.js";

const RUN = new Uint8Array(16).fill(7);

type Outcome = [laneSeq: number, id: Uint8Array, code: string, seq: number];

/** A relay of one room: what PROTOCOL.md says of lanes and of the log, and no more. */
class Relay {
  readonly log: LoggedMessage[] = [];
  private readonly lanes = new Map<string, Outcome[]>();
  private lane: Outcome[] = [];
  private told = -1; // the seq up to which this connection has MESSAGES; -1: not entered
  private isExpecting = false;

  constructor(private readonly roll: (below: number) => number) {}

  answer(frame: Frame): ChatFrame[] {
    switch (frame.kind) {
      case "enter":
        return this.enter(frame);
      case "send":
      case "skip":
        return this.take(frame);
      case "fetch": {
        const upto = Math.min(frame.before - 1, this.log.length);
        const after = Math.max(frame.after, frame.newest ? upto - 100 : 0);
        const run = this.log.slice(after, Math.min(upto, after + 100));
        const range = { after, upto: after + run.length, oldest: 1 };
        return [{ kind: "page", channel: 3, request: frame.request, ...range, data: rows(run) }];
      }
      default:
        return [];
    }
  }

  /** What the log has beyond what was told. */
  tail(): ChatFrame[] {
    const frames: ChatFrame[] = [];
    while (this.told >= 0 && this.told < this.log.length) {
      const after = this.told;
      const run = this.log.slice(after, after + 100);
      this.told = after + run.length;
      frames.push({ kind: "messages", channel: 3, after, upto: this.told, data: rows(run) });
    }
    return frames;
  }

  disconnected(): void {
    this.told = -1;
  }

  private enter(frame: FrameOf<"enter">): ChatFrame[] {
    const name = hex(frame.laneEpoch);
    this.lane = this.lanes.get(name) ?? [];
    this.lanes.set(name, this.lane);
    this.isExpecting = false;
    const head = this.log.length;
    const good = frame.seq === 0 || (hex(frame.generation) === hex(RUN) && frame.seq <= head);
    const after = good && head - frame.seq <= 300 ? frame.seq : Math.max(0, head - 50);
    this.told = after;
    return [{
      kind: "entered", channel: 3, laneSeq: this.lane.length, outcomes: packRows(this.lane.slice(-16)),
      good, after, head, oldest: 1, readUpto: 0, unread: 0, user: "ada",
    }];
  }

  private take(frame: FrameOf<"send"> | FrameOf<"skip">): ChatFrame[] {
    const { laneSeq, messageId } = frame;
    const due = this.lane.length + 1;
    const [, holds = messageId, code = "", seq = 0] = this.lane[laneSeq - 1] ?? [];
    if (code !== "") return [outcome(laneSeq, holds, code, seq)];
    if (laneSeq > due) {
      const wasExpecting = this.isExpecting;
      this.isExpecting = true;
      return wasExpecting ? [] : [{ kind: "expected", channel: 3, laneSeq: due }];
    }
    if (frame.kind === "send" && this.roll(12) === 0) {
      this.isExpecting = true;
      return [outcome(laneSeq, messageId, "rate_limited", 0)];
    }
    this.isExpecting = false;
    const [became, at] = frame.kind === "skip" ? ["skipped", 0] : this.judge(frame);
    this.lane.push([laneSeq, messageId, became, at]);
    return [outcome(laneSeq, messageId, became, at)];
  }

  private judge(frame: FrameOf<"send">): [string, number] {
    const name = uuid(frame.messageId);
    const known = this.log.find((one) => one.id === name);
    if (known !== undefined) return ["accepted", known.seq];
    const { body, meta } = frame;
    if (body.includes("forbidden")) return ["forbidden", 0];
    const seq = this.log.length + 1;
    this.log.push(logged(seq, { id: name, sender: "ada", body, meta }));
    return ["accepted", seq];
  }
}

function outcome(laneSeq: number, messageId: Uint8Array, code: string, seq: number): ChatFrame {
  const rest = { retryAfterMs: seq ? 0 : 1, reason: "" };
  return { kind: "outcome", channel: 3, laneSeq, messageId, code, seq, ...rest };
}

function rows(run: readonly LoggedMessage[]): Uint8Array {
  return packRows(
    run.map(({ seq, id, sender, body, meta, sentAt, acceptedAt, kind, verdict }) => [
      seq, idBytes(id), sender, body, meta, sentAt, acceptedAt, kind, verdict,
    ]),
  );
}

/** Whoever leads, and the connection. */
class Leader {
  readonly faults: BadFrame[] = [];
  chat: RoomChat;
  rejoins = 0;
  private coming: ChatFrame[] = [];

  constructor(
    tab: Chat,
    readonly relay: Relay,
    private readonly store: Store,
  ) {
    this.chat = this.lead(tab);
  }

  lead(tab: Chat): RoomChat {
    this.chat?.end();
    this.cut();
    return (this.chat = new RoomChat(tab, {
      wake: () => undefined,
      changed: () => undefined,
      rejoin: () => (this.rejoins += 1),
      fail: (error) => this.faults.push(error),
    }));
  }

  cut(): void {
    this.relay.disconnected();
    this.coming = [];
    this.chat?.detach();
  }

  async join(): Promise<void> {
    this.cut();
    this.chat.joined(3, RUN);
    await this.settled();
  }

  async settled(): Promise<void> {
    const { chat } = this;
    while ((chat as unknown as { isRunning: boolean }).isRunning) await new Promise(setImmediate);
  }

  /** What goes up now; its answers are on their way. */
  up(): number {
    let count = 0;
    for (let frame = this.chat.nextFrame(); frame !== null; frame = this.chat.nextFrame()) {
      this.coming.push(...this.relay.answer(frame), ...this.relay.tail());
      count += 1;
    }
    return count;
  }

  /** Let some of what is on its way arrive. */
  async down(count: number): Promise<void> {
    for (const frame of this.coming.splice(0, count)) this.chat.receive(frame);
    await this.settled();
  }

  async untilLevel(tab: Chat): Promise<void> {
    for (let turns = 0; !this.chat.isCaughtUp || tab.pending > 0; turns += 1) {
      assert.ok(turns < 1_000, "it never came level");
      this.store.now += 1_000;
      await tab.catchUp();
      this.up();
      await this.down(Infinity);
    }
  }
}

for (let seed = 1; seed <= 20; seed += 1) {
  test(`whatever breaks, every message is in the log once and in order (seed ${seed})`, async () => {
    const roll = dice(seed);
    const store = await Store.open();
    const tabs = [await store.open(), await store.open()];
    const leader = new Leader(tabs[0]!, new Relay(roll), store);
    const sent: string[][] = [[], []];
    const cancelled = new Set<string>();
    await leader.join();
    for (let step = 0; step < 120; step += 1) {
      const at = roll(2);
      const tab = tabs[at]!;
      const act = roll(10);
      if (act < 4) {
        const body = `tab ${at}: ${sent[at]!.length}${roll(15) === 0 ? " forbidden" : ""}`;
        const message = await tab.send(body, { ttlMs: null });
        sent[at]!.push(body);
        if (roll(12) === 0) {
          await tab.cancel(message);
          cancelled.add(body);
        }
      } else if (act < 6) leader.up();
      else if (act < 8) await leader.down(1 + roll(4));
      else if (act === 8) await leader.join();
      else if (roll(3) === 0) {
        leader.lead(tab);
        await leader.join();
      }
      store.now += roll(3);
      await tabs[roll(2)]!.catchUp();
      await leader.settled();
    }
    await leader.join();
    await leader.untilLevel(tabs[0]!);
    const bodies = leader.relay.log.map((message) => message.body);
    for (const each of sent) {
      const isOurs = (body: string): boolean => each.includes(body);
      const expected = each.filter((body) => !body.includes("forbidden") && !cancelled.has(body));
      const found = bodies.filter(isOurs);
      assert.deepEqual(found.filter((body) => !cancelled.has(body)), expected);
      assert.equal(new Set(found).size, found.length);
      assert.deepEqual(found, each.filter((body) => found.includes(body)), "in the order of sending");
    }
    const inLog = (await store.rows()).filter((row) => row.seq !== null);
    assert.deepEqual(inLog.map((row) => [row.seq, row.body]), bodies.map((body, at2) => [at2 + 1, body]));
    const ends = (await store.rows()).filter((row) => row.seq === null).map((row) => row.state);
    assert.ok(ends.every((state) => state === "rejected" || state === "cancelled"), ends.join());
    assert.deepEqual(await store.outbox(), { messages: 0, bytes: 0 });
    assert.deepEqual(leader.faults, []);
    leader.chat.end();
  });
}

test("a copy of a store goes on in a lane of its own, says so, and doubles nothing", async () => {
  const relay = new Relay(() => 1);
  const [store, copy] = [await Store.open(), await Store.open()];
  const [ours, theirs] = [await store.open(), await copy.open()];
  await copy.change(async (work) => work.set({ laneEpoch: ours.row.laneEpoch }));
  for (const [tab, at, body] of [[ours, store, "one"], [theirs, copy, "two"]] as const) {
    const events: ChatEvent[] = [];
    tab.observe((event) => events.push(event));
    const leader = new Leader(tab, relay, at);
    await tab.send(body);
    await leader.join();
    await leader.untilLevel(tab);
    assert.equal(events.filter(({ type }) => type === "StoreRolledBack").length, body === "two" ? 1 : 0);
    leader.chat.end();
  }
  assert.deepEqual(relay.log.map((message) => message.body), ["one", "two"]);
});

test("a relay that was put back has another history: it gets ours again, and the rest is kept", async () => {
  const store = await Store.open();
  const tab = await store.open();
  const first = new Leader(tab, new Relay(() => 1), store);
  await first.join();
  for (const body of ["one", "two", "three"]) await tab.send(body);
  await first.untilLevel(tab);
  const events: string[] = [];
  tab.observe(({ type }) => events.push(type));
  first.chat.end();
  const emptied = new Leader(tab, new Relay(() => 1), store);
  await emptied.join();
  await emptied.untilLevel(tab);
  assert.deepEqual(emptied.relay.log.map((message) => message.body), ["one", "two", "three"]);
  assert.deepEqual((await store.rows()).map((row) => [row.seq, row.state]), [
    [1, "accepted"], [2, "accepted"], [3, "accepted"],
  ]);
  assert.ok(events.includes("MessagesReplaced"));
  emptied.chat.end();
});

test("a step in which the relay breaks the protocol stores nothing, and ends the connection", async () => {
  const store = await Store.open();
  const tab = await store.open();
  const leader = new Leader(tab, new Relay(() => 1), store);
  await leader.join();
  await leader.untilLevel(tab);
  for (const [after, seq] of [[0, 1], [1, 2], [3, 4]] as const) {
    const data = rows([logged(seq)]);
    leader.chat.receive({ kind: "messages", channel: 3, after, upto: seq, data });
  }
  await leader.settled(); // the first was a step of its own, the others came meanwhile
  assert.equal(leader.faults.length, 1);
  assert.deepEqual([(await store.chat()).seq, await store.states()], [1, ["message 1: accepted"]]);
  leader.chat.end();
});

test("nothing goes up while a step is on its way to the disk", async () => {
  const store = await Store.open();
  const tab = await store.open();
  const leader = new Leader(tab, new Relay(() => 1), store);
  await tab.send("one");
  await leader.join();
  const enter = leader.chat.nextFrame();
  for (const frame of leader.relay.answer(enter!)) leader.chat.receive(frame);
  for (let look = 0; (leader.chat as unknown as { isRunning: boolean }).isRunning; look += 1) {
    assert.equal(leader.chat.nextFrame(), null);
    await new Promise(setImmediate);
  }
  assert.equal(leader.chat.nextFrame()?.kind, "send"); // its slot is bound on the disk
  assert.deepEqual(await store.states(), ["one: sending"]);
  leader.chat.end();
});

test("running time is stored while something waits by it, so that closing the browser stops no clock", async () => {
  const store = await Store.open();
  const tab = await store.open();
  const leader = new Leader(tab, new Relay(() => 1), store);
  await leader.settled();
  const message = await tab.send("soon", { ttlMs: 3_600_000 });
  await leader.settled();
  store.now += 3_599_000;
  leader.lead(tab);
  await leader.settled();
  const running = store.clock.now();
  const stored = await store.db.read(["clock"], (tx) => tx.clock.get("clock"));
  assert.equal(stored?.running, running);
  store.now += 1_000;
  leader.lead(tab);
  await leader.settled();
  assert.equal(message.state, "expired");
  leader.chat.end();
});

test("while the store refuses nothing goes up; then the room is joined again and all goes on", async () => {
  const store = await Store.open();
  const tab = await store.open();
  const leader = new Leader(tab, new Relay(() => 1), store);
  await leader.join();
  await leader.untilLevel(tab);
  const write = store.db.write.bind(store.db);
  store.db.write = () => Promise.reject(new QuotaExceeded("full"));
  await assert.rejects(tab.send("refused"), QuotaExceeded);
  leader.chat.receive({ kind: "messages", channel: 3, after: 0, upto: 1, data: rows([logged(1)]) });
  await leader.settled();
  assert.ok(leader.chat.error instanceof QuotaExceeded);
  assert.deepEqual([leader.chat.isOpen, leader.up()], [false, 0]);
  store.db.write = write;
  while (leader.rejoins === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  await tab.send("taken");
  await leader.join();
  await leader.untilLevel(tab);
  assert.equal(leader.chat.error, null);
  assert.deepEqual(leader.relay.log.map((message) => message.body), ["taken"]);
  leader.chat.end();
});

test("history fetches what is missing, page by page, and says what it could not get", async () => {
  const store = await Store.open();
  const relay = new Relay(() => 1);
  for (let seq = 1; seq <= 420; seq += 1) relay.log.push(logged(seq));
  const tab = await store.open();
  const leader = new Leader(tab, relay, store);
  const fetching: Promise<unknown>[] = [];
  (tab as unknown as { tab: { ask: unknown } }).tab.ask = (wish: Wish) => {
    const answer = leader.chat.ask(wish);
    leader.up();
    void leader.down(Infinity);
    fetching.push(answer);
    return answer;
  };
  await leader.join();
  await leader.untilLevel(tab);
  assert.deepEqual(tab.row.gaps, [{ low: 1, high: 370, lost: false }]);
  const seqs = async (options: Parameters<Chat["history"]>[0]): Promise<(number | null)[]> =>
    (await tab.history(options)).messages.map((message) => message.seq);
  const range = (low: number, high: number): number[] =>
    Array.from({ length: high - low + 1 }, (_, at) => low + at);
  assert.deepEqual(await seqs({ limit: 50 }), range(371, 420));
  assert.equal(fetching.length, 0);
  assert.deepEqual(await seqs({ limit: 150, before: 371 }), range(221, 370));
  assert.equal(fetching.length, 2);
  assert.deepEqual(await seqs({ limit: 10, after: 0 }), range(1, 10));
  leader.cut();
  const { messages, gaps } = await tab.history({ limit: 1_000 });
  assert.deepEqual(gaps, [{ low: 101, high: 170, lost: false }]);
  assert.equal(messages.length, 350);
  leader.chat.end();
});
