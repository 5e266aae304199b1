/** What the status bar says of this device's work: where it is, and what waits. */

import type { ConnectionStatus, Status } from "collab-sync";

/** `mood` is for the colour; `text` says everything without it. */
export interface Said {
  readonly mood: "good" | "busy" | "away" | "captive" | "bad";
  readonly text: string;
  readonly detail: string;
}

/** What to say of a room and of the connection. */
export function say(
  status: Omit<Status, "gaps" | "lastSaved">,
  connection: Pick<ConnectionStatus, "state" | "reason">,
): Said {
  const waits = waiting(status.pendingUpdates, status.pendingMessages);
  const detail = connection.reason;
  if (!status.saved) {
    if (status.error !== null) return { mood: "bad", text: "Not saved", detail: status.error.message };
    return { mood: "busy", text: "Saving…", detail };
  }
  const trouble = status.refused ?? status.error?.message ?? null;
  if (trouble !== null) return { mood: "bad", text: "Saved on this device, not synced", detail: trouble };
  switch (connection.state) {
    case "live":
    case "syncing":
      if (waits !== "") return { mood: "busy", text: `Saved on this device: ${waits}`, detail };
      if (status.synced) return { mood: "good", text: "Synced", detail };
      return { mood: "busy", text: "Saved on this device, catching up", detail };
    case "captive":
      return {
        mood: "captive",
        text: `A network sign-in page is in the way: ${waits || "saved on this device"}`,
        detail: "Open any web page to sign in. Everything goes on here meanwhile.",
      };
    case "suspended":
      return {
        mood: "away",
        text: `Working offline: ${waits || "saved on this device"}`,
        detail: "You chose so. It stays, over a reload too, until you turn it off.",
      };
    case "failed":
      return { mood: "bad", text: `Disconnected: ${waits || "saved on this device"}`, detail };
    default:
      return { mood: "away", text: `Offline: ${waits || "saved on this device"}`, detail };
  }
}

function waiting(changes: number, messages: number): string {
  const parts = [counted(changes, "change"), counted(messages, "message")].filter((part) => part !== "");
  if (parts.length === 0) return "";
  return `${parts.join(" and ")} ${changes + messages === 1 ? "waits" : "wait"}`;
}

function counted(count: number, thing: string): string {
  return count === 0 ? "" : `${count} ${thing}${count === 1 ? "" : "s"}`;
}
