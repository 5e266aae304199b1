/** One message of a room's chat, as a program holds it: one object while it is held. */

import { closed, NotSent, Rejected, WrongState } from "./errors.js";
import { until, type Changes } from "./events.js";
import { unpackMap } from "./protocol/codec.js";
import { isInLog, NOT_ASKED, PATH, type MessageState, type Receipt } from "./protocol/messages.js";
import { hasSeq, type MessageRow } from "./storage/chatRows.js";

const KEPT = "It is kept on this device with its body.";

/** What the application at the relay said of a message that asks it. */
export type MessageVerdict = "confirming" | "confirmed" | "refused";

const VERDICTS: readonly MessageVerdict[] = ["confirming", "confirmed", "refused"];

const isVerdict = (goal: string): goal is MessageVerdict =>
  (VERDICTS as readonly string[]).includes(goal);

/** What a message needs of its chat. */
export interface MessageChat {
  readonly changes: Changes;
  readonly isClosed: boolean;
  readonly row: { readonly receipts: readonly Receipt[] };
}

export class Message {
  /** @internal */
  constructor(
    /** @internal */
    public row: MessageRow,
    private readonly chat: MessageChat,
  ) {}

  /** Its name for ever, everywhere: a UUID. */
  get id(): string {
    return this.row.id;
  }

  get body(): string {
    return this.row.body;
  }

  /** What the program added; empty if another one added what cannot be read here. */
  get meta(): Record<string, unknown> {
    return unpackMap(this.row.meta) ?? {};
  }

  /** The user who wrote it; null while the relay has not told who we are. */
  get sender(): string | null {
    return this.row.sender || null;
  }

  /** Whether this user wrote it, here or on another device. */
  get isMine(): boolean {
    return this.row.mine;
  }

  /** Whether it is the relay's own, about the room. */
  get isSystem(): boolean {
    return this.row.kind === 1;
  }

  /** Its number in the room, from 1; null while the relay has not taken it. */
  get seq(): number | null {
    return this.row.seq;
  }

  /** Where it is on its way. What others wrote is "accepted". */
  get state(): MessageState {
    return this.row.state;
  }

  /** Whether it is kept here only: the relay has another history, without it. */
  get replaced(): boolean {
    return this.row.replaced;
  }

  /** Why it was rejected, or given up: the protocol's name, or the application's; else "". */
  get code(): string {
    return this.row.code;
  }

  /** The same as a sentence, if the relay gave one. */
  get reason(): string {
    return this.row.reason;
  }

  /**
   * What the application at the relay said of it; null if nobody was asked, or the relay has not
   * accepted it. "confirming" is all that a message may be taken for that is not "confirmed".
   */
  get verdict(): MessageVerdict | null {
    return (isInLog(this.state) && VERDICTS[this.row.verdict - 1]) || null;
  }

  /** Why it was refused, if the application gave a reason; else "". */
  get verdictReason(): string {
    return this.verdict === "refused" ? (this.row.verdictReason ?? "") : "";
  }

  /** When it was written, by its writer's clock, which may be wrong: ms since 1970. */
  get sentAt(): number {
    return this.row.sentAt;
  }

  /** When the relay took it, by the relay's clock: ms since 1970. */
  get acceptedAt(): number | null {
    return this.row.acceptedAt;
  }

  /** How many other users have received it. */
  get deliveredBy(): number {
    return this.count((one) => one.deliveredUpto);
  }

  /** How many other users have read it. */
  get readBy(): number {
    return this.count((one) => one.readUpto);
  }

  /**
   * Resolves when it is in `state`, or beyond it on the way from queued to read, or has this verdict.
   * Throws a `TimeoutError`; {@link Rejected}, also when the application at the relay refuses; {@link NotSent} when it ends otherwise, so that it cannot get
   * there unless the program acts; {@link WrongState} when the relay has it and it therefore never
   * will; `Closed`.
   */
  async wait(
    state: MessageState | MessageVerdict = "accepted",
    { timeoutMs }: { timeoutMs?: number } = {},
  ): Promise<void> {
    await until(this.chat.changes, () => this.hasReached(state), timeoutMs);
  }

  private hasReached(goal: MessageState | MessageVerdict): boolean {
    return isVerdict(goal) ? this.hasVerdict(goal) : this.hasState(goal);
  }

  private hasVerdict(goal: MessageVerdict): boolean {
    if (this.row.verdict === NOT_ASKED) {
      throw new WrongState(`This message was sent without confirm. It will not become ${goal}.`);
    }
    if (!this.hasState("accepted")) return false;
    const { verdict } = this;
    if (verdict === goal || goal === "confirming") return true;
    if (verdict === "refused") {
      throw new Rejected(
        `The application at the relay refused this: ${this.verdictReason}. Nothing was done.`,
        verdict,
      );
    }
    if (verdict !== "confirmed") return false;
    throw new WrongState(`This message is ${verdict}. It will not become ${goal}.`);
  }

  private hasState(goal: MessageState): boolean {
    const { state, code, reason } = this.row;
    const [at, wanted] = [PATH.indexOf(state), PATH.indexOf(goal)];
    if (state === goal || (wanted >= 0 && at > wanted)) return true;
    if (state === "rejected") {
      throw new Rejected(
        `The relay refused this message for good: ${reason || code}. ${KEPT}`,
        code,
      );
    }
    if (isInLog(state) && wanted < 0) {
      throw new WrongState(`This message is ${state}. It will not become ${goal}: the relay has it.`);
    }
    if (at < 0) {
      throw new NotSent(
        `This message is ${state}. It will not become ${goal} by itself. ${KEPT}`,
        state,
      );
    }
    if (this.chat.isClosed) throw closed("room");
    return false;
  }

  private count(upto: (one: Receipt) => number): number {
    const { row } = this;
    if (!hasSeq(row)) return 0;
    return this.chat.row.receipts.filter((one) => upto(one) >= row.place).length;
  }
}
