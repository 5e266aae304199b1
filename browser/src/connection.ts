/**
 * The leader's link to the relay: one reconnect loop, one socket at a time.
 *
 * 1. Exactly one run of `run` exists; it owns the socket and every attempt.
 * 2. A room's frames go up only after WELCOME echoed this attempt's nonce and JOINED came.
 * 3. A permanent close ends in `failed`; nothing but `connect` leaves it. To be fenced means that a
 *    copy of this store is in use: the device takes another id and comes back, a few times an hour.
 */

import { Changes } from "./events.js";
import * as limits from "./limits.js";
import { Link, Lost, type Greeting } from "./link.js";
import { isSomebodyElse } from "./probe.js";
import { Backoff } from "./protocol/backoff.js";
import { Close, isPermanent } from "./protocol/frames.js";
import type { RoomSync } from "./roomSync.js";

const CAPTIVE_BASE_MS = 15_000;
const CAPTIVE_CAP_MS = 600_000;
const CAPTIVE = "somebody else answers for the relay; log in to the network";
const HOUR_MS = 3_600_000;

export type State =
  | "offline"
  | "connecting"
  | "probing"
  | "captive"
  | "syncing"
  | "live"
  | "suspended"
  | "failed";

/** `since` and `nextAttempt` are milliseconds since 1970; `reason` is a sentence. */
export interface ConnectionStatus {
  readonly state: State;
  readonly reason: string;
  readonly since: number;
  readonly nextAttempt: number | null;
}

export const NOT_CONNECTED: ConnectionStatus = {
  state: "offline",
  reason: "not connected yet",
  since: 0,
  nextAttempt: null,
};

/** A token, or whoever gives a fresh one when it is needed. */
export type Token = string | (() => string | Promise<string>) | null;

export interface Shell {
  /** The greeting of the next attempt; its number is stored before this returns. */
  greet(): Promise<Omit<Greeting, "token">>;
  /** Take another device id, in the store first. */
  renewDevice(): Promise<void>;
  readonly rooms: ReadonlyMap<string, RoomSync>;
  changed(): void;
}

export class Connection {
  /** Null while there is none. */
  link: Link | null = null;
  status: ConnectionStatus = { ...NOT_CONNECTED, since: Date.now() };
  private readonly backoff = new Backoff();
  private readonly captiveBackoff = new Backoff(CAPTIVE_BASE_MS, CAPTIVE_CAP_MS);
  private readonly nudges = new Changes();
  private readonly ended = new AbortController();
  private attempt = new AbortController();
  private isSuspended = false;
  private mayAskAgain: boolean;
  private renewals: number[] = [];

  /** `url` is ws or wss. */
  constructor(
    private readonly url: string,
    private readonly token: Token,
    private readonly shell: Shell,
  ) {
    this.mayAskAgain = typeof token === "function";
  }

  /** Try now, whatever the state: the user's act, or a hint that there is a network. */
  connect(): void {
    this.backoff.reset();
    this.captiveBackoff.reset();
    this.nudges.wake();
  }

  /** Close, and stay away until `resume`. */
  suspend(): void {
    this.isSuspended = true;
    this.set("suspended", "the program suspended the connection");
    this.attempt.abort();
    this.nudges.wake();
  }

  resume(): void {
    this.isSuspended = false;
    this.connect();
  }

  /** End for good. */
  close(): void {
    this.ended.abort();
    this.attempt.abort();
    this.nudges.wake();
  }

  /** Some room's state changed: perhaps all are caught up. */
  levels(): void {
    if (this.link === null || this.status.state !== "syncing") return;
    if ([...this.shell.rooms.values()].every((room) => room.isSettled)) {
      this.set("live", "every open room has caught up");
    }
  }

  /** Connect, again and again, until `close`. */
  async run(): Promise<void> {
    while (!this.ended.signal.aborted) {
      if (this.isSuspended) {
        await this.nudges.next();
        continue;
      }
      const began = Date.now();
      this.backoff.started(began);
      this.attempt = new AbortController();
      const lost = await this.speak();
      if (this.ended.signal.aborted || this.isSuspended) continue;
      if (lost.code === Close.UNAUTHENTICATED && this.mayAskAgain) {
        this.mayAskAgain = false; // the token may just have expired: ask for another
        continue;
      }
      if (lost.code === Close.FENCED && this.mayRenew(Date.now())) {
        await this.shell.renewDevice().catch(() => undefined);
        continue;
      }
      if (lost.code !== null && isPermanent(lost.code)) {
        this.set("failed", lost.message);
        await this.nudges.next();
        continue;
      }
      await this.pause(lost, began);
    }
  }

  /** One attempt, and all that is said on it; how it ended. */
  private async speak(): Promise<Lost> {
    const { signal } = this.attempt;
    this.set("connecting", "connecting");
    try {
      const token = typeof this.token === "function" ? await this.token() : this.token;
      const greeting = await this.shell.greet();
      const link = new Link(`${this.url}/sync`, { ...greeting, token }, () => {
        this.mayAskAgain = typeof this.token === "function";
        this.link = link;
        this.set("syncing", "catching up");
        for (const room of this.shell.rooms.values()) link.join(room);
        this.levels(); // there may be no room
      });
      return await link.run(signal);
    } catch (error) {
      return error instanceof Lost ? error : new Lost(String(error));
    } finally {
      const wasLinked = this.link !== null;
      this.link = null;
      if (wasLinked) for (const room of this.shell.rooms.values()) room.detached();
    }
  }

  /** Wait before the next attempt, knowing who answers for the relay meanwhile. */
  private async pause(lost: Lost, began: number): Promise<void> {
    let isCaptive = false;
    if (lost.code === null) {
      this.set("probing", lost.message);
      const base = this.url.replace(/^ws/, "http");
      isCaptive = await isSomebodyElse(base, this.attempt.signal);
    }
    if (this.ended.signal.aborted || this.isSuspended) return;
    if (Date.now() - began > limits.RESET_AFTER_MS) this.backoff.reset();
    const backoff = isCaptive ? this.captiveBackoff : this.backoff;
    if (!isCaptive) this.captiveBackoff.reset();
    const wait = backoff.wait(Date.now(), isCaptive ? 1 : Math.random());
    const nextAttempt = Date.now() + wait;
    if (isCaptive) this.set("captive", CAPTIVE, nextAttempt);
    else this.set("offline", lost.message, nextAttempt);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<void>((resolve) => (timer = setTimeout(resolve, wait)));
    await Promise.race([over, this.nudges.next()]);
    clearTimeout(timer);
  }

  private mayRenew(now: number): boolean {
    this.renewals = this.renewals.filter((renewal) => renewal > now - HOUR_MS);
    if (this.renewals.length >= limits.MAX_NEW_DEVICE_IDS_AN_HOUR) return false;
    this.renewals.push(now);
    return true;
  }

  private set(state: State, reason: string, nextAttempt: number | null = null): void {
    this.status = { state, reason, since: Date.now(), nextAttempt };
    this.shell.changed();
  }
}
