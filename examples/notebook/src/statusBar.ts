/** The bar at the foot of the page: what is saved and synced, and the switch that works offline. */

import type { Client, Room } from "collab-sync";

import { button, make, say as put } from "./dom.js";
import { say } from "./status.js";

const CHOSEN = "notebook:offline"; // there while the user wants to work offline
const ANNOUNCE_AFTER_MS = 1_000; // what changes back within it need not be heard

/** Whether the user chose to work offline, in this browser, and has not taken it back. */
export const isOfflineByChoice = (): boolean => localStorage.getItem(CHOSEN) !== null;

export class StatusBar {
  readonly element: HTMLElement;
  private readonly text = make("span", { class: "status-text", id: "status" });
  private readonly detail = make("span", { class: "status-detail" });
  private readonly heard = make("span", { class: "heard", role: "status", "aria-live": "polite" });
  private readonly now: HTMLButtonElement;
  private readonly offline: HTMLButtonElement;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private mood = "";

  constructor(
    private readonly client: Client,
    private readonly room: Room,
  ) {
    this.now = button("Try now", "Try to connect now", () => client.connect());
    this.offline = button("Work offline", "Work offline", () => this.flip(), { role: "switch" });
    const words = make("p", {}, make("span", { class: "dot" }), this.text, this.detail);
    this.element = make("footer", { class: "status" }, words, this.heard, this.now, this.offline);
    client.observe(() => this.show());
    room.observe(() => this.show());
    this.show();
  }

  /** Say how things stand now. */
  show(): void {
    const { state } = this.client.connection;
    const said = say(this.room.status, this.client.connection);
    put(this.text, said.text);
    put(this.detail, said.mood === "good" ? "" : said.detail);
    this.element.dataset["mood"] = said.mood;
    this.offline.setAttribute("aria-checked", String(state === "suspended"));
    this.now.hidden = !["offline", "captive", "failed"].includes(state);
    if (said.mood === this.mood) return;
    this.mood = said.mood;
    if (said.mood === "busy") return; // each key would be heard
    clearTimeout(this.timer);
    this.timer = setTimeout(() => put(this.heard, this.text.textContent ?? ""), ANNOUNCE_AFTER_MS);
  }

  private flip(): void {
    if (this.client.connection.state === "suspended") {
      localStorage.removeItem(CHOSEN);
      this.client.goOnline();
    } else {
      localStorage.setItem(CHOSEN, "1");
      this.client.goOffline();
    }
  }
}
