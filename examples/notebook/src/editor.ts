/** A CodeMirror editor for one cell's text. It is made when its cell comes near the screen. */

import { closeBrackets, closeBracketsKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, indentWithTab } from "@codemirror/commands";
import { python } from "@codemirror/lang-python";
import {
  bracketMatching,
  defineLanguageFacet,
  HighlightStyle,
  indentOnInput,
  indentUnit,
  Language,
  syntaxHighlighting,
} from "@codemirror/language";
import { EditorState, Prec, type Extension } from "@codemirror/state";
import { drawSelection, EditorView, keymap, type Command } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { parser } from "@lezer/markdown";
import type { Awareness } from "y-protocols/awareness";
import type * as Y from "yjs";
import { ySync, ySyncFacet, YSyncConfig } from "y-codemirror.next";

import { carets } from "./carets.js";
import type { CellType } from "./notebook.js";

/** What an editor asks of the notebook around it. */
export interface Around {
  readonly awareness: Awareness;
  leave(): void;
  run(andGoOn: boolean): void;
  /** Go to the cell above (-1) or below (1); false if there is none. */
  step(by: -1 | 1): boolean;
  undo(): void;
  redo(): void;
  focused(): void;
}

const NONCE = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.nonce ?? "";

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.controlKeyword], class: "tok-keyword" },
  { tag: [tags.string, tags.special(tags.string)], class: "tok-string" },
  { tag: [tags.number, tags.bool, tags.null], class: "tok-number" },
  { tag: tags.comment, class: "tok-comment" },
  { tag: [tags.function(tags.variableName), tags.definition(tags.variableName)], class: "tok-name" },
  { tag: tags.heading, class: "tok-heading" },
  { tag: tags.strong, class: "tok-strong" },
  { tag: tags.emphasis, class: "tok-emphasis" },
  { tag: [tags.link, tags.url], class: "tok-link" },
]);

// Without the languages that may be inside of it: they are four times this page.
const markdown = new Language(defineLanguageFacet(), parser, [], "markdown");

const always: Extension = [
  EditorView.cspNonce.of(NONCE),
  // Only "\n" ends a line: else a "\r\n" of somebody else's would be one place here and two there.
  EditorState.lineSeparator.of("\n"),
  EditorView.clipboardInputFilter.of((text) => text.replace(/\r\n?/g, "\n")),
  EditorView.lineWrapping,
  drawSelection(),
  indentUnit.of("    "),
  indentOnInput(),
  bracketMatching(),
  closeBrackets(),
  syntaxHighlighting(colours),
  keymap.of([...closeBracketsKeymap, ...defaultKeymap, indentWithTab]),
];

/** An editor on `text`, which it shares with everybody else's. */
export function openEditor(text: Y.Text, type: CellType, label: () => string, around: Around): EditorView {
  const binding = new YSyncConfig(text, around.awareness);
  return new EditorView({
    state: EditorState.create({
      doc: text.toString(),
      extensions: [
        Prec.highest(keymap.of(keys(around))),
        ySyncFacet.of(binding),
        ySync,
        carets(text, around.awareness),
        EditorView.contentAttributes.of(() => ({
          tabindex: "-1", // Enter leads into it; in it, Tab indents
          "aria-label": `${label()}. Escape leaves the editor.`,
          spellcheck: type === "code" ? "false" : "true",
        })),
        EditorView.updateListener.of((update) => {
          if (update.focusChanged && update.view.hasFocus) around.focused();
        }),
        type === "code" ? python() : type === "markdown" ? markdown : [],
        always,
      ],
    }),
  });
}

function keys(around: Around): { key: string; run: Command; preventDefault?: boolean }[] {
  const act = (does: () => void): Command => () => {
    does();
    return true;
  };
  const leaveAt = (by: -1 | 1): Command => (view) => {
    const { main } = view.state.selection;
    const line = view.state.doc.lineAt(main.head);
    const isLast = by === 1 ? line.number === view.state.doc.lines : line.number === 1;
    return main.empty && isLast && around.step(by);
  };
  return [
    { key: "Escape", run: act(() => around.leave()) },
    { key: "Shift-Enter", run: act(() => around.run(true)) },
    { key: "Mod-Enter", run: act(() => around.run(false)) },
    { key: "Mod-z", run: act(() => around.undo()), preventDefault: true },
    { key: "Mod-y", run: act(() => around.redo()), preventDefault: true },
    { key: "Mod-Shift-z", run: act(() => around.redo()), preventDefault: true },
    { key: "ArrowUp", run: leaveAt(-1) },
    { key: "ArrowDown", run: leaveAt(1) },
  ];
}
