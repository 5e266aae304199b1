import * as monaco from "monaco-editor/esm/vs/editor/editor.api.js";
import "monaco-editor/esm/vs/editor/editor.all.js";
import "monaco-editor/esm/vs/basic-languages/python/python.contribution.js";
import { IndexeddbPersistence } from "y-indexeddb";
import { MonacoBinding } from "y-monaco";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { isDark, relay, room, showHead, userOf } from "../page";

const doc = new Y.Doc();
const provider = new WebsocketProvider(`${relay}/y`, encodeURIComponent(room), doc);
const stored = new IndexeddbPersistence(`${relay}/y/${room}`, doc);

self.MonacoEnvironment = {
  getWorker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
};
const model = monaco.editor.createModel("", "python");
// On Windows a line ends in two characters, unless it is told not to: places in the shared text
// would then be others than here, and what is written would come to stand in the wrong one.
model.setEOL(monaco.editor.EndOfLineSequence.LF);
const editor = monaco.editor.create(document.querySelector<HTMLElement>("#editor")!, {
  model,
  ariaLabel: "Shared program",
  automaticLayout: true,
  minimap: { enabled: false },
  theme: isDark ? "vs-dark" : "vs",
  wordBasedSuggestions: "off",
});
const text = doc.getText("monaco");
const binding = new MonacoBinding(text, model, new Set([editor]), provider.awareness);

// Monaco's own undo would take back what others wrote, too.
const undo = new Y.UndoManager(text, { trackedOrigins: new Set([binding]) });
const { CtrlCmd, Shift } = monaco.KeyMod;
editor.addCommand(CtrlCmd | monaco.KeyCode.KeyZ, () => undo.undo());
editor.addCommand(CtrlCmd | Shift | monaco.KeyCode.KeyZ, () => undo.redo());
editor.addCommand(CtrlCmd | monaco.KeyCode.KeyY, () => undo.redo());

// The binding gives each caret a class with the client's number; names and colours are for us.
const carets = new CSSStyleSheet();
document.adoptedStyleSheets.push(carets);
provider.awareness.on("change", () => {
  carets.replaceSync("");
  for (const [client, state] of provider.awareness.getStates()) {
    const { name, color } = userOf(state.user);
    carets.insertRule(`.yRemoteSelection-${client}, .yRemoteSelectionHead-${client} {
      --colour: ${color}; --name: ${JSON.stringify(name)}; }`);
  }
});
showHead(provider, stored);
