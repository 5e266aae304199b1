/** A word about what was just done, for a moment, and perhaps a way back. */

import { button, make } from "./dom.js";

const SHOWN_MS = 8_000;

export class Toast {
  readonly element = make("div", { class: "toast", role: "status", "aria-live": "polite" });
  private timer: ReturnType<typeof setTimeout> | undefined;
  private hasAct = false;

  show(text: string, act?: { readonly label: string; readonly does: () => void }): void {
    const words = make("span", { text });
    const does = (): void => {
      this.hide();
      act?.does();
    };
    this.hasAct = act !== undefined;
    this.element.replaceChildren(words, ...(act === undefined ? [] : [button(act.label, act.label, does)]));
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hide(), SHOWN_MS);
  }

  /** What it offers to do would do something else now. */
  outdated(): void {
    if (this.hasAct) this.hide();
  }

  private hide(): void {
    this.hasAct = false;
    clearTimeout(this.timer);
    this.element.replaceChildren();
  }
}
