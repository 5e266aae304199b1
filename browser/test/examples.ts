/** The frames that PROTOCOL.md writes out, and what is said of each. Not a test. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { fromHex } from "../src/bytes.js";
import type { Kind } from "../src/protocol/frames.js";

export const TEXT = readFileSync(join(process.cwd(), "..", "PROTOCOL.md"), "utf8");

export const EXAMPLES = [...TEXT.matchAll(/^```hex (\w+)\n([\s\S]*?)\n\n([\s\S]*?)^```$/gm)].map(
  ([, name = "", digits = "", written = ""]) => ({
    kind: name.toLowerCase() as Kind,
    data: fromHex(digits.replace(/\s/g, "")),
    values: written
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ = (.*)/s))
      .map(([field = "", value = ""]) => [camel(field), valueOf(value)] as const),
  }),
);

function camel(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function valueOf(written: string): unknown {
  const digits = /^h'([0-9a-f]*)'$/.exec(written)?.[1];
  return digits === undefined ? JSON.parse(written) : fromHex(digits);
}

/** What only a device may send. */
export const FROM_DEVICE: readonly string[] = [...TEXT.matchAll(/^### \d+ (\w+), device$/gm)].map(
  ([, name = ""]) => name.toLowerCase(),
);
