/**
 * The notebook in the shared document, in the shape of jupyter_ydoc's `YNotebook` 2.0.0: root map
 * `meta`, root array `cells` of maps, root map `state`.
 *
 * Invariants
 * 1. A cell is its map: two maps with one id are two cells until `mend` says otherwise.
 * 2. What this page does to cells has the origin PAGE, what its editors do the origin of their
 *    binding; both can be undone here, and nothing else can.
 * 3. To undo that a cell was added does not take what others wrote into it: such a cell stays.
 */

import { YSyncConfig } from "y-codemirror.next";
import * as Y from "yjs";

export const PAGE = Symbol("this page");
const MEND = Symbol("two cells of one id");
const EDITED = "edited:";
const FIELDS = ["id", "cell_type", "source", "metadata"];
const CODE_FIELDS = ["outputs", "execution_count", "execution_state"];

/**
 * An empty notebook with one code cell, as an update. Everybody who begins with an empty room applies
 * these same bytes, so that it is there once. `collab.notebook.document.FRESH` in Python.
 */
const FRESH =
  "010df09099cd03002801046d657461086e62666f726d6174017c408000002801046d6574610e6e62666f726d61" +
  "745f6d696e6f72017c40a000002701046d657461086d65746164617461012800f09099cd03020a6b65726e656c" +
  "73706563017603046e616d657707707974686f6e330c646973706c61795f6e616d657708507974686f6e203308" +
  "6c616e67756167657706707974686f6e2800f09099cd03020d6c616e67756167655f696e666f017601046e616d" +
  "657706707974686f6e07010563656c6c73012800f09099cd030502696401770566697273742800f09099cd0305" +
  "0963656c6c5f74797065017704636f64652700f09099cd030506736f75726365022700f09099cd0305086d6574" +
  "6164617461012700f09099cd0305076f757470757473002800f09099cd03050f657865637574696f6e5f636f75" +
  "6e74017e2800f09099cd03050f657865637574696f6e5f737461746501770469646c6500";

export type CellType = "code" | "markdown" | "raw";
export type Cell = Y.Map<unknown>;

export const isCell = (value: unknown): value is Cell =>
  value instanceof Y.Map && value.get("source") instanceof Y.Text;

export const idOf = (cell: Cell): string => String(cell.get("id") ?? "");
export const sourceOf = (cell: Cell): Y.Text => cell.get("source") as Y.Text;

export function typeOf(cell: Cell): CellType {
  const type = cell.get("cell_type");
  return type === "markdown" || type === "raw" ? type : "code";
}

/** A new cell's map, not yet in a document. */
export function makeCell(type: CellType, source = "", id = newId()): Cell {
  const cell: Cell = new Y.Map();
  cell.set("id", id);
  cell.set("cell_type", type);
  cell.set("source", new Y.Text(source));
  cell.set("metadata", new Y.Map());
  if (type === "code") giveOutputs(cell);
  return cell;
}

function giveOutputs(cell: Cell): void {
  cell.set("outputs", new Y.Array());
  cell.set("execution_count", null);
  cell.set("execution_state", "idle");
}

/** As nbformat 4.5 wants ids: letters, digits, `-` and `_`, at most 64. */
export const newId = (): string => crypto.randomUUID();

export class Notebook {
  readonly cells: Y.Array<unknown>;
  readonly meta: Y.Map<unknown>;
  readonly state: Y.Map<unknown>;
  readonly undo: Y.UndoManager;
  private hasKept = false;

  constructor(readonly doc: Y.Doc) {
    if (doc.store.clients.size === 0) {
      Y.applyUpdate(doc, Uint8Array.from(FRESH.match(/../g) ?? [], (byte) => parseInt(byte, 16)));
    }
    this.cells = doc.getArray("cells");
    this.meta = doc.getMap("meta");
    this.state = doc.getMap("state");
    this.undo = new Y.UndoManager(this.cells, {
      trackedOrigins: new Set<unknown>([PAGE, YSyncConfig]),
      deleteFilter: (item) => {
        const isOthers = this.isOthers(item);
        this.hasKept ||= isOthers;
        return !isOthers;
      },
    });
  }

  /** All cells, in their order. What is no cell of a notebook is left alone and not shown. */
  list(): Cell[] {
    return this.cells.toArray().filter(isCell);
  }

  /** Put a cell at a place among the cells; 0 is before all. */
  insert(place: number, cell: Cell): Cell {
    return this.change(() => {
      this.cells.insert(this.indexAt(place), [cell]);
      if (this.meta.get("nbformat") === undefined) {
        this.meta.set("nbformat", 4);
        this.meta.set("nbformat_minor", 5);
        this.meta.set("metadata", new Y.Map());
      }
      return cell;
    });
  }

  remove(cell: Cell): void {
    this.change(() => {
      const index = this.indexOf(cell);
      if (index >= 0) this.cells.delete(index);
    });
  }

