/**
 * One cell on the page. Far from the screen it is plain text; near it, code has an editor and text is
 * set as prose until somebody writes in it.
 */

import type { EditorView } from "@codemirror/view";

import { make, say } from "./dom.js";
import { openEditor, type Around } from "./editor.js";
import { idOf, sourceOf, typeOf, type Cell, type CellType, type Notebook } from "./notebook.js";
import { cleanName } from "./people.js";
import { showOutputs } from "./outputs.js";
import { prose } from "./prose.js";

export const TYPE_NAMES: Readonly<Record<CellType, string>> = {
  code: "Code",
  markdown: "Text",
  raw: "Raw text",
};

export class CellView {
  readonly element: HTMLElement;
  /** Its cell's id, which is known also once the cell is deleted. */
  id = "";
  private readonly count = make("span", { class: "count" });
  private readonly source = make("div", { class: "source" });
  private readonly outputs = make("div", { class: "outputs" });
  private readonly byline = make("p", { class: "byline" });
  private editor: EditorView | null = null;
  private shownType: CellType;
  private isNear = false;
  private isEditing = false;
  private isWaiting = false;
  private hasOldOutputs = true;

  constructor(
    readonly cell: Cell,
    private readonly notebook: Notebook,
    private readonly around: Around,
  ) {
    this.shownType = typeOf(cell);
    const main = make("div", { class: "main" }, this.source, this.outputs, this.byline);
    this.element = make("article", { class: "cell far", role: "listitem", tabindex: "-1" }, this.count, main);
    this.showPlain();
    this.update();
  }

  /** Whether the caret is in this cell's editor. */
  get isWriting(): boolean {
    return this.editor?.hasFocus === true;
  }

  /** Whether keys go into this cell's text, or would if the window had the focus. */
  get takesKeys(): boolean {
    return this.editor?.dom.contains(document.activeElement) === true;
  }

  /** Whether a kernel will run it. */
  set isQueued(isQueued: boolean) {
    if (this.isWaiting === isQueued) return;
    this.isWaiting = isQueued;
    this.update();
  }

  /** The caret's place in the text, if there is one. */
  get caret(): number | null {
    return this.editor?.state.selection.main.head ?? null;
  }

  /** It has come near the screen, or is far from it again. */
  near(isNear: boolean): void {
    if (this.isNear === isNear || (!isNear && this.isWriting)) return;
    this.isNear = isNear;
    this.element.classList.toggle("far", !isNear);
    if (isNear) {
      this.showSource();
      this.showOutputs();
    } else {
      this.isEditing = false;
      this.showPlain();
    }
  }

  /** Begin to write in it, with the caret at a place. */
  edit(at?: number | "end"): void {
    this.near(true);
    this.isEditing = true;
    this.showSource();
    const { editor } = this;
    if (editor === null) return;
    editor.focus();
    if (at === undefined) return;
    const { length } = editor.state.doc;
    editor.dispatch({ selection: { anchor: at === "end" ? length : Math.min(at, length) } });
  }

  /** Nobody writes here in this tab any more. */
  rest(): void {
    if (!this.isEditing) return;
    this.isEditing = false;
    if (this.isNear) this.showSource();
  }

  /** Somebody changed the text. */
  textChanged(): void {
    if (this.editor !== null) return; // it has its own binding
    if (this.isNear) this.showSource();
    else this.showPlain();
  }

  outputsChanged(): void {
    this.hasOldOutputs = true;
    if (this.isNear) this.showOutputs();
  }

  /** Show type, count, state and who wrote last, as they are in the document. */
  update(): void {
    this.id = idOf(this.cell);
    const type = typeOf(this.cell);
    const isRunning = this.cell.get("execution_state") === "running";
    const count = this.cell.get("execution_count");
    for (const name of ["code", "markdown", "raw"]) this.element.classList.toggle(name, name === type);
    this.element.classList.toggle("running", isRunning);
    const number = typeof count === "number" ? String(count) : " ";
    say(this.count, type === "code" ? `[${isRunning ? "*" : this.isWaiting ? "…" : number}]` : "");
    const editor = this.notebook.editorOf(this.cell);
    say(this.byline, editor === "" ? "" : `${cleanName(editor)} wrote here`);
    if (type !== this.shownType) {
      this.shownType = type;
      const wasWriting = this.isWriting;
      this.closeEditor();
      if (this.isNear) this.showSource();
      if (wasWriting) this.edit();
    }
  }

  /** What it is called, for those who hear the page. */
  describe(place: number, of: number): void {
    const count = this.cell.get("execution_count");
    const isRunning = this.cell.get("execution_state") === "running";
    const ran = isRunning ? ", running" : typeof count === "number" ? `, run ${count}` : "";
    const label = `${TYPE_NAMES[this.shownType]} cell ${place} of ${of}${ran}`;
    this.element.setAttribute("aria-label", label);
    this.editor?.dispatch({}); // its label has the place too
  }

  destroy(): void {
    this.closeEditor();
    this.element.remove();
  }

  private showSource(): void {
    const isProse = this.shownType === "markdown" && !this.isEditing;
    if (isProse) {
      this.closeEditor();
      const shown = prose(sourceOf(this.cell).toString());
      const empty = make("p", { class: "empty", text: "Empty text. Enter begins to write." });
      this.source.replaceChildren(make("div", { class: "prose" }, ...(shown.length > 0 ? shown : [empty])));
      return;
    }
    if (this.editor !== null) return;
    const label = (): string =>
      `${TYPE_NAMES[this.shownType]} of cell ${this.notebook.list().indexOf(this.cell) + 1}`;
    this.editor = openEditor(sourceOf(this.cell), this.shownType, label, this.around);
    this.source.replaceChildren(this.editor.dom);
  }

  private showPlain(): void {
    this.closeEditor();
    this.source.replaceChildren(make("pre", { class: "plain", text: sourceOf(this.cell).toString() }));
  }

  private showOutputs(): void {
    if (!this.hasOldOutputs) return;
    this.hasOldOutputs = false;
    this.outputs.replaceChildren(...showOutputs(this.cell.get("outputs")));
  }

  private closeEditor(): void {
    this.editor?.destroy();
    this.editor = null;
  }
}
