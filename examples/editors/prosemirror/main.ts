import { buildMenuItems, exampleSetup } from "prosemirror-example-setup";
import { keymap } from "prosemirror-keymap";
import { icons, MenuItem } from "prosemirror-menu";
import { Schema } from "prosemirror-model";
import { schema as basic } from "prosemirror-schema-basic";
import { addListNodes } from "prosemirror-schema-list";
import { EditorState } from "prosemirror-state";
import { EditorView } from "prosemirror-view";
import { IndexeddbPersistence } from "y-indexeddb";
import {
  defaultCursorBuilder, defaultSelectionBuilder, redo, undo, yCursorPlugin, ySyncPlugin, yUndoPlugin,
} from "y-prosemirror";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { relay, room, showHead, userOf } from "../page";

const doc = new Y.Doc();
const provider = new WebsocketProvider(`${relay}/y`, encodeURIComponent(room), doc);
const stored = new IndexeddbPersistence(`${relay}/y/${room}`, doc);

// All programs that open a room need one schema: what is not in theirs, y-prosemirror deletes.
const schema = new Schema({
  nodes: addListNodes(basic.spec.nodes, "paragraph block*", "block"),
  marks: basic.spec.marks,
});
const { inlineMenu, blockMenu, typeMenu } = buildMenuItems(schema);
const history = [
  new MenuItem({ title: "Undo", icon: icons.undo, run: undo }),
  new MenuItem({ title: "Redo", icon: icons.redo, run: redo }),
];

new EditorView(document.querySelector("#editor"), {
  state: EditorState.create({
    schema,
    plugins: [
      ySyncPlugin(doc.getXmlFragment("prosemirror")),
      yCursorPlugin(provider.awareness, {
        cursorBuilder: (user) => defaultCursorBuilder(userOf(user)),
        selectionBuilder: (user) => defaultSelectionBuilder(userOf(user)),
      }),
      yUndoPlugin(), // of this user's edits only, which prosemirror-history cannot tell
      keymap({ "Mod-z": undo, "Mod-y": redo, "Mod-Shift-z": redo }),
      ...exampleSetup({ schema, history: false, menuContent: [...inlineMenu, [typeMenu], history, ...blockMenu] }),
    ],
  }),
  attributes: { "aria-label": "Shared document", "aria-multiline": "true", role: "textbox" },
});
showHead(provider, stored);
