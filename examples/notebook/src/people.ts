/**
 * Who is here. Everything in presence was written by others, so it is checked here: names are cut,
 * colours are ours.
 */

import type { Awareness } from "y-protocols/awareness";

const NAME_LENGTH = 40;
const COLOURS = ["#1f77b4", "#b5460f", "#2b8a3e", "#a3328a", "#6741d9", "#0b7285", "#a8071a", "#7a5c00"];
const KEPT_NAME = "notebook:name";
const MAX_WISHES = 16; // asked of a kernel and kept in presence; it has taken the older ones

export interface Person {
  readonly client: number;
  readonly name: string;
  readonly colour: number;
  /** The id of the cell that they are in; "" if they say none. */
  readonly cell: string;
  /** Whether it runs code for others, and what it runs now: the id of a cell, or "". */
  readonly isKernel: boolean;
  readonly running: string;
  /** Ids of cells that a kernel will run. */
  readonly queue: readonly string[];
  readonly isMe: boolean;
}

/** A name as it is shown: one line, not too long, nothing that turns the text around. */
export function cleanName(given: unknown): string {
  if (typeof given !== "string") return "";
  const line = given.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, " ").replace(/\s+/g, " ").trim();
  return [...line].slice(0, NAME_LENGTH).join("");
}

/** The number of a name's colour, from 0 to 7: the same in every browser. */
export function colourNumberOf(name: string): number {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return sum % COLOURS.length;
}

export class People {
  private wishes: readonly object[] = [];
  private asking = Promise.resolve();

  constructor(private readonly awareness: Awareness) {
    const kept = cleanName(localStorage.getItem(KEPT_NAME));
    this.name = kept === "" ? `Guest ${100 + Math.floor(Math.random() * 900)}` : kept;
  }

  get name(): string {
    const state = this.awareness.getLocalState() as { user?: { name?: unknown } } | null;
    return cleanName(state?.user?.name);
  }

  set name(given: string) {
    const name = cleanName(given);
    if (name === "") return;
    localStorage.setItem(KEPT_NAME, name);
    const colour = COLOURS[colourNumberOf(name)] as string; // for other editors; ours choose anew
    this.awareness.setLocalStateField("user", { name, color: colour, colorLight: `${colour}33` });
  }

  /** Say which cell this user is in. */
  enter(cell: string): void {
    const state = this.awareness.getLocalState() as { cell?: unknown } | null;
    if (state?.cell !== cell) this.awareness.setLocalStateField("cell", cell);
  }

  /** Everybody, this user first. */
  list(): Person[] {
    const found = [...this.awareness.getStates()].map(([client, state]) => this.person(client, state));
    return found.sort((a, b) => Number(b.isMe) - Number(a.isMe) || a.name.localeCompare(b.name));
  }

  /** Whether somebody runs code here. */
  get kernel(): Person | null {
    return this.list().find((person) => person.isKernel) ?? null;
  }

  /** Whether somebody else is in a cell now. */
  isBusy(cell: string): boolean {
    return this.list().some((person) => !person.isMe && person.cell === cell);
  }

  /**
   * Ask the kernel in the room to run a cell, as in `collab.notebook.requests`. Each request has a name,
   * so that it is done once; the digest keeps it from a source that is still on its way.
   */
  askToRun(cell: string, source: string): void {
    this.asking = this.asking.then(async () => {
      const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(source));
      const sha256 = [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      this.wishes = [...this.wishes, { cell, request: crypto.randomUUID(), sha256 }].slice(-MAX_WISHES);
      this.awareness.setLocalStateField("run", this.wishes);
    });
  }

  /** Ask the kernel to stop what it runs, and to forget what waits. */
  askToStop(): void {
    this.awareness.setLocalStateField("control", { act: "interrupt", request: crypto.randomUUID() });
  }

  private person(client: number, state: Record<string, unknown>): Person {
    const user = (state["user"] ?? {}) as Record<string, unknown>;
    const name = cleanName(user["name"]) || cleanName(state["name"]) || "Somebody";
    const { cell, queue, running } = state;
    return {
      client,
      name,
      colour: colourNumberOf(name),
      cell: typeof cell === "string" ? cell : "",
      isKernel: state["role"] === "kernel",
      running: typeof running === "string" ? running : "",
      queue: Array.isArray(queue) ? queue.filter((id) => typeof id === "string") : [],
      isMe: client === this.awareness.clientID,
    };
  }
}