  /**
   * Move a cell one place up (-1) or down (1); returns the cell as it is then. Yjs 13 has no move: one
   * of the two that change places is made anew, and what somebody writes into that one at this moment
   * is not in it. So it is the one that is not `busy`.
   */
  move(cell: Cell, by: -1 | 1, isBusy: (cell: Cell) => boolean): Cell {
    const all = this.list();
    const place = all.indexOf(cell);
    const other = all[place + by];
    if (place < 0 || other === undefined) return cell;
    const anew = isBusy(other) && !isBusy(cell) ? cell : other;
    return this.change(() => {
      const copy = anew.clone();
      const fixed = anew === cell ? other : cell;
      const isAfter = (anew === cell) === (by === 1);
      this.cells.delete(this.indexOf(anew));
      this.cells.insert(this.indexOf(fixed) + (isAfter ? 1 : 0), [copy]);
      return anew === cell ? copy : cell;
    });
  }

  setType(cell: Cell, type: CellType): void {
    if (typeOf(cell) === type) return;
    this.change(() => {
      cell.set("cell_type", type);
      if (type === "code") return giveOutputs(cell);
      for (const field of CODE_FIELDS) cell.delete(field);
    });
  }

  clearOutputs(cell: Cell): void {
    const outputs = cell.get("outputs");
    if (!(outputs instanceof Y.Array) || outputs.length === 0) return;
    this.change(() => {
      outputs.delete(0, outputs.length);
      cell.set("execution_count", null);
    });
  }

  /**
   * Who wrote into a cell in a page like this one, the last of them, by the name that they gave
   * themselves; else "". Other programs may have written there since, and leave no name.
   */
  editorOf(cell: Cell): string {
    const name = this.state.get(EDITED + idOf(cell));
    return typeof name === "string" ? name : "";
  }

  /** Note that `name` writes into a cell now: once, until somebody else does. */
  noteEditor(cell: Cell, name: string): void {
    if (this.editorOf(cell) !== name) this.state.set(EDITED + idOf(cell), name);
  }

  /** The cell that a changed type belongs to, if it does to one. */
  cellOf(type: Y.AbstractType<unknown>): Cell | null {
    let at: Y.AbstractType<unknown> | null = type;
    while (at !== null && at.parent !== (this.cells as unknown)) at = at.parent;
    return isCell(at) ? at : null;
  }

  /**
   * Two people who move one cell at the same time make two of it. Of two that are alike the later one
   * goes; if they differ, both stay, and the later one gets an id of its own.
   */
  mend(): void {
    const seen = new Map<string, Cell>();
    const twins: [Cell, Cell][] = [];
    for (const cell of this.list()) {
      const first = seen.get(idOf(cell));
      if (first === undefined) seen.set(idOf(cell), cell);
      else twins.push([first, cell]);
    }
    if (twins.length === 0) return;
    this.doc.transact(() => {
      for (const [first, twin] of twins) {
        if (JSON.stringify(first.toJSON()) === JSON.stringify(twin.toJSON())) {
          this.cells.delete(this.indexOf(twin));
        } else twin.set("id", newId());
      }
    }, MEND);
  }

  /** Take back this page's last step; false if a cell stayed because others wrote into it. */
  undoStep(): boolean {
    return this.step("undo");
  }

  /** Do again what was taken back last; false if a cell stayed because others wrote into it. */
  redoStep(): boolean {
    return this.step("redo");
  }

  /** Yjs itself would go on to the step before one of which nothing is left to do. */
  private step(act: "undo" | "redo"): boolean {
    const stack = `${act}Stack` as const;
    const { undo } = this;
    this.hasKept = false;
    for (let isDone = false; !isDone && !this.hasKept; ) {
      const last = undo[stack].pop();
      if (last === undefined) break;
      const rest = undo[stack];
      undo[stack] = [last];
      isDone = undo[act]() !== null;
      undo[stack] = [...rest, ...undo[stack]];
    }
    return !this.hasKept;
  }

  /** One step that can be undone by itself. */
  change<T>(act: () => T): T {
    this.undo.stopCapturing();
    const result = this.doc.transact(act, PAGE);
    this.undo.stopCapturing();
    return result;
  }

  /** Whether an item is a cell that others wrote into, or a field that it needs to be one. */
  private isOthers(item: Y.Item): boolean {
    const { parent, parentSub: field } = item;
    const type = item.content instanceof Y.ContentType ? item.content.type : null;
    if (parent === (this.cells as unknown)) return isCell(type) && this.hasOthers(type);
    if (field === null || !isCell(parent) || !this.hasOthers(parent)) return false;
    return FIELDS.includes(field) || (CODE_FIELDS.includes(field) && typeOf(parent) === "code");
  }

  private hasOthers(cell: Cell): boolean {
    for (let item = sourceOf(cell)._start; item !== null; item = item.right) {
      if (!item.deleted && item.countable && item.id.client !== this.doc.clientID) return true;
    }
    return false;
  }

  private indexOf(cell: Cell): number {
    return this.cells.toArray().indexOf(cell);
  }

  private indexAt(place: number): number {
    const at = this.list()[place];
    return at === undefined ? this.cells.length : this.indexOf(at);
  }
}
