/** What a cell put out: text and PNG pictures. HTML and scripts are never taken for more than text. */

import * as Y from "yjs";

import { make } from "./dom.js";

const MAX_TEXT = 100_000; // characters shown of one output
const MAX_PNG = 8 * 1024 * 1024; // characters of base64
const PNG_BEGINS = "iVBORw0KGgo";
// Terminals' colours and the like; they say nothing here.
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;

/** The elements that show a cell's outputs. */
export function showOutputs(outputs: unknown): HTMLElement[] {
  if (!(outputs instanceof Y.Array)) return [];
  return outputs.toArray().map(showOutput).filter((shown) => shown !== null);
}

function showOutput(output: unknown): HTMLElement | null {
  const plain: unknown = output instanceof Y.AbstractType ? output.toJSON() : output;
  if (typeof plain !== "object" || plain === null) return null;
  const fields = plain as Record<string, unknown>;
  switch (fields["output_type"]) {
    case "stream":
      return text(lines(fields["text"]), fields["name"] === "stderr" ? "stderr" : "stream");
    case "error":
      return error(fields);
    case "execute_result":
    case "display_data":
      return data((fields["data"] ?? {}) as Record<string, unknown>);
    default:
      return null;
  }
}

function error(fields: Record<string, unknown>): HTMLElement {
  const trace = Array.isArray(fields["traceback"]) ? fields["traceback"].map(String).join("\n") : "";
  const named = `${String(fields["ename"] ?? "Error")}: ${String(fields["evalue"] ?? "")}`;
  return text(trace === "" ? named : trace, "error");
}

function data(data: Record<string, unknown>): HTMLElement | null {
  const picture = lines(data["image/png"]).replace(/\s+/g, "");
  const plain = lines(data["text/plain"]);
  const isPicture = picture.startsWith(PNG_BEGINS) && picture.length <= MAX_PNG;
  if (isPicture && /^[A-Za-z0-9+/]+=*$/.test(picture)) {
    return make("img", {
      class: "output picture",
      src: `data:image/png;base64,${picture}`,
      alt: plain === "" ? "A picture that this cell made" : plain,
    });
  }
  if (plain !== "") return text(plain, "result");
  const types = Object.keys(data).slice(0, 8).join(", ");
  return types === "" ? null : text(`An output that is not shown here: ${types}`, "unshown");
}

function text(content: string, kind: string): HTMLElement {
  const said = content.replace(ESCAPES, "");
  const cut = said.length > MAX_TEXT;
  const shown = cut ? `${said.slice(0, MAX_TEXT)}\n… ${said.length - MAX_TEXT} more characters` : said;
  return make("pre", { class: `output ${kind}`, text: shown });
}

/** nbformat writes long text as one string or as a list of lines. */
function lines(value: unknown): string {
  if (typeof value === "string") return value;
  return Array.isArray(value) ? value.map(String).join("") : "";
}
