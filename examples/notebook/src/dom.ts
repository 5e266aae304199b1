/** Elements, made without a word of HTML: what others wrote can only become text. */

type Child = Node | string | null;

interface Properties {
  readonly class?: string;
  readonly text?: string;
  readonly on?: Readonly<Record<string, (event: never) => void>>;
  readonly [attribute: string]: unknown;
}

/** An element with attributes (`class`, `aria-label`, …), listeners (`on`) and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = String(value);
    else if (name === "on") {
      for (const [type, listener] of Object.entries(value as Record<string, EventListener>)) {
        element.addEventListener(type, listener);
      }
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

/** A button that says what it does. `label` is for those who do not see its sign. */
export function button(
  sign: string,
  label: string,
  act: () => void,
  properties: Properties = {},
): HTMLButtonElement {
  return make("button", {
    type: "button",
    text: sign,
    "aria-label": label === sign ? undefined : label,
    title: label === sign ? undefined : label,
    on: { click: act },
    ...properties,
  });
}

/** Set an element's text only if it is another: so that nothing is announced or drawn twice. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
