/** The page around an editor: its address, who is here, and how the connection stands. */

import type { IndexeddbPersistence } from "y-indexeddb";
import { readAuthMessage } from "y-protocols/auth";
import { messageAuth, type WebsocketProvider } from "y-websocket";

const COLOURS = ["#1f77b4", "#b5460f", "#2b8a3e", "#a3328a", "#6741d9", "#0b7285", "#a8071a", "#7a5c00"];
const asked = new URLSearchParams(location.search);

export interface User {
  readonly name: string;
  readonly color: string; // the name of this field is that of all Yjs bindings
}

/** `?relay=…&room=…&name=…` */
export const relay = asked.get("relay") || "ws://127.0.0.1:8765";
export const room = asked.get("room") || "design";
export const me: User = {
  name: asked.get("name") || `Guest ${100 + Math.floor(Math.random() * 900)}`,
  color: COLOURS[Math.floor(Math.random() * COLOURS.length)] as string,
};
export const isDark = matchMedia("(prefers-color-scheme: dark)").matches;

/** Somebody's `user` in awareness. Their program wrote it: it may be anything, and goes into CSS. */
export function userOf(said: unknown): User {
  const { name, color } = (said ?? {}) as Partial<Record<keyof User, unknown>>;
  return {
    name: typeof name === "string" && name.trim() !== "" ? [...name].slice(0, 40).join("") : "Somebody",
    color: typeof color === "string" && /^#[0-9a-f]{6}$/i.test(color) ? color : "#62676f",
  };
}

/** Fill the head of the page, and keep it true. */
export function showHead(provider: WebsocketProvider, stored: IndexeddbPersistence): void {
  const { awareness } = provider;
  document.querySelector("header")!.innerHTML = `
    <h1></h1>
    <form>
      <input type="hidden" name="relay">
      <label>Room <input name="room" required maxlength="200"></label>
      <label>Your name <input name="name" required maxlength="40"></label>
    </form>
    <ul aria-label="Who is here"></ul>
    <button role="switch" aria-checked="false">Work offline</button>
    <p role="status"></p>`;
  const find = <E extends HTMLElement>(what: string) => document.querySelector<E>(`header ${what}`)!;
  find("h1").textContent = document.title;

  const form = find<HTMLFormElement>("form");
  for (const [name, value] of Object.entries({ relay, room, name: me.name })) {
    (form.elements.namedItem(name) as HTMLInputElement).value = value;
  }
  form.addEventListener("change", () => form.requestSubmit()); // it leads to the address that it says

  const showPeople = () => {
    const people = [...awareness.getStates()].map(([client, state]) => {
      const item = document.createElement("li");
      const { name, color } = userOf(state.user);
      item.textContent = client === awareness.clientID ? `${name} (you)` : name;
      item.style.setProperty("--colour", color);
      return item;
    });
    find("ul").replaceChildren(...people);
  };
  awareness.on("change", showPeople);
  awareness.setLocalStateField("user", me);

  let kept = "in this tab only";
  let refused = "";
  const offline = find("[role=switch]");
  const showState = () => {
    const isOnline = provider.wsconnected && provider.synced;
    offline.ariaChecked = String(!provider.shouldConnect);
    document.body.dataset.state = refused ? "refused" : isOnline ? "online" : "offline";
    find("[role=status]").textContent = refused
      ? `The relay refuses: ${refused}. What you write is kept ${kept}.`
      : isOnline
        ? "Online"
        : `Offline. What you write is kept ${kept} and sent later.`;
  };
  stored.whenSynced.then(() => {
    kept = "in this browser";
    showState();
  });
  offline.addEventListener("click", () => {
    refused = "";
    if (provider.shouldConnect) provider.disconnect();
    else provider.connect();
    showState();
  });
  provider.on("status", ({ status }) => {
    // Clocks of awareness outlive a connection: without this, who was here before and after would
    // not be seen again for up to 15 seconds, until each program renews what it says.
    if (status === "connected") awareness.setLocalState(awareness.getLocalState());
    if (status === "disconnected") {
      for (const client of awareness.meta.keys()) {
        if (client !== awareness.clientID) awareness.meta.delete(client);
      }
    }
    showState();
  });
  provider.on("sync", showState);
  provider.on("closed", ({ code, reason }) => {
    refused = reason || `close code ${code}`; // 44xx: the provider does not come back by itself
    showState();
  });
  // An update that is not taken in is told as a message, which the provider only logs.
  provider.messageHandlers[messageAuth] = (_answer, message) =>
    readAuthMessage(message, provider.doc, (_doc, reason) => {
      refused = reason;
      showState();
    });
  showState();
}
