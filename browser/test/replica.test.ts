/** A tab's document over its store: what is said of an edit, and when rows become a snapshot. */

import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";

import { Closed } from "../src/errors.js";
import { Replica } from "../src/replica.js";
import { Documents, type Batch, type Stored } from "../src/storage/documents.js";
import { Store } from "./store.js";

const LARGE = "x".repeat(40_000);

/** The documents of a store that may refuse to read, write or compact. */
class Failing extends Documents {
  failures: ("load" | "append" | "compact")[] = [];

  private meet(what: "load" | "append" | "compact"): void {
    const at = this.failures.indexOf(what);
    if (at < 0) return;
    this.failures.splice(at, 1);
    throw new Error(`no ${what} now`);
  }

  override async load(room: number, after: number): Promise<Stored> {
    this.meet("load");
    return super.load(room, after);
  }

  override async append(batch: Batch): Promise<void> {
    this.meet("append");
    return super.append(batch);
  }

  override async compact(room: number, snapshot: Uint8Array, through: number): Promise<void> {
    this.meet("compact");
    return super.compact(room, snapshot, through);
  }
}

interface Opened {
  readonly store: Store;
  readonly documents: Failing;
  readonly replica: Replica;
}

async function open(test: TestContext): Promise<Opened> {
  const store = await Store.open();
  const documents = new Failing(store.db);
  const { room } = await documents.create("design");
  const replica = new Replica(room, documents);
  test.after(() => replica.end());
  await replica.catchUp();
  return { store, documents, replica };
}

function type(replica: Replica, text: string): void {
  const body = replica.doc.getText("body");
  body.insert(body.length, text);
}

/** How many rows are stored once `count` are, or as many as there are when nothing moves any more. */
async function rowsBecome(store: Store, count: number): Promise<void> {
  const read = (): Promise<number> => store.db.read(["updates"], async (tx) => (await tx.updates.all()).length);
  for (let tries = 0; (await read()) !== count; tries += 1) {
    assert.ok(tries < 1_000, `${await read()} rows, not ${count}`);
    await new Promise((resolve) => setTimeout(resolve));
  }
}

test("an edit that is saved is counted as not acked, at every moment", async (t) => {
  const { replica } = await open(t);
  for (let edits = 1; edits <= 20; edits += 1) {
    type(replica, "x");
    assert.equal(replica.isSaved, false);
    while (!replica.isSaved) await replica.changes.next();
    assert.equal(replica.unacked.length, edits);
  }
});

test("who watches learns at once that something is not saved", async (t) => {
  const { replica } = await open(t);
  const learned = replica.changes.next().then(() => replica.isSaved);
  type(replica, "x");
  assert.equal(await learned, false);
});

for (const what of ["append", "load"] as const) {
  test(`an edit is saved once, when the store refuses to ${what} at first`, async (t) => {
    const { store, documents, replica } = await open(t);
    documents.failures.push(what, what);
    type(replica, "x");
    await replica.waitSaved();
    assert.equal(replica.error, null);
    assert.equal(replica.unacked.length, 1);
    await rowsBecome(store, 1);
  });
}

test("rows become a snapshot once they are acked, and no sooner", async (t) => {
  const { store, replica } = await open(t);
  replica.compacts = true;
  for (let edits = 0; edits < 4; edits += 1) {
    type(replica, LARGE);
    await replica.waitSaved();
  }
  await rowsBecome(store, 4);
  replica.store({ ackedThrough: replica.place });
  await rowsBecome(store, 0);
  const again = new Replica(replica.row, new Documents(store.db));
  t.after(() => again.end());
  await again.catchUp();
  assert.equal(again.doc.getText("body").length, 4 * LARGE.length);
});

test("a snapshot that could not be stored is tried again with the next save", async (t) => {
  const { store, documents, replica } = await open(t);
  documents.failures.push("compact");
  replica.compacts = true;
  for (let edits = 0; edits < 2; edits += 1) {
    type(replica, LARGE);
    await replica.waitSaved();
  }
  replica.store({ ackedThrough: replica.place });
  while (documents.failures.length > 0) await new Promise((resolve) => setTimeout(resolve));
  await rowsBecome(store, 2);
  replica.store({ epoch: null });
  await rowsBecome(store, 0);
});

test("what is edited in a room that was forgotten is not called saved", async (t) => {
  const { documents, replica } = await open(t);
  await documents.forget(replica.row.id);
  type(replica, "x");
  await assert.rejects(replica.waitSaved(), Closed);
  assert.equal(replica.isSaved, false);
});
