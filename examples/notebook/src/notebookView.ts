/** The cells on the page: their order, which one is selected, and what keys do to them. */

import type { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import { YSyncConfig } from "y-codemirror.next";

import { CellView } from "./cellView.js";
import { button, make, say } from "./dom.js";
import {
  idOf,
  makeCell,
  PAGE,
  sourceOf,
  typeOf,
  type Cell,
  type CellType,
  type Notebook,
} from "./notebook.js";
import type { People } from "./people.js";
import type { Rescue } from "./rescue.js";

const NEAR = "600px"; // above and below the screen cells have editors already
const STAYS = "Others wrote into that cell, so it stays.";
const TWICE_MS = 800; // for "d d"

type AnyEvent = Y.YEvent<Y.AbstractType<unknown>>;

/** What the notebook asks of the page around it. */
export interface Page {
  readonly awareness: Awareness;
  readonly people: People;
  readonly rescue: Rescue;
  /** Somebody else took away the cell that the caret was in: lead the focus to where that is said. */
  cellTaken(): void;
  /** Say something for a moment; with something to do about it. */
  toast(text: string, act?: { readonly label: string; readonly does: () => void }): void;
}

export class NotebookView {
  /** What scrolls: the cells, and what is put above them. */
  readonly element = make("div", { class: "middle" });
  private readonly list = make("div", { class: "cells", role: "list", "aria-label": "Cells" });
  private readonly empty = make("p", {
    class: "empty",
    text: "This notebook is empty. Add a cell, or open a file.",
  });
  private readonly toolbar: HTMLElement;
  private readonly runButton: HTMLButtonElement;
  private readonly typeButton: HTMLButtonElement;
  private readonly views = new Map<Cell, CellView>();
  private readonly byElement = new Map<Element, CellView>();
  private readonly watcher: IntersectionObserver;
  private selected: Cell | null = null;
  private deletePressedAt = -Infinity;

  constructor(
    private readonly notebook: Notebook,
    private readonly page: Page,
  ) {
    this.watcher = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) this.byElement.get(entry.target)?.near(entry.isIntersecting);
      },
      { root: this.element, rootMargin: `${NEAR} 0px` },
    );
    this.runButton = button("Run", "Run", () => this.runOrStop());
    this.typeButton = button("To text", "", () => this.changeType());
    this.toolbar = this.makeToolbar();
    const add = make(
      "div",
      { class: "add" },
      button("Add code", "Add code", () => this.addAtEnd("code")),
      button("Add text", "Add text", () => this.addAtEnd("markdown")),
    );
    this.element.append(make("main", { class: "notebook" }, this.list, this.empty, add));
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("focusin", (event) => this.focusCame(event));
    this.list.addEventListener("focusout", (event) => this.focusWent(event));
    this.list.addEventListener("dblclick", (event) => this.doubleClicked(event));
    notebook.cells.observeDeep((events, transaction) => this.changed(events as AnyEvent[], transaction));
    notebook.state.observe(() => this.updateAll());
    this.arrange(true);
    this.select(notebook.list()[0] ?? null);
  }

  /** Presence changed: perhaps there is somebody to run code, or nobody any more. */
  peopleChanged(): void {
    const { kernel } = this.page.people;
    const isRunning = kernel !== null && this.selected !== null && kernel.running === idOf(this.selected);
    const what = isRunning ? "Stop" : "Run";
    const label = kernel === null ? "Run: nobody here runs code" : `${what} (${kernel.name})`;
    say(this.runButton, kernel === null ? "No kernel" : what);
    this.runButton.title = label;
    this.runButton.setAttribute("aria-label", label);
    this.runButton.setAttribute("aria-disabled", String(kernel === null));
    const queue = new Set(kernel?.queue);
    for (const view of this.views.values()) view.isQueued = queue.has(idOf(view.cell));
    for (const element of this.list.querySelectorAll(".here")) element.remove();
    for (const person of this.page.people.list()) {
      if (person.isMe || person.cell === "") continue;
      const view = this.find(person.cell);
      view?.element.append(make("span", { class: `here colour-${person.colour}`, text: person.name }));
    }
  }

  /** The id of the cell that the caret is in, or "". */
  get writingIn(): string {
    const view = this.selectedView;
    return view?.takesKeys === true ? view.id : "";
  }

  /** Add a cell at the end and write in it. */
  addAtEnd(type: CellType): void {
    this.show(this.notebook.insert(this.notebook.list().length, makeCell(type)), true);
  }

  /** Add a cell with a text below the selected one. */
  addBelow(type: CellType, text = ""): void {
    this.show(this.notebook.insert(this.place() + 1, makeCell(type, text)), true);
  }

  undo(): void {
    if (!this.notebook.undoStep()) this.page.toast(STAYS);
  }

  redo(): void {
    if (!this.notebook.redoStep()) this.page.toast(STAYS);
  }

  // What changes

  private changed(events: AnyEvent[], transaction: Y.Transaction): void {
    const isOurs = transaction.origin === PAGE || transaction.origin instanceof YSyncConfig;
    let isListChanged = false;
    const texts = new Set<Cell>();
    const outputs = new Set<Cell>();
    const cells = new Set<Cell>();
    for (const event of events) {
      const target: unknown = event.target;
      if (target === this.notebook.cells) {
        isListChanged = true;
        if (!isOurs && !isUndo(transaction)) {
          this.page.rescue.lookAt(event as Y.YEvent<Y.Array<unknown>>);
        }
        continue;
      }
      const cell = this.notebook.cellOf(event.target);
      if (cell === null) continue;
      if (target === cell) {
        cells.add(cell);
        if (event.keys.has("source")) this.makeAnew(cell);
        if (event.keys.has("outputs")) outputs.add(cell);
      } else if (target === cell.get("source")) texts.add(cell);
      else outputs.add(cell);
    }
    if (isListChanged) this.arrange(isOurs || isUndo(transaction));
    for (const cell of texts) this.views.get(cell)?.textChanged();
    for (const cell of outputs) this.views.get(cell)?.outputsChanged();
    for (const cell of cells) this.views.get(cell)?.update();
    if (cells.size > 0) this.showToolbar();
    if (isOurs || isUndo(transaction)) {
      for (const cell of new Set([...texts, ...cells])) this.page.rescue.touch(cell);
      for (const cell of texts) this.notebook.noteEditor(cell, this.page.people.name);
    } else if (isListChanged) queueMicrotask(() => this.notebook.mend());
  }

  /** Somebody put another text in the place of a cell's. */
  private makeAnew(cell: Cell): void {
    const view = this.views.get(cell);
    const caret = view?.takesKeys === true ? view.caret : null;
    this.drop(cell);
    this.arrange(true);
    if (this.selected !== cell) return;
    this.select(cell);
    if (caret !== null) this.views.get(cell)?.edit(caret);
  }

  /**
   * Bring the page's cells into the document's order. Whose cell somebody else took from under their
   * hands goes on in the one of its id, or in none: keys that were meant as text do nothing then.
   */
  private arrange(isOurs: boolean): void {
    const cells = this.notebook.list();
    const kept = new Set(cells);
    const focused = document.activeElement;
    const hadFocus = focused !== null && this.list.contains(focused);
    const { writingIn } = this;
    const caret = this.selectedView?.caret ?? 0;
    const place = this.selected === null ? 0 : [...this.views.keys()].indexOf(this.selected);
    for (const cell of this.views.keys()) if (!kept.has(cell)) this.drop(cell);
    let at = this.list.firstElementChild;
    for (const cell of cells) {
      const { element } = this.views.get(cell) ?? this.open(cell);
      if (element === at) at = at.nextElementSibling;
      else this.list.insertBefore(element, at);
    }
    this.empty.hidden = cells.length > 0;
    if (this.selected === null || !kept.has(this.selected)) {
      this.select(cells[Math.min(Math.max(place, 0), cells.length - 1)] ?? null);
    }
    this.describeSelected();
    if (!hadFocus || this.list.contains(document.activeElement)) return;
    const twin = writingIn === "" ? undefined : this.find(writingIn);
    if (twin !== undefined) {
      this.select(twin.cell);
      twin.edit(caret);
    } else if (writingIn !== "" && !isOurs) this.page.cellTaken();
    else this.focusSelected();
  }

  private open(cell: Cell): CellView {
    const view = new CellView(cell, this.notebook, {
      awareness: this.page.awareness,
      leave: () => {
        this.focusSelected();
        this.views.get(cell)?.rest();
      },
      run: (andGoOn) => this.run(andGoOn),
      step: (by) => this.step(by, true),
      undo: () => this.undo(),
      redo: () => this.redo(),
      focused: () => this.select(cell),
    });
    this.views.set(cell, view);
    this.byElement.set(view.element, view);
    this.watcher.observe(view.element);
    return view;
  }

  private drop(cell: Cell): void {
    const view = this.views.get(cell);
    if (view === undefined) return;
    this.watcher.unobserve(view.element);
    this.views.delete(cell);
    this.byElement.delete(view.element);
    if (view.element.contains(this.toolbar)) this.toolbar.remove();
    view.destroy();
  }

  private updateAll(): void {
    for (const view of this.views.values()) view.update();
  }

  // Which one is selected

  private get selectedView(): CellView | undefined {
    return this.selected === null ? undefined : this.views.get(this.selected);
  }

  private select(cell: Cell | null): void {
    if (cell !== this.selected) this.deletePressedAt = -Infinity;
    if (cell === this.selected && cell !== null && this.toolbar.isConnected) return;
    const before = this.selectedView;
    before?.element.classList.remove("selected");
    before?.element.setAttribute("tabindex", "-1");
    this.selected = cell;
    const view = cell === null ? undefined : this.views.get(cell);
    if (cell === null || view === undefined) return;
    view.element.classList.add("selected");
    view.element.setAttribute("tabindex", "0");
    view.element.append(this.toolbar);
    this.showToolbar();
    this.page.people.enter(idOf(cell));
  }

  private describeSelected(): void {
    this.selectedView?.describe(this.place() + 1, this.notebook.list().length);
  }

  private focusSelected(): void {
    const view = this.selectedView;
    view?.element.focus();
    view?.element.scrollIntoView({ block: "nearest" });
  }

  private show(cell: Cell, andEdit: boolean): void {
    this.select(cell);
    this.focusSelected();
    if (andEdit) this.views.get(cell)?.edit("end");
  }

  /** Go up or down; false if there is nothing there. */
  private step(by: -1 | 1, andEdit: boolean): boolean {
    const next = this.notebook.list()[this.place() + by];
    if (next === undefined) return false;
    this.select(next);
    this.focusSelected();
    if (andEdit) this.views.get(next)?.edit(by === 1 ? 0 : "end");
    return true;
  }

  private place(): number {
    return this.selected === null ? -1 : this.notebook.list().indexOf(this.selected);
  }

  private find(id: string): CellView | undefined {
    for (const [cell, view] of this.views) if (idOf(cell) === id) return view;
    return undefined;
  }

  private focusCame(event: FocusEvent): void {
    const element = (event.target as Element).closest(".cell");
    const view = element === null ? undefined : this.byElement.get(element);
    if (view === undefined) return;
    view.near(true);
    this.select(view.cell);
  }

  private focusWent(event: FocusEvent): void {
    const element = (event.target as Element).closest(".cell");
    if (element === null || element.contains(event.relatedTarget as Node | null)) return;
    this.byElement.get(element)?.rest();
  }

  private doubleClicked(event: MouseEvent): void {
    const element = (event.target as Element).closest(".source")?.closest(".cell");
    const view = element ? this.byElement.get(element) : undefined;
    if (view !== undefined && !view.isWriting) view.edit();
  }

  // What is done to cells

  private runOrStop(): void {
    const { kernel } = this.page.people;
    const isRunning = kernel !== null && this.selected !== null && kernel.running === idOf(this.selected);
    if (isRunning) this.page.people.askToStop();
    else this.run(false);
  }

  private run(andGoOn: boolean): void {
    const cell = this.selected;
    if (cell === null) return;
    const { kernel } = this.page.people;
    if (typeOf(cell) === "code") {
      if (kernel === null) {
        this.page.toast("Nobody here runs code. “collab demo --kernel” starts a kernel that does.");
      } else this.page.people.askToRun(idOf(cell), sourceOf(cell).toString());
    } else this.views.get(cell)?.rest();
    if (!andGoOn) return this.focusIfProse(cell);
    if (!this.step(1, false)) this.addAtEnd("code");
  }

  private focusIfProse(cell: Cell): void {
    if (typeOf(cell) !== "code") this.focusSelected();
  }

  private remove(): void {
    const cell = this.selected;
    if (cell === null) return;
    const hasText = sourceOf(cell).length > 0;
    this.focusSelected();
    this.notebook.remove(cell);
    if (hasText) this.page.toast("Cell deleted.", { label: "Undo", does: () => this.undo() });
  }

  private move(by: -1 | 1): void {
    const cell = this.selected;
    if (cell === null) return;
    const view = this.views.get(cell);
    const caret = view?.isWriting === true ? view.caret : null;
    const moved = this.notebook.move(cell, by, (other) => this.page.people.isBusy(idOf(other)));
    this.select(moved);
    this.focusSelected();
    if (caret !== null) this.views.get(moved)?.edit(caret);
  }

  private changeType(): void {
    const cell = this.selected;
    if (cell !== null) this.notebook.setType(cell, typeOf(cell) === "code" ? "markdown" : "code");
  }

  private makeToolbar(): HTMLElement {
    return make(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Cell" },
      this.runButton,
      this.typeButton,
      button("↑", "Move up", () => this.move(-1)),
      button("↓", "Move down", () => this.move(1)),
      button("+↑", "Add a cell above", () => this.addAbove()),
      button("+↓", "Add a cell below", () => this.addBelow("code")),
      button("×", "Delete this cell", () => this.remove()),
    );
  }

  private showToolbar(): void {
    if (this.selected === null) return;
    this.describeSelected();
    const isCode = typeOf(this.selected) === "code";
    say(this.typeButton, isCode ? "To text" : "To code");
    this.runButton.hidden = !isCode;
    this.peopleChanged();
  }

  private addAbove(): void {
    this.show(this.notebook.insert(Math.max(this.place(), 0), makeCell("code")), true);
  }

  // Keys, as in Jupyter's command mode

  private key(event: KeyboardEvent): void {
    const view = this.byElement.get(event.target as Element);
    if (view === undefined || event.altKey) return;
    const isControl = event.ctrlKey || event.metaKey;
    const act = isControl ? this.controlKey(event) : this.plainKey(event);
    if (act === null) return;
    event.preventDefault();
    act();
  }

  private controlKey(event: KeyboardEvent): (() => void) | null {
    switch (event.key.toLowerCase()) {
      case "enter":
        return () => this.run(false);
      case "z":
        return () => (event.shiftKey ? this.redo() : this.undo());
      case "y":
        return () => this.redo();
      default:
        return null;
    }
  }

  private plainKey(event: KeyboardEvent): (() => void) | null {
    const cell = this.selected;
    if (cell === null) return null;
    switch (event.key) {
      case "Enter":
        return () => (event.shiftKey ? this.run(true) : this.views.get(cell)?.edit());
      case "ArrowUp":
      case "k":
        return () => void this.step(-1, false);
      case "ArrowDown":
      case "j":
        return () => void this.step(1, false);
      case "a":
        return () => this.show(this.notebook.insert(this.place(), makeCell("code")), false);
      case "b":
        return () => this.show(this.notebook.insert(this.place() + 1, makeCell("code")), false);
      case "m":
        return () => this.notebook.setType(cell, "markdown");
      case "y":
        return () => this.notebook.setType(cell, "code");
      case "z":
        return () => this.undo();
      case "d":
        return () => {
          const isSecond = event.timeStamp - this.deletePressedAt < TWICE_MS;
          this.deletePressedAt = isSecond ? -Infinity : event.timeStamp;
          if (isSecond) this.remove();
        };
      default:
        return null;
    }
  }
}

const isUndo = (transaction: Y.Transaction): boolean => transaction.origin instanceof Y.UndoManager;
