/** Whether somebody else answers at the relay's address. */

import { hex, randomBytes } from "./bytes.js";

const TIMEOUT_MS = 5_000;

/** Ask `base` (http or https) for a fresh nonce. Only the relay itself can give it back. */
export async function isSomebodyElse(base: string, signal: AbortSignal): Promise<boolean> {
  const nonce = hex(randomBytes(16));
  try {
    const response = await fetch(`${base}/probe?nonce=${nonce}`, {
      cache: "no-store",
      credentials: "omit",
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    const body = (await response.json().catch(() => null)) as { readonly nonce?: unknown } | null;
    return !response.ok || body?.nonce !== nonce;
  } catch {
    return false; // nobody, or an answer that this page may not read, which says as little
  }
}
