// Builds all pages, in one go, into dist/ or into the folder that is named.
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

export const EDITORS = ["prosemirror", "monaco", "quill"];

export const options = {
  absWorkingDir: import.meta.dirname,
  entryPoints: Object.fromEntries([
    ...EDITORS.map((name) => [`${name}/main`, `${name}/main.ts`]),
    ...EDITORS.map((name) => [`${name}/index`, `${name}/index.html`]),
    ...EDITORS.map((name) => [`${name}/style`, `${name}/style.css`]),
    ["monaco/worker", "monaco-editor/esm/vs/editor/editor.worker.js"],
  ]),
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  loader: { ".html": "copy", ".ttf": "file" },
};

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await build({ ...options, outdir: process.argv[2] ?? options.outdir });
}
