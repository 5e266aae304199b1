/** How the chat says how things stand. Pure: what a message is comes in, words go out. */

import type { Gap, Message } from "collab-sync";

import { cleanName } from "./people.js";

const ANYBODY = "anybody-"; // how identities begin at a relay that lets everybody in
const TAG = 6; // characters of an identity beside a name that its owner chose

type Sent = Pick<Message, "isMine" | "state" | "replaced" | "reason" | "code" | "readBy" | "deliveredBy">;

/** Who wrote it. A name that its writer chose never stands without a part of the identity. */
export function senderOf(message: Pick<Message, "isMine" | "isSystem" | "sender" | "meta">): string {
  if (message.isSystem) return "relay";
  if (message.isMine) return "you";
  const identity = cleanName((message.sender ?? "?").replace(ANYBODY, ""));
  const name = cleanName(message.meta["name"]);
  return name === "" ? identity : `${name} (${identity.slice(0, TAG)})`;
}

/** How a message of ours stands; "" of what others wrote. */
export function standingOf(message: Sent): string {
  if (message.replaced) return "not in the relay's history any more";
  if (!message.isMine) return "";
  switch (message.state) {
    case "queued":
      return "waits on this device";
    case "sending":
      return "sending";
    case "accepted":
      return "sent";
    case "delivered":
      return message.deliveredBy > 1 ? `delivered to ${message.deliveredBy}` : "delivered";
    case "read":
      return message.readBy > 1 ? `read by ${message.readBy}` : "read";
    case "rejected":
      return `refused: ${cleanName(message.reason || message.code)}`;
    case "expired":
      return "not sent: its time was over";
    case "cancelled":
      return "taken back";
    case "stalled":
      return "given up for now";
  }
}

/** What is not on this device. */
export function missing(gap: Gap): string {
  const count = gap.high - gap.low + 1;
  const what = count === 1 ? "1 message is" : `${count} messages are`;
  return gap.lost ? `${what} gone: the relay keeps them no more` : `${what} not here`;
}
