// Builds the test page's script: the package and Yjs in one file. `node build.mjs OUT [dist]`: the
// package as it is published, in the place of its sources.
import { build } from "esbuild";

const [out, entry = "src"] = process.argv.slice(2);
await build({
  entryPoints: [new URL("harness.ts", import.meta.url).pathname],
  outfile: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  alias: { package: new URL(`../${entry}/index.${entry === "src" ? "ts" : "js"}`, import.meta.url).pathname },
});
