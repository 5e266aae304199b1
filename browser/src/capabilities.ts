/** What works in which state of the connection: the table of `collab/capabilities.py`. */

import type { ConnectionStatus } from "./connection.js";

const AVAILABILITY = {
  A: "available", // all of it
  Q: "queued", // what is done is kept on this device, and done at the relay later
  C: "cached", // what is on this device already
  U: "unavailable", // nothing; asking for it does not queue it
} as const;

type Letter = keyof typeof AVAILABILITY;
export type Availability = (typeof AVAILABILITY)[Letter];

/** How a feature is now, and why: how the connection stands, in most cases. README says more. */
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

/** Why, where a connection has no part in it. */
const APART: Readonly<Record<string, string>> = {
  AAAA: "it needs no network",
  UUUU: "collab carries none",
};

export type Capabilities = Readonly<Record<keyof typeof FEATURES, Capability>>;

/** Every feature as it is while the connection is like this; null: no relay is configured. */
export function capabilities(status: ConnectionStatus | null): Capabilities {
  const column = status === null ? 3 : ({ live: 0, syncing: 1 }[status.state as string] ?? 2);
  const why = status?.reason ?? "no relay is configured";
  const cells = Object.entries(FEATURES).map(([name, row]) => [
    name,
    { availability: AVAILABILITY[row[column] as Letter], why: APART[row] ?? why },
  ]);
  return Object.fromEntries(cells) as Capabilities;
}
