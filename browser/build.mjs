// Builds dist/: one ES module without yjs and lib0, and its types. Fails above the size that we promise.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const MAX_GZIPPED = 25 * 1024;

// Deflate finds what is alike within 32 KB only, so modules that are alike stand near each other. This
// order was found by trying many; it saves 280 bytes, changes nothing else, and need not be complete.
const ORDER = `
  payload probe errors storage/database protocol/backoff protocol/members storage/messageActs
  storage/messages protocol/msgpack message chat protocol/outgoing capabilities live events
  protocol/messages roomChat protocol/chatSync storage/documents members replica link room clock
  protocol/requests storage/chatRows protocol/documentSync limits protocol/gaps protocol/frames
  roomSync bytes tabs/hints connection tabs/locks protocol/codec leader client
`;

// Members of ours, looked through by hand, that have the name of a variable too, or of something in the
// browser that we do not use. No program sees them, no other tab, no relay and no store.
const OURS = `
  advance alone announce answered append asked asks awaited backoff beganAnew begin between catchUp
  changes check closed closing compact control database deadline deleted detach detached fail failed
  failures frames hasContent hold isCaughtUp isClosed isEmpty isOpen isOver joining lead leader load
  look lose machine move moved nextFrame observers openRooms opening outgoing owner pause pending
  promised release requests reset show shown skipped slots socket source standing start take timer
  told turn unacked
`.trim().split(/\s+/);
const inOrder = ORDER.trim().split(/\s+/).map((name) => `import "./${name}.js";`);

const names = [...privateNames(), ...internalNames(), ...OURS];
const meant = namesBeyond().filter((name) => OURS.includes(name));
if (meant.length > 0) throw new Error(`not to be shortened: ${meant}`);

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
  mangleProps: new RegExp(`^(${names.join("|")})$`),
  write: false,
});
const [map, module] = built.outputFiles.map((file) => file.text);
// What esbuild leaves is a few percent more than need be.
const smaller = await minify(module, {
  module: true,
  compress: {
    ecma: 2020,
    passes: 3,
    reduce_funcs: false,
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
  const code = withoutComments(ours);
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

/**
 * Names that members of our classes have and nothing else, where no program sees them: in a module of
 * which the index shows nothing, or marked as internal. They may be shortened too, but for one that
 * anything in the browser has: it might be meant.
 */
function internalNames() {
  const index = readFileSync("src/index.ts", "utf8");
  const member = /^  ((?:(?:internal|private|override|static|readonly|async|get|set) )*)(\w+)[(<:=?!; ]/gm;
  const [declared, shown, uses] = [new Set(), new Set(), new Map()];
  const count = (word, more) => uses.set(word, (uses.get(word) ?? 0) + more);
  for (const name of readdirSync("src", { recursive: true }).filter((name) => name.endsWith(".ts"))) {
    const source = readFileSync(`src/${name}`, "utf8");
    const marked = source.replace(/\/\*\* @internal[^]*?\*\/\s*/g, "internal ");
    const code = withoutComments(marked);
    for (const [word] of code.matchAll(/\w+/g)) count(word, 1);
    for (const [, word] of code.matchAll(/(?<!\.)\.(\w+)/g)) count(word, -1);
    for (const [, , word] of code.matchAll(member)) count(word, -1);
    const isShown = index.includes(`"./${name.replace(/ts$/, "js")}"`);
    for (const [body] of code.matchAll(/^(?:export )?class [^]*?^}/gm)) {
      for (const [, mark, word] of body.matchAll(member)) {
        (isShown && !/internal|private/.test(mark) ? shown : declared).add(word);
      }
    }
  }
  const libraries = readdirSync("node_modules/@typescript", { recursive: true });
  const theirs = libraries.filter((name) => /\blib\.[\w.]+\.d\.ts$/.test(name));
  const yjs = ["yjs/dist/yjs.mjs", "y-protocols/awareness.js"];
  for (const name of [...theirs.map((name) => `@typescript/${name}`), ...yjs]) {
    const text = withoutComments(readFileSync(`node_modules/${name}`, "utf8"));
    for (const [word] of text.matchAll(/\w+/g)) shown.add(word);
  }
  return [...declared].filter((word) => uses.get(word) === 0 && !shown.has(word));
}

/** What leaves the page, or this version of it: fields of rows, hints, frames and answers, and tables. */
function namesBeyond() {
  const outside = "capabilities connection protocol/frames protocol/members storage/chatRows storage/database";
  const sources = `${outside} tabs/hints`.split(" ").map((name) => readFileSync(`src/${name}.ts`, "utf8"));
  const standing = readFileSync("src/roomSync.ts", "utf8").match(/interface RoomStanding[^]*?\n}/)[0];
  const code = withoutComments([...sources, standing].join("\n"));
  const fields = [...code.matchAll(/readonly (\w+)\??:|^  (\w+): |createObjectStore\("(\w+)/gm)];
  const shapes = code.match(/const SHAPES = {[^]*?\n}/)[0].match(/\w+/g);
  return [...fields.map(([, ...found]) => found.find(Boolean)), ...shapes];
}

function withoutComments(code) {
  return code.replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
}
