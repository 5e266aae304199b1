/**
 * What this device wrote into a cell that somebody else deleted or moved at the same time is in
 * nobody's document any more. It is kept here, and offered.
 *
 * Invariants
 * 1. A cell counts as touched from an edit here until the relay has it, over reloads too.
 * 2. Text of a touched cell, or of the one that the caret is in, that goes with somebody else's
 *    deletion, and is not in the cell that has its id now, is kept until the user says what becomes
 *    of it.
 * 3. All tabs of this browser keep one list. None writes it from memory.
 */

import * as Y from "yjs";

import { idOf, type Cell, type CellType, type Notebook } from "./notebook.js";

export interface Rescued {
  /** Of the cell that it was in. */
  readonly id: string;
  readonly type: CellType;
  readonly text: string;
}

interface Kept {
  readonly touched: readonly string[];
  readonly found: readonly Rescued[];
}

export class Rescue {
  private kept: Kept;

  /** `writing` gives the id of the cell that the caret is in, or "". */
  constructor(
    private readonly notebook: Notebook,
    private readonly key: string,
    private readonly writing: () => string,
    private readonly changed: () => void,
  ) {
    this.kept = parse(localStorage.getItem(key));
    addEventListener("storage", (event) => {
      if (event.key === key || event.key === null) this.read();
    });
  }

  /** What waits for the user's word, oldest first. */
  get list(): readonly Rescued[] {
    return this.kept.found;
  }

  /** Something was written into a cell here. */
  touch(cell: Cell): void {
    const id = idOf(cell);
    if (!this.kept.touched.includes(id)) this.keep(({ touched }) => ({ touched: [...touched, id] }));
  }

  /** The relay has all that was written here. */
  synced(): void {
    if (this.kept.touched.length > 0) this.keep(() => ({ touched: [] }));
  }

  /** Somebody else's change of the list of cells, before what it deleted is forgotten. */
  lookAt(event: Y.YEvent<Y.Array<unknown>>): void {
    this.read();
    for (const item of event.changes.deleted) {
      const gone = (item.content as { type?: unknown }).type;
      if (!(gone instanceof Y.Map)) continue;
      const id = lastValue(gone, "id");
      if (typeof id !== "string") continue;
      if (!this.kept.touched.includes(id) && id !== this.writing()) continue;
      const text = textBefore(gone, event);
      const twin = this.notebook.list().find((cell) => idOf(cell) === id);
      if (text.trim() === "" || twin?.get("source")?.toString() === text) continue;
      const type = lastValue(gone, "cell_type") === "markdown" ? "markdown" : "code";
      // Another tab may have found it too.
      if (this.list.some((one) => one.id === id && one.text === text)) continue;
      this.keep(({ found }) => ({ found: [...found, { id, type, text }] }));
      this.changed();
    }
  }

  /** The user has seen it, and took it or let it go. */
  settle(rescued: Rescued): void {
    const isIt = (one: Rescued): boolean => one.id === rescued.id && one.text === rescued.text;
    this.keep(({ found }) => ({ found: found.filter((one) => !isIt(one)) }));
    this.changed();
  }

  /** Change what is kept now, which other tabs change too. */
  private keep(change: (kept: Kept) => Partial<Kept>): void {
    this.kept = parse(localStorage.getItem(this.key));
    this.kept = { ...this.kept, ...change(this.kept) };
    localStorage.setItem(this.key, JSON.stringify(this.kept));
  }

  /** What other tabs made of it. */
  private read(): void {
    const before = JSON.stringify(this.list);
    this.kept = parse(localStorage.getItem(this.key));
    if (JSON.stringify(this.list) !== before) this.changed();
  }
}

function parse(kept: string | null): Kept {
  try {
    const value = JSON.parse(kept ?? "{}") as Partial<Kept>;
    return { touched: value.touched ?? [], found: value.found ?? [] };
  } catch {
    return { touched: [], found: [] };
  }
}

/** A value of a map that was deleted in this transaction; Yjs itself gives none any more. */
function lastValue(map: Y.Map<unknown>, key: string): unknown {
  const content = map._map.get(key)?.content;
  return content instanceof Y.ContentAny ? content.arr.at(-1) : content?.getContent()[0];
}

/** A text as it was before the transaction that deleted it. */
function textBefore(cell: Y.Map<unknown>, event: Y.YEvent<Y.Array<unknown>>): string {
  const source = lastValue(cell, "source");
  if (!(source instanceof Y.Text)) return "";
  let text = "";
  for (let item = source._start; item !== null; item = item.right) {
    const wasThere = !item.deleted || event.deletes(item);
    if (wasThere && item.content instanceof Y.ContentString) text += item.content.str;
  }
  return text;
}
