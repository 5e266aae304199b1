// Builds dist/: one ES module without yjs and lib0, and its types. Fails above the size that we promise.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const MAX_GZIPPED = 25 * 1024;

// Deflate finds what is alike within 32 KB only, so modules that are alike stand near each other. This
// order was found by trying many; it saves 240 bytes, changes nothing else, and need not be complete.
const ORDER = `
  storage/database protocol/msgpack storage/messages storage/messageActs capabilities chat bytes
  message protocol/members payload protocol/requests protocol/backoff protocol/outgoing roomChat
  errors protocol/gaps protocol/chatSync probe storage/documents roomSync room live
  protocol/messages events replica limits protocol/documentSync link tabs/hints protocol/frames
  tabs/locks leader members storage/chatRows clock client connection protocol/codec
`;
const inOrder = ORDER.trim().split(/\s+/).map((name) => `import "./${name}.js";`);

rmSync("dist", { recursive: true, force: true });
const built = await build({
  stdin: {
    contents: [...inOrder, 'export * from "./index.js";'].join("\n"),
    resolveDir: "src",
    loader: "ts",
  },
  ignoreAnnotations: true, // "sideEffects": false would drop those imports, and the order with them
  outfile: "dist/index.js",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
  // Yjs brings lib0 itself, and would have a second copy of it in the page.
  external: ["yjs", "lib0/*"],
  mangleProps: new RegExp(`^(${privateNames().join("|")})$`),
  write: false,
});
const [map, module] = built.outputFiles.map((file) => file.text);
// What esbuild leaves is a few percent more than need be.
const smaller = await minify(module, {
  module: true,
  compress: {
    ecma: 2020,
    passes: 3,
    lhs_constants: false,
    pure_getters: true,
    unsafe_arrows: true,
    unsafe_comps: true,
    unsafe_methods: true,
  },
  sourceMap: { content: map, url: "index.js.map" },
});
execFileSync("npx", ["tsc"], { stdio: "inherit" });
writeFileSync("dist/index.js", smaller.code);
writeFileSync("dist/index.js.map", smaller.map);
const bytes = readFileSync("dist/index.js");
const gzipped = gzipSync(bytes, { level: 9 }).length;
console.log(`dist/index.js: ${bytes.length} bytes, ${gzipped} gzipped, without yjs and its lib0`);
if (gzipped > MAX_GZIPPED) {
  console.error(`above ${MAX_GZIPPED} bytes gzipped`);
  process.exit(1);
}

/**
 * Names that a private member has and nothing else: they may be shortened. One that occurs in any
 * other way, as a field of a row or of a frame may, or as anything in what we import, keeps its name.
 */
function privateNames() {
  const sources = readdirSync("src", { recursive: true }).filter((name) => name.endsWith(".ts"));
  const ours = sources.map((name) => readFileSync(`src/${name}`, "utf8")).join("\n");
  const code = ours.replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
  const theirs = readFileSync("node_modules/y-protocols/awareness.js", "utf8");
  const isPrivate = /\bprivate (?:readonly |async |get )*(\w+)|\bthis\.(\w+)|\bconst \{([^}]*)\} = this;/g;
  const uses = new Map();
  for (const [word] of code.matchAll(/\w+/g)) uses.set(word, (uses.get(word) ?? 0) + 1);
  const declared = new Set();
  for (const [, name, used, taken] of code.matchAll(isPrivate)) {
    if (name !== undefined) declared.add(name);
    const words = name !== undefined ? [name] : used !== undefined ? [used] : taken.split(/\W+/);
    for (const word of words) uses.set(word, (uses.get(word) ?? 0) - 1);
  }
  return [...declared].filter((name) => uses.get(name) === 0 && !theirs.includes(name));
}
