/** The talk beside the notebook: what was said, how far it got, and what is not on this device. */

import type { Chat, Gap, Message } from "collab-sync";

import { missing, senderOf, standingOf } from "./chatWords.js";
import { button, make, say } from "./dom.js";
import { colourNumberOf } from "./people.js";

const PAGE = 60; // messages more at each look back
const AT_FOOT_PX = 40;
const NARROW_PX = 736; // as in the style sheet

export interface ChatPage {
  readonly name: string;
  /** Where this tab keeps what was typed and not sent. */
  readonly draftKey: string;
  toast(text: string): void;
}

interface Shown {
  readonly element: HTMLElement;
  readonly words: HTMLElement;
  readonly foot: HTMLElement;
}

export class ChatPanel {
  readonly element: HTMLElement;
  readonly opener: HTMLButtonElement;
  private readonly log = make("ol", { class: "log", role: "log", "aria-label": "Messages", tabindex: "0" });
  private readonly earlier: HTMLButtonElement;
  private readonly field: HTMLTextAreaElement;
  private readonly shown = new Map<string, Shown>();
  private limit = PAGE;
  private isReading = false;
  private readAgain = false;

  constructor(
    private readonly chat: Chat,
    private readonly page: ChatPage,
  ) {
    this.earlier = button("Earlier messages", "Earlier messages", () => this.lookBack(), { hidden: true });
    this.field = make("textarea", {
      rows: "2",
      "aria-label": "Message. Enter sends it, Shift and Enter begin a line.",
      placeholder: "Say something",
      on: {
        keydown: (event: KeyboardEvent) => this.key(event),
        input: () => this.keepDraft(),
      },
    });
    this.field.value = sessionStorage.getItem(page.draftKey) ?? "";
    const sending = make(
      "form",
      { on: { submit: (event: Event) => this.submit(event) } },
      this.field,
      make("button", { type: "submit", text: "Send" }),
    );
    this.element = make(
      "aside",
      { class: "chat", "aria-label": "Chat" },
      make("h2", { text: "Chat" }),
      this.earlier,
      this.log,
      sending,
    );
    this.element.hidden = innerWidth < NARROW_PX; // it would lie over the cells
    const isOpen = String(!this.element.hidden);
    this.opener = button("Chat", "", () => this.flip(), { class: "opener", "aria-expanded": isOpen });
    chat.observe(() => void this.read());
    for (const type of ["focus", "visibilitychange"]) addEventListener(type, () => this.seen());
    this.log.addEventListener("scroll", () => this.seen());
    void this.read();
  }

  private async read(): Promise<void> {
    this.readAgain = true;
    if (this.isReading) return;
    this.isReading = true;
    try {
      while (this.readAgain) {
        this.readAgain = false;
        const { messages, gaps } = await this.chat.history({ limit: this.limit });
        this.draw(messages, gaps);
      }
    } catch (error) {
      this.complain(error); // what comes next is read again
    } finally {
      this.isReading = false;
    }
  }

  private draw(messages: readonly Message[], gaps: readonly Gap[]): void {
    const wasAtFoot = this.isAtFoot;
    const rows: HTMLElement[] = [];
    const left = [...gaps];
    for (const message of messages) {
      while (message.seq !== null && left[0] !== undefined && left[0].low < message.seq) {
        rows.push(this.gap(left.shift() as Gap));
      }
      rows.push(this.row(message));
    }
    rows.push(...left.map((gap) => this.gap(gap)));
    const kept = new Set(rows);
    for (const element of [...this.log.children]) {
      if (!kept.has(element as HTMLElement)) element.remove();
    }
    let at = this.log.firstElementChild;
    for (const row of rows) {
      if (row === at) at = at.nextElementSibling;
      else this.log.insertBefore(row, at);
    }
    const ids = new Set(messages.map((message) => message.id));
    for (const id of this.shown.keys()) if (!ids.has(id)) this.shown.delete(id);
    this.earlier.hidden = messages.length < this.limit;
    if (wasAtFoot) this.log.scrollTop = this.log.scrollHeight;
    this.seen();
  }

