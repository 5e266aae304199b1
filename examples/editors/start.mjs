// Serves the pages, built anew for each request, and runs a relay for them.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { context } from "esbuild";
import { EDITORS, options } from "./build.mjs";

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !EDITORS.includes(name));
if (unknown !== undefined) {
  console.error(`There is no ${unknown} here. Name one of these, or none: ${EDITORS.join(", ")}.`);
  process.exit(2);
}
const { PORT = "8000", RELAY_PORT = "8765", DATA = join(import.meta.dirname, "data") } = process.env;
const origin = `http://127.0.0.1:${PORT}`;

const building = await context({ ...options, write: false, logLevel: "warning" });
await building.serve({ host: "127.0.0.1", port: Number(PORT), servedir: options.outdir }).catch((error) => {
  console.error(`The pages cannot be served at ${origin}: ${error.message}. Nothing was started.`);
  console.error("Choose another port: PORT=8001 npm start");
  process.exit(1);
});

// A relay lets in only pages whose origin it was told.
const made = join(import.meta.dirname, "../../.venv/bin/collab"); // by make
const program = existsSync(made) ? made : "collab";
const relay = spawn(
  program,
  ["serve", "--open", "--port", RELAY_PORT, "--origin", origin, "--data", DATA],
  { stdio: ["ignore", "pipe", "inherit"] },
);
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => relay.kill("SIGTERM"));
relay.on("error", () => {
  console.error(`There is no program ${program}. Install it: pip install ../.. (Python 3.11 or newer).`);
  process.exit(1);
});
relay.on("exit", (code) => {
  if (code !== 0) console.error("The relay has ended. For another port: RELAY_PORT=8766 npm start");
  process.exit(code ?? 1);
});
createInterface({ input: relay.stdout }).on("line", (line) => {
  const address = line.match(/^relay: (.+)/)?.[1];
  if (address === undefined) return console.log(line);
  for (const name of wanted.length > 0 ? wanted : EDITORS) {
    console.log(`${name}: ${origin}/${name}/?relay=${address}&room=design`);
  }
  console.log(`Open it in two windows. Ctrl-C ends it; what was written stays in ${DATA}.`);
});
