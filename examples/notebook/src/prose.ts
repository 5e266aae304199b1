/**
 * A little Markdown, as elements: headings, lists, code, emphasis, links to the web. What it does not
 * know stays as it was written; HTML is text like any other.
 */

import { make } from "./dom.js";

// Others write what is matched: no text may make it look at each letter from each place before it.
const INLINE =
  /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^[\]]+)\]\((https?:\/\/[^\s)]{1,2000})\)/g;

/** Elements for a text in Markdown. */
export function prose(source: string): HTMLElement[] {
  const found: HTMLElement[] = [];
  const lines = source.split("\n");
  for (let at = 0; at < lines.length; ) {
    const line = lines[at] as string;
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (line.trim() === "") at += 1;
    else if (line.startsWith("```")) {
      const end = lines.findIndex((other, place) => place > at && other.startsWith("```"));
      const close = end < 0 ? lines.length : end;
      found.push(make("pre", { text: lines.slice(at + 1, close).join("\n") }));
      at = close + 1;
    } else if (heading !== null) {
      // The page has the first level for itself.
      const level = Math.min((heading[1] as string).length + 1, 6) as 2 | 3 | 4 | 5 | 6;
      found.push(make(`h${level}`, {}, ...inline(heading[2] as string)));
      at += 1;
    } else if (ITEM.test(line)) {
      const isNumbered = /^\s*\d/.test(line);
      const list = make(isNumbered ? "ol" : "ul");
      for (; at < lines.length && ITEM.test(lines[at] as string); at += 1) {
        list.append(make("li", {}, ...inline((lines[at] as string).replace(ITEM, ""))));
      }
      found.push(list);
    } else {
      const from = at;
      while (at < lines.length && !ENDS.test(lines[at] as string)) at += 1;
      at = Math.max(at, from + 1);
      found.push(make("p", {}, ...inline(lines.slice(from, at).join("\n"))));
    }
  }
  return found;
}

const ITEM = /^\s*(?:[-*+]|\d+[.)])\s+/;
const ENDS = /^\s*$|^#{1,6}\s|^```|^\s*(?:[-*+]|\d+[.)])\s/;

function inline(text: string): (Node | string)[] {
  const found: (Node | string)[] = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    found.push(text.slice(at, match.index));
    const [whole, code, strong, emphasis, label, address] = match;
    if (code !== undefined) found.push(make("code", { text: code }));
    else if (strong !== undefined) found.push(make("strong", { text: strong }));
    else if (emphasis !== undefined) found.push(make("em", { text: emphasis }));
    else found.push(make("a", { href: address, rel: "noopener noreferrer", target: "_blank", text: label }));
    at = match.index + whole.length;
  }
  found.push(text.slice(at));
  return found;
}
