// Bundles the tests and runs them under Node's own runner.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
const tests = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
const into = mkdtempSync(join(tmpdir(), "collab-test-"));
try {
  await build({
    entryPoints: tests.map((name) => join(here, name)),
    outdir: into,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    sourcemap: "inline",
  });
  const files = tests.map((name) => join(into, name.replace(/\.ts$/, ".mjs")));
  const args = ["--enable-source-maps", "--test", ...files];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1;
} finally {
  rmSync(into, { recursive: true });
}
