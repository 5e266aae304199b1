import Quill from "quill";
import QuillCursors from "quill-cursors";
import { IndexeddbPersistence } from "y-indexeddb";
import { QuillBinding } from "y-quill";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";
import { relay, room, showHead } from "../page";

const doc = new Y.Doc();
const provider = new WebsocketProvider(`${relay}/y`, encodeURIComponent(room), doc);
const stored = new IndexeddbPersistence(`${relay}/y/${room}`, doc);

Quill.register("modules/cursors", QuillCursors);
const quill = new Quill("#editor", {
  theme: "snow",
  modules: {
    cursors: true,
    history: { userOnly: true }, // undo takes back this user's edits, not other people's
    toolbar: [
      [{ header: [1, 2, false] }],
      ["bold", "italic", "underline", "code", "link"],
      [{ list: "ordered" }, { list: "bullet" }, "blockquote", "code-block"],
      ["clean"],
    ],
  },
});
quill.root.role = "textbox";
quill.root.ariaMultiLine = "true";
quill.root.ariaLabel = "Shared document";

new QuillBinding(doc.getText("quill"), quill, provider.awareness);
showHead(provider, stored);
