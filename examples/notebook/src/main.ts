/** The page: opens the room from this browser's store, and puts everything in its place. */

import { open, StorageUnavailable, type Client, type Room } from "collab-sync";

import { ChatPanel } from "./chatPanel.js";
import { button, make, say } from "./dom.js";
import { NotANotebook, read, take, write } from "./interchange.js";
import { Notebook } from "./notebook.js";
import { NotebookView } from "./notebookView.js";
import { People } from "./people.js";
import { PeopleView } from "./peopleView.js";
import { Rescue } from "./rescue.js";
import { isOfflineByChoice, StatusBar } from "./statusBar.js";
import { Toast } from "./toast.js";

const WORKER = "/sw.js";
const ROOM = new URLSearchParams(location.search).get("room") ?? "notebook";

async function start(): Promise<void> {
  const keeping = keepPage();
  const relay = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}`;
  const client = await open({ name: "notebook", relay });
  if (isOfflineByChoice()) client.goOffline();
  const room = await client.room(ROOM);
  build(client, room, keeping);
}

function build(client: Client, room: Room, keeping: Promise<boolean>): void {
  const notebook = new Notebook(room.doc);
  const people = new People(room.awareness);
  const toast = new Toast();
  const rescued = make("div", { class: "rescued", role: "status", tabindex: "-1" });
  const rescue = new Rescue(
    notebook,
    `notebook:rescue:${ROOM}`,
    () => view.writingIn,
    () => showRescued(),
  );
  const view = new NotebookView(notebook, {
    awareness: room.awareness,
    people,
    rescue,
    cellTaken: () => {
      toast.show("Somebody took away the cell that you were in.");
      const last = rescued.lastElementChild;
      (last instanceof HTMLElement ? last : rescued).focus();
    },
    toast: (text, act) => toast.show(text, act),
  });
  const peopleView = new PeopleView(people);
  const bar = new StatusBar(client, room);
  const chat = new ChatPanel(room.chat, {
    draftKey: `notebook:draft:${ROOM}`,
    get name() {
      return people.name;
    },
    toast: (text) => toast.show(text),
  });

  const showRescued = (): void => {
    rescued.replaceChildren(
      ...rescue.list.map((one) =>
        make(
          "div",
          { class: "notice", tabindex: "-1" },
          make("p", { text: "Somebody moved or deleted a cell while you wrote in it. You had:" }),
          make("pre", { text: one.text }),
          button("Add it as a cell", "Add it as a cell", () => {
            view.addBelow(one.type, one.text);
            rescue.settle(one);
          }),
          button("Let it go", "Let it go", () => rescue.settle(one)),
        ),
      ),
    );
  };
  showRescued();

  addEventListener("beforeunload", (event) => {
    if (!room.status.saved) event.preventDefault(); // the browser asks whether to leave
  });
  // "Undo" takes back the last step, whichever that is.
  for (const event of ["stack-item-added", "stack-item-popped"] as const) {
    notebook.undo.on(event, () => toast.outdated());
  }
  room.observe((status) => {
    if (status.synced) rescue.synced();
  });
  room.awareness.on("change", () => {
    peopleView.show();
    view.peopleChanged();
  });
  const header = make(
    "header",
    { class: "top" },
    make("h1", { text: "Notebook" }),
    make("div", { class: "files", role: "group", "aria-label": "File" }, ...files(notebook, view, toast)),
    peopleView.element,
    chat.opener,
  );
  view.element.prepend(rescued);
  void keeping.then((isOurs) => {
    if (isOurs) return;
    const text =
      "Another program answers at this address now, and a reload shows it. What you wrote here stays in " +
      "this browser; the notebook has it again once it is served at this address.";
    rescued.before(make("div", { class: "notice", role: "alert" }, make("p", { text })));
  });
  document.body.replaceChildren(header, view.element, chat.element, toast.element, bar.element);
}

/** Buttons that read and write `.ipynb` files of the user's choice. */
function files(notebook: Notebook, view: NotebookView, toast: Toast): HTMLElement[] {
  const input = make("input", { type: "file", accept: ".ipynb,application/json", hidden: true });
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    input.value = "";
    if (file === undefined) return;
    void file.text().then((text) => {
      try {
        take(notebook, read(text));
        toast.show(`${file.name} is here now.`, { label: "Undo", does: () => view.undo() });
      } catch (error) {
        if (!(error instanceof NotANotebook)) throw error;
        toast.show(error.message);
      }
    }, () => toast.show(`${file.name} could not be read. Nothing was changed.`));
  });
  const save = (): void => {
    const url = URL.createObjectURL(new Blob([write(notebook)], { type: "application/x-ipynb+json" }));
    make("a", { href: url, download: `${ROOM.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.ipynb` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  };
  return [
    input,
    button("Open file", "Open a notebook file", () => input.click()),
    button("Save file", "Save as a notebook file", save),
  ];
}

/**
 * Have the service worker keep the page itself for when there is no network. False: this address is
 * another program's now, which nobody would see if the worker stayed; so it goes. A network's sign-in
 * page cannot pass for that: a worker needs https or this machine, where it answers for nobody.
 */
async function keepPage(): Promise<boolean> {
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  const answer = await fetch(WORKER, { cache: "no-store" }).catch(() => null);
  if (workers === undefined || answer === null) return true;
  const isScript = answer.headers.get("content-type")?.includes("javascript") === true;
  if (answer.ok && isScript) {
    await workers.register(WORKER, { updateViaCache: "none" }).catch(() => undefined); // the next time
    return true;
  }
  if (!answer.ok && ![404, 410].includes(answer.status)) return true; // whose it is cannot be said
  await (await workers.getRegistration("/"))?.unregister();
  return false;
}

start().catch((error: unknown) => {
  const why = error instanceof Error ? error.message : String(error);
  const what =
    error instanceof StorageUnavailable
      ? "This browser gives the page no storage, so nothing could be kept here, and nothing was opened."
      : "The notebook could not be opened.";
  const told = make("main", { class: "failed", role: "alert" }, make("h1", { text: what }));
  told.append(make("p"));
  say(told.lastElementChild as Element, why);
  document.body.replaceChildren(told);
  throw error;
});
