/** Who belongs to a room, and with which role. */

import { BadFrame } from "../errors.js";
import * as limits from "../limits.js";
import { unpackRows } from "./codec.js";

/** What a member may do; each role includes those before it. An admin may change the members too. */
export type Role = "reader" | "writer" | "admin";

export const ROLES: readonly string[] = ["reader", "writer", "admin"] satisfies Role[];

/** In the place of a role: this user is no member. */
export const GONE = "";

/** A user, as the relay knows them, and the role in the room. */
export interface Member {
  readonly user: string;
  readonly role: Role;
}

/** What MEMBERS tells of a user. */
export interface MemberNews {
  readonly user: string;
  readonly role: Role | typeof GONE;
}

/** Throws {@link BadFrame}. */
export function unpackMembers(data: Uint8Array): MemberNews[] {
  const rows = unpackRows(data, "user role", limits.MAX_MEMBERS);
  const isRow = ({ user, role }: { user: string; role: string }): boolean =>
    user !== "" && [...ROLES, GONE].includes(role);
  if (rows.every(isRow) && new Set(rows.map((row) => row.user)).size === rows.length) {
    return rows as MemberNews[];
  }
  throw new BadFrame("members that do not fit");
}
