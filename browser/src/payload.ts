/** What a program gives of its own, as bytes: whatever throws here has stored and sent nothing. */

import { BadMessage, TooLarge } from "./errors.js";
import { pack } from "./protocol/msgpack.js";

export const UNTOUCHED = "Nothing was stored or sent.";

/** What msgpack can carry. Throws {@link BadMessage} and {@link TooLarge}; `what` names it. */
export function packed(value: unknown, most: number, what: string): Uint8Array {
  try {
    return bounded(pack(value), most, what);
  } catch (error) {
    if (error instanceof TooLarge) throw error;
    throw new BadMessage(`This ${what} cannot be packed: ${(error as Error).message}. ${UNTOUCHED}`);
  }
}

/** The bytes, if there are no more than `most`. Throws {@link TooLarge}. */
export function bounded(bytes: Uint8Array, most: number, what: string): Uint8Array {
  if (bytes.length <= most) return bytes;
  throw new TooLarge(
    `This ${what} has ${bytes.length} bytes, and may have ${most}. ${UNTOUCHED} Use the document.`,
  );
}
