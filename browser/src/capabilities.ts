/** What works in which state of the connection: the table of `collab/capabilities.py`. */

import type { State } from "./connection.js";

const AVAILABILITY = {
  A: "available", // all of it
  Q: "queued", // what is done is kept on this device, and done at the relay later
  C: "cached", // what is on this device already
  U: "unavailable", // nothing; asking for it does not queue it
} as const;

type Letter = keyof typeof AVAILABILITY;
export type Availability = (typeof AVAILABILITY)[Letter];

/** How a feature is now; `why` is a sentence for people, of the connection. README says more. */
export interface Capability {
  readonly availability: Availability;
  readonly why: string;
}

/** How each feature is when live, while rooms catch up, in any other state, and without a relay. */
const FEATURES = {
  documents: "AAQA",
  "others' edits": "ACCU",
  messages: "AAQQ",
  history: "ACCC",
  receipts: "AAQC",
  membership: "AACU",
  broadcasts: "AAUU",
  "calls to services": "AAUU",
  presence: "AAUU",
  undo: "AAAA",
  files: "UUUU",
  "audio and video": "UUUU",
} as const satisfies Readonly<Record<string, `${Letter}${Letter}${Letter}${Letter}`>>;

/** What there is to say of a state. */
export const STATES: Readonly<Record<State, string>> = {
  live: "every open room has caught up",
  syncing: "rooms are catching up",
  offline: "the relay cannot be reached",
  connecting: "the connection is being made",
  probing: "the connection is being looked into",
  captive: "somebody else answers for the relay; log in to the network",
  suspended: "the program suspended the connection",
  failed: "the relay ended the connection for good; client.connection says why",
};

export type Capabilities = Readonly<Record<keyof typeof FEATURES, Capability>>;

/** Every feature as it is in `state`; null: no relay is configured. */
export function capabilities(state: State | null): Capabilities {
  const why = state === null ? "no relay is configured" : STATES[state];
  const column = state === null ? 3 : state === "live" ? 0 : state === "syncing" ? 1 : 2;
  const cells = Object.entries(FEATURES).map(([name, row]) => [
    name,
    { availability: AVAILABILITY[row[column] as Letter], why },
  ]);
  return Object.fromEntries(cells) as Capabilities;
}
