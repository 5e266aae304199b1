/** `.ipynb` files in and out: nbformat 4, and what we do not know of it comes back as it was. */

import * as Y from "yjs";

import { isCell, newId, type Cell, type Notebook } from "./notebook.js";

type Fields = Record<string, unknown>;

/** Why a file cannot be taken. */
export class NotANotebook extends Error {}

/** The cells of a file, not yet in a document, and its metadata. */
export interface Read {
  readonly cells: readonly Cell[];
  readonly minor: number;
  readonly metadata: Fields;
}

/** Read a file. Throws {@link NotANotebook}; then nothing was changed. */
export function read(text: string): Read {
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw new NotANotebook("This file is not JSON, so it is no notebook. Nothing was changed.");
  }
  if (!isFields(file) || !Array.isArray(file["cells"])) {
    throw new NotANotebook("This file has no cells, so it is no notebook. Nothing was changed.");
  }
  if (file["nbformat"] !== 4) {
    throw new NotANotebook(
      "This notebook is not of format 4. Nothing was changed. Open it in Jupyter and save it anew.",
    );
  }
  const ids = new Set<string>();
  return {
    cells: file["cells"].map((cell) => readCell(cell, ids)),
    minor: typeof file["nbformat_minor"] === "number" ? Math.max(file["nbformat_minor"], 5) : 5,
    metadata: isFields(file["metadata"]) ? file["metadata"] : {},
  };
}

function readCell(cell: unknown, ids: Set<string>): Cell {
  if (!isFields(cell) || !["code", "markdown", "raw"].includes(String(cell["cell_type"]))) {
    throw new NotANotebook("A cell of this file is neither code nor text. Nothing was changed.");
  }
  const map: Cell = new Y.Map();
  for (const [key, value] of Object.entries(cell)) map.set(key, value);
  const { id } = cell;
  const isGood = typeof id === "string" && /^[a-zA-Z0-9-_]{1,64}$/.test(id) && !ids.has(id);
  const kept = isGood ? id : newId();
  ids.add(kept);
  map.set("id", kept);
  map.set("source", new Y.Text(joined(cell["source"]).replace(/\r\n?/g, "\n")));
  map.set("metadata", new Y.Map(entries(cell["metadata"])));
  if (cell["cell_type"] !== "code") return map;
  const outputs = new Y.Array<Y.Map<unknown>>();
  outputs.push((Array.isArray(cell["outputs"]) ? cell["outputs"] : []).filter(isFields).map(readOutput));
  map.set("outputs", outputs);
  map.set("execution_state", "idle");
  if (map.get("execution_count") === undefined) map.set("execution_count", cell["execution_count"] ?? null);
  return map;
}

function readOutput(output: Fields): Y.Map<unknown> {
  const map = new Y.Map<unknown>();
  for (const [key, value] of Object.entries(output)) {
    const isStream = key === "text" && output["output_type"] === "stream";
    map.set(key, isStream ? new Y.Text(joined(value)) : value);
  }
  return map;
}

/** Put a file's cells in the place of what the notebook has; one step, which undo takes back. */
export function take(notebook: Notebook, file: Read): void {
  notebook.change(() => {
    notebook.cells.delete(0, notebook.cells.length);
    notebook.cells.insert(0, [...file.cells]);
    notebook.meta.set("nbformat", 4);
    notebook.meta.set("nbformat_minor", file.minor);
    notebook.meta.set("metadata", new Y.Map(entries(file.metadata)));
  });
}

/** The notebook as the text of a file. */
export function write(notebook: Notebook): string {
  const meta = notebook.meta.toJSON() as Fields;
  const file = {
    cells: notebook.cells.toArray().filter(isCell).map(writeCell),
    metadata: isFields(meta["metadata"]) ? meta["metadata"] : {},
    nbformat: 4,
    nbformat_minor: typeof meta["nbformat_minor"] === "number" ? meta["nbformat_minor"] : 5,
  };
  return `${JSON.stringify(file, null, 1)}\n`;
}

function writeCell(cell: Cell): Fields {
  const { execution_state: _, ...fields } = cell.toJSON() as Fields;
  return { ...fields, source: split(String(fields["source"])) };
}

/** As Jupyter writes it: a list of lines, so that a difference of two files can be read. */
const split = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];

const joined = (text: unknown): string =>
  Array.isArray(text) ? text.map(String).join("") : typeof text === "string" ? text : "";

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const entries = (value: unknown): [string, unknown][] => (isFields(value) ? Object.entries(value) : []);
