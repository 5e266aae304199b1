/** What works in which state of the connection: the table of `collab/capabilities.py`, word by word. */

import type { State } from "./connection.js";

/** `queued`: done here, and at the relay later; `cached`: what is here already is shown. */
export type Availability = "available" | "queued" | "cached" | "unavailable";

/** How a feature is now, and why: a sentence for people. */
export interface Capability {
  readonly availability: Availability;
  readonly why: string;
}

type Row =
  | readonly [always: string]
  | readonly [live: string, syncing: string, away: string, alone: string];

/** How each feature is when live, while rooms catch up, in any other state, and without a relay. */
const FEATURES = {
  documents: [
    "available|edits are saved on this device and go up as they are made",
    "available|edits are saved on this device and go up once their room is open",
    "queued|edits are saved on this device and go up later",
    "available|edits are saved on this device; no relay is configured",
  ],
  "others' edits": [
    "available|they come as they are made",
    "cached|what came so far is here, and the rest is on its way",
    "cached|what came so far is here",
    "unavailable|no relay is configured",
  ],
  messages: [
    "available|they are saved on this device and go up at once, in order",
    "available|they are saved on this device and go up once their room is open",
    "queued|they are saved on this device and go up later, once and in order",
    "queued|they are saved on this device; no relay is configured",
  ],
  history: [
    "available|what is not on this device is fetched",
    "cached|what is on this device is here, and what was missed is on its way",
    "cached|what is on this device is here; gaps are shown, and filled later",
    "cached|what was written on this device is here; no relay is configured",
  ],
  receipts: [
    "available|others see how far you are, and you see how far they are",
    "available|they come and go, in rooms that are open",
    "queued|how far you read is saved on this device and told later",
    "cached|how far you read is saved on this device; no relay is configured",
  ],
  membership: [
    "available|members and their roles are listed and can be changed",
    "available|members are listed and can be changed, in rooms that are open",
    "cached|who was a member is here; changes need a connection",
    "unavailable|no relay is configured",
  ],
  broadcasts: [
    "available|they reach whoever is here now",
    "available|they reach whoever is here now, in rooms that are open",
    "unavailable|they need a connection and are never queued",
    "unavailable|no relay is configured",
  ],
  "calls to services": [
    "available|the relay's services answer: captions, recognition, moderation",
    "available|the relay's services answer, in rooms that are open",
    "unavailable|they need a connection and are never queued",
    "unavailable|no relay is configured",
  ],
  presence: [
    "available|others see you and you see them",
    "available|others see you and you see them, in rooms that are open",
    "unavailable|nobody is seen; what you set is announced when rooms are open again",
    "unavailable|no relay is configured",
  ],
  undo: ["available|it needs no network"],
  files: ["unavailable|collab carries none; send where they are to be had"],
  "audio and video": ["unavailable|collab carries none"],
} as const satisfies Readonly<Record<string, Row>>;

/** What follows in the other states, where a connection has a part in it. */
export const AWAY: Readonly<Record<Exclude<State, "live" | "syncing">, string>> = {
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
  const told: Record<string, Capability> = {};
  for (const [name, row] of Object.entries<Row>(FEATURES)) {
    const [live, syncing = live, away = live, alone = live] = row;
    let said = live;
    if (state === null) said = alone;
    else if (state === "syncing") said = syncing;
    else if (state !== "live" && away !== live) said = `${away}: ${AWAY[state]}`;
    const [availability, why = ""] = said.split("|");
    told[name] = { availability: availability as Availability, why };
  }
  return told as Capabilities;
}
