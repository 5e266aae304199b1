/** The members of one room in one tab: what a program reads, watches and changes. */

import type { Chat } from "./chat.js";
import { BadArgument } from "./errors.js";
import { Observers, type Unsubscribe } from "./events.js";
import * as limits from "./limits.js";
import { UNTOUCHED } from "./payload.js";
import { isText } from "./protocol/frames.js";
import { GONE, ROLES, type Member, type Role } from "./protocol/members.js";

/** Members came, got another role, or went. All of it is on this disk by then. */
export interface MembersChanged {
  readonly added: readonly Member[];
  readonly changed: readonly Member[];
  readonly removed: readonly Member[];
}

/**
 * Read here it is the list that the relay last told of, also without a connection. A user who is a
 * member may have no more rights than others: what a role allows is for the relay to decide.
 */
export class Members {
  private readonly observers = new Observers<MembersChanged>();

  /** @internal Get it from `room.members`. */
  constructor(private readonly chat: Chat) {}

  /** Every member, by name. */
  all(): readonly Member[] {
    this.chat.check();
    return this.chat.row.members ?? [];
  }

  /** The member of this name; null if there is none. */
  get(user: string): Member | null {
    return this.all().find((one) => one.user === user) ?? null;
  }

  /** Call `callback(event)` when members come, change or go. */
  observe(callback: (event: MembersChanged) => void): Unsubscribe {
    return this.observers.add(callback);
  }

  /**
   * Make a user a member with this role, or give another one. It is done at the relay when this
   * resolves; everybody learns of it by a message in the room too. Needs a connection, and the right
   * to administer the room. Throws {@link BadArgument} for a name or a role that there cannot be;
   * `OfflineError` without a connection, or when it is lost meanwhile: then the outcome is not known;
   * `Rejected` when the relay refuses: `forbidden`, `limit` (the room is full).
   */
  async set(user: string, role: Role): Promise<void> {
    if (!ROLES.includes(role)) {
      throw new BadArgument(`Roles are: ${ROLES.join()}. ${UNTOUCHED}`);
    }
    await this.change(user, role);
  }

  /** Make a user no member any more; nothing happens to who is none. As `set`. */
  async remove(user: string): Promise<void> {
    await this.change(user, GONE);
  }

  /** @internal Tell what changed from one list to the next. */
  show(before: readonly Member[] = [], now: readonly Member[] = []): void {
    const roleIn = (members: readonly Member[], user: string): Role | undefined =>
      members.find((one) => one.user === user)?.role;
    this.observers.emit({
      added: now.filter(({ user }) => !roleIn(before, user)),
      changed: now.filter(({ user, role }) => (roleIn(before, user) ?? role) !== role),
      removed: before.filter(({ user }) => !roleIn(now, user)),
    });
  }

  /** @internal */
  end(): void {
    this.observers.clear();
  }

  private async change(user: string, role: Role | typeof GONE): Promise<void> {
    this.chat.check();
    if (!isText(limits.MAX_USER_BYTES)(user) || user === "") {
      throw new BadArgument(`A user's name is 1 to ${limits.MAX_USER_BYTES} bytes of text. ${UNTOUCHED}`);
    }
    await this.chat.demand("a change of members", { kind: "change", user, role });
  }
}
