/**
 * What this device wrote into a cell that somebody else deleted or moved at the same time is in
 * nobody's document any more. It is kept here, and offered.
 *
 * Invariants
 * 1. A cell counts as touched from an edit here until the relay has it, over reloads too.
 * 2. Text of a touched cell that goes with somebody else's deletion, and is not in the cell that has
 *    its id now, is kept until the user says what becomes of it.
 */

import * as Y from "yjs";

import { idOf, type Cell, type CellType, type Notebook } from "./notebook.js";

export interface Rescued {
  readonly type: CellType;
  readonly text: string;
}

export class Rescue {
  private readonly touched: Set<string>;
  private found: Rescued[];

  constructor(
    private readonly notebook: Notebook,
    private readonly key: string,
    private readonly changed: () => void,
  ) {
    const kept = parse(localStorage.getItem(key));
    this.touched = new Set(kept.touched);
    this.found = kept.found;
  }

  /** What waits for the user's word, oldest first. */
  get list(): readonly Rescued[] {
    return this.found;
  }

  /** Something was written into a cell here. */
  touch(cell: Cell): void {
    if (this.touched.has(idOf(cell))) return;
    this.touched.add(idOf(cell));
    this.keep();
  }

  /** The relay has all that was written here. */
  synced(): void {
    if (this.touched.size === 0) return;
    this.touched.clear();
    this.keep();
  }

  /** Somebody else's change of the list of cells, before what it deleted is forgotten. */
  lookAt(event: Y.YEvent<Y.Array<unknown>>): void {
    for (const item of event.changes.deleted) {
      const gone = (item.content as { type?: unknown }).type;
      if (!(gone instanceof Y.Map)) continue;
      const id = lastValue(gone, "id");
      if (typeof id !== "string" || !this.touched.has(id)) continue;
      const text = textBefore(gone, event);
      const twin = this.notebook.list().find((cell) => idOf(cell) === id);
      if (text.trim() === "" || twin?.get("source")?.toString() === text) continue;
      const type = lastValue(gone, "cell_type") === "markdown" ? "markdown" : "code";
      this.found = [...this.found, { type, text }];
      this.keep();
      this.changed();
    }
  }

  /** The user has seen it, and took it or let it go. */
  settle(rescued: Rescued): void {
    this.found = this.found.filter((one) => one !== rescued);
    this.keep();
    this.changed();
  }

  private keep(): void {
    localStorage.setItem(this.key, JSON.stringify({ touched: [...this.touched], found: this.found }));
  }
}

function parse(kept: string | null): { touched: string[]; found: Rescued[] } {
  try {
    const value = JSON.parse(kept ?? "{}") as { touched?: string[]; found?: Rescued[] };
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