  private row(message: Message): HTMLElement {
    const sender = senderOf(message);
    let shown = this.shown.get(message.id);
    if (shown === undefined) {
      const words = make("p", { class: "words" });
      const foot = make("p", { class: "standing" });
      const at = new Date(message.sentAt); // which may be beyond what a date can be
      const isTime = !Number.isNaN(at.getTime());
      const time = make("time", isTime ? { datetime: at.toISOString(), text: clock(at) } : {});
      const who = make("span", { class: `who colour-${colourNumberOf(sender)}`, text: sender });
      const element = make("li", { class: message.isMine ? "mine" : "" }, make("p", {}, who, time), words, foot);
      shown = { element, words, foot };
      this.shown.set(message.id, shown);
    }
    say(shown.words, message.body);
    this.drawFoot(shown.foot, message);
    return shown.element;
  }

  private drawFoot(foot: HTMLElement, message: Message): void {
    const standing = standingOf(message);
    if (foot.dataset["standing"] === standing) return;
    foot.dataset["standing"] = standing;
    foot.replaceChildren(standing);
    if (message.isMine && message.state === "queued") {
      const back = (): void => this.act(this.chat.cancel(message));
      foot.append(button("Take back", "Take this message back", back));
    }
    if (message.isMine && message.state === "stalled") {
      const again = (): void => this.act(this.chat.retry(message));
      foot.append(button("Try again", "Send this message again", again));
    }
  }

  private gap(gap: Gap): HTMLElement {
    const words = make("span", { text: missing(gap) });
    if (gap.lost) return make("li", { class: "gap" }, words);
    const fetch = (): void => {
      this.limit += gap.high - gap.low + 1;
      void this.read();
    };
    return make("li", { class: "gap" }, words, button("Fetch", "Fetch the messages that are not here", fetch));
  }

  private lookBack(): void {
    this.limit += PAGE;
    void this.read();
  }

  private key(event: KeyboardEvent): void {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.send();
  }

  private submit(event: Event): void {
    event.preventDefault();
    this.send();
  }

  private send(): void {
    const body = this.field.value.trim();
    if (body === "") return;
    this.field.value = "";
    this.log.scrollTop = this.log.scrollHeight;
    const notStored = (error: unknown): void => {
      const { value } = this.field; // somebody may have typed on
      this.field.value = value === "" ? body : `${body}\n${value}`;
      this.complain(error);
    };
    const sending = this.chat.send(body, { meta: { name: this.page.name } });
    void sending.then(() => undefined, notStored).finally(() => this.keepDraft()); // not before it is stored
  }

  private act(acting: Promise<void>): void {
    acting.catch((error: unknown) => this.complain(error));
  }

  private complain(error: unknown): void {
    this.page.toast(error instanceof Error ? error.message : String(error));
  }

  private keepDraft(): void {
    sessionStorage.setItem(this.page.draftKey, this.field.value);
  }

  private get isAtFoot(): boolean {
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    return scrollHeight - scrollTop - clientHeight < AT_FOOT_PX;
  }

  /** The user has read what they have before their eyes. */
  private seen(): void {
    const { unread } = this.chat;
    const isLooking = document.visibilityState === "visible" && document.hasFocus();
    if (unread > 0 && isLooking && !this.element.hidden && this.isAtFoot) void this.chat.markRead();
    const label = unread > 0 ? `Chat, ${unread} unread` : "Chat";
    say(this.opener, unread > 0 ? `Chat ${unread}` : "Chat");
    this.opener.classList.toggle("unread", unread > 0);
    this.opener.setAttribute("aria-label", label);
    document.title = unread > 0 ? `(${unread}) Notebook` : "Notebook";
  }

  private flip(): void {
    this.element.hidden = !this.element.hidden;
    this.opener.setAttribute("aria-expanded", String(!this.element.hidden));
    if (!this.element.hidden) {
      this.log.scrollTop = this.log.scrollHeight;
      this.field.focus();
    }
    this.seen();
  }
}

const clock = (at: Date): string =>
  `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
