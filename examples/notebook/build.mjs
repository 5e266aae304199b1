// Builds the page into collab/notebook/static, where it is committed: neither pip nor `collab demo`
// needs Node. The same sources give the same bytes, so nothing here depends on time or place.
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const into = process.argv[2] ?? `${here}../../collab/notebook/static`;
const PAGE = ["index.html", "app.css", "icon.svg", "app.js"];

rmSync(into, { recursive: true, force: true });
mkdirSync(into, { recursive: true });
const options = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  // The browser client's sources stand for its package, and share these libraries with the page:
  // two copies of Yjs do not know each other's types.
  alias: {
    "collab-sync": "../../browser/src/index.ts",
    lib0: "lib0",
    "y-protocols": "y-protocols",
    yjs: "yjs",
  },
};
await build({ ...options, entryPoints: ["src/main.ts"], outfile: `${into}/app.js` });
for (const name of ["index.html", "app.css", "icon.svg"]) cpSync(`${here}src/${name}`, `${into}/${name}`);

// The service worker keeps what it was built with: another content is another version.
const digest = createHash("sha256");
const digests = {};
for (const name of PAGE) {
  const content = readFileSync(`${into}/${name}`);
  digest.update(content);
  digests[name === "index.html" ? "/" : `/${name}`] = createHash("sha256").update(content).digest("hex");
}
const version = digest.digest("hex").slice(0, 16);
await build({
  ...options,
  format: "iife",
  entryPoints: ["worker/sw.ts"],
  outfile: `${into}/sw.js`,
  define: { VERSION: JSON.stringify(version), DIGESTS: JSON.stringify(digests) },
});

const script = readFileSync(`${into}/app.js`);
console.log(
  `app.js: ${script.length} bytes, ${gzipSync(script, { level: 9 }).length} gzipped; version ${version}`,
);
