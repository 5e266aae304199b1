/** Small things about bytes. What is in lib0, which comes with Yjs, is not made anew. */

import { equalFlat } from "lib0/array";
import { encodeUtf8 } from "lib0/string";

export { encodeUtf8 };
export { fromHexString as fromHex, toHexString as hex } from "lib0/buffer";

/** Whether two byte strings are equal. */
export function isEqual(one: Uint8Array | null, other: Uint8Array | null): boolean {
  if (one === null || other === null) return one === other;
  return equalFlat(one, other);
}

/** How many bytes text has in UTF-8. */
export function sizeOf(text: string): number {
  return encodeUtf8(text).length;
}

/** Fresh random bytes. */
export function randomBytes(count: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(count));
}
