/** A store in memory for tests, and a clock that the test moves. Not a test. */

import "fake-indexeddb/auto";

import { Chat } from "../src/chat.js";
import { Clock } from "../src/clock.js";
import type { LoggedMessage } from "../src/protocol/messages.js";
import {
  CHAT_TABLES,
  ChatTransaction,
  type ChatRow,
  type MessageRow,
} from "../src/storage/chatRows.js";
import { Database } from "../src/storage/database.js";
import { Documents } from "../src/storage/documents.js";
import { write } from "../src/storage/messageActs.js";

// Node has none: what a page would report fails the test.
globalThis.reportError ??= (error: unknown) => {
  queueMicrotask(() => {
    throw error;
  });
};

let stores = 0;

export const EMPTY = new Uint8Array();

/** A UUID that says its number. */
export function id(number: number): string {
  return `00000000-0000-7000-8000-${number.toString(16).padStart(12, "0")}`;
}

/** A message of the relay's log. */
export function logged(seq: number, more: Partial<LoggedMessage> = {}): LoggedMessage {
  return {
    seq, id: id(seq), sender: "cem", body: `message ${seq}`, meta: EMPTY, sentAt: 1, acceptedAt: 2,
    kind: 0, verdict: 0, ...more,
  };
}

export class Store {
  now = 1_000_000;
  readonly clock = new Clock(() => this.now, () => this.now);

  private constructor(
    readonly name: string,
    readonly db: Database,
    readonly room: number,
  ) {}

  static async open(name = `test${(stores += 1)}`): Promise<Store> {
    const db = await Database.open(name);
    const { room } = await new Documents(db).create("design");
    return new Store(name, db, room.id);
  }

  /** One transaction on the room's chat. */
  async change<T>(work: (at: ChatTransaction) => Promise<T>): Promise<T> {
    return this.db.write(CHAT_TABLES, async (tx) => {
      const begun = await ChatTransaction.begin(tx, this.room, this.clock);
      const result = await work(begun);
      await begun.end();
      return result;
    });
  }

  /** Send a message with this number as its id. */
  async write(number: number, ttlMs: number | null = null, verdict = 0): Promise<MessageRow> {
    const draft = { id: id(number), body: `body ${number}`, meta: EMPTY, sentAt: 5, ttlMs, verdict };
    return this.change((work) => write(work, draft));
  }

  async chat(): Promise<ChatRow> {
    return this.db.read(["chats"], async (tx) => (await tx.chats.get(this.room))!);
  }

  /** All rows, in their order. */
  async rows(): Promise<MessageRow[]> {
    const range = IDBKeyRange.bound([this.room], [this.room, []]);
    return this.db.read(["messages"], (tx) => tx.messages.all(range, "byPlace"));
  }

  async row(number: number): Promise<MessageRow> {
    const found = (await this.rows()).filter((row) => row.id === id(number));
    if (found.length !== 1) throw new Error(`${found.length} messages with the id ${number}`);
    return found[0]!;
  }

  async states(): Promise<string[]> {
    return (await this.rows()).map(({ body, state }) => `${body}: ${state}`);
  }

  async outbox(): Promise<{ messages: number; bytes: number } | undefined> {
    return this.db.read(["outbox"], (tx) => tx.outbox.get("outbox"));
  }

  /** The chat as a tab has it. */
  async open(isOpen: () => boolean = () => true): Promise<Chat> {
    const { chat } = await new Documents(this.db).create("design");
    const tab = { clock: this.clock, moved: () => undefined, ask: async () => null, isOpen, access: () => 3, broadcast: () => undefined };
    const opened = new Chat(this.db, chat, tab);
    await opened.begin();
    return opened;
  }
}
