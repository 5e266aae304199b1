/**
 * Where others are in a text, and where we are for them: the awareness field `cursor`, as
 * y-codemirror.next has it. Drawn here because a strict content security policy allows no style
 * attributes, and because names and colours that others sent are checked first.
 */

import { Annotation, type Range } from "@codemirror/state";
import {
  Decoration,
  EditorView,
  ViewPlugin,
  WidgetType,
  type DecorationSet,
  type PluginValue,
  type ViewUpdate,
} from "@codemirror/view";
import type { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";

import { cleanName, colourNumberOf } from "./people.js";

const Moved = Annotation.define<true>();

class Caret extends WidgetType {
  constructor(
    private readonly name: string,
    private readonly colour: number,
  ) {
    super();
  }

  override toDOM(): HTMLElement {
    const caret = document.createElement("span");
    caret.className = `caret colour-${this.colour}`;
    caret.dataset["name"] = this.name; // drawn by the style sheet: it is no part of the text
    caret.ariaHidden = "true";
    return caret;
  }

  override eq(other: Caret): boolean {
    return other.name === this.name && other.colour === this.colour;
  }

  override ignoreEvent(): boolean {
    return true;
  }
}

/** Show others' carets and selections in `text`, and tell others of ours. */
export function carets(text: Y.Text, awareness: Awareness): ViewPlugin<PluginValue> {
  class Carets implements PluginValue {
    decorations: DecorationSet = Decoration.none;
    private isGone = false;
    private readonly changed = (
      { added, updated, removed }: { added: number[]; updated: number[]; removed: number[] },
    ): void => {
      const others = [...added, ...updated, ...removed].some((id) => id !== awareness.clientID);
      if (!others) return;
      queueMicrotask(() => {
        if (!this.isGone) this.view.dispatch({ annotations: [Moved.of(true)] });
      });
    };

    constructor(private readonly view: EditorView) {
      awareness.on("change", this.changed);
      this.decorations = this.draw();
    }

    update(update: ViewUpdate): void {
      if (update.selectionSet || update.focusChanged || update.docChanged) this.tell(update.view);
      const isMoved = update.transactions.some((one) => one.annotation(Moved) === true);
      // A caret may have come before the text that it is in.
      if (isMoved || update.docChanged) this.decorations = this.draw();
    }

    destroy(): void {
      this.isGone = true;
      awareness.off("change", this.changed);
    }

    private tell(view: EditorView): void {
      if (!view.hasFocus || awareness.getLocalState() === null) return;
      const { anchor, head } = view.state.selection.main;
      const at = (index: number): unknown =>
        Y.relativePositionToJSON(Y.createRelativePositionFromTypeIndex(text, index));
      const cursor = { anchor: at(anchor), head: at(head) };
      const told = (awareness.getLocalState() as { cursor?: unknown } | null)?.cursor;
      if (JSON.stringify(told) === JSON.stringify(cursor)) return;
      queueMicrotask(() => awareness.setLocalStateField("cursor", cursor));
    }

    private draw(): DecorationSet {
      const found: Range<Decoration>[] = [];
      for (const [client, state] of awareness.getStates()) {
        if (client === awareness.clientID) continue;
        const place = placeOf(state, text);
        if (place === null) continue;
        const name = cleanName((state["user"] as { name?: unknown } | undefined)?.name) || "Somebody";
        const colour = colourNumberOf(name);
        const [from, to] = [Math.min(...place), Math.max(...place)];
        const end = this.view.state.doc.length;
        if (to > end) continue; // its text is not in the editor yet
        if (from < to) {
          found.push(Decoration.mark({ class: `selected colour-${colour}` }).range(from, to));
        }
        const caret = Decoration.widget({ widget: new Caret(name, colour), side: 1 });
        found.push(caret.range(place[1]));
      }
      return Decoration.set(found, true);
    }
  }
  return ViewPlugin.fromClass(Carets, { decorations: (plugin) => plugin.decorations });
}

/** Anchor and head of somebody's selection, if it is in `text`. */
function placeOf(state: Record<string, unknown>, text: Y.Text): [number, number] | null {
  const cursor = state["cursor"] as { anchor?: unknown; head?: unknown } | null | undefined;
  if (cursor === null || typeof cursor !== "object") return null;
  try {
    const [anchor, head] = [cursor.anchor, cursor.head].map((position) => {
      const relative = Y.createRelativePositionFromJSON(position);
      return Y.createAbsolutePositionFromRelativePosition(relative, text.doc as Y.Doc);
    });
    if (anchor?.type !== text || head?.type !== text) return null;
    return [anchor.index, head.index];
  } catch {
    return null; // others may write anything there
  }
}
