/** Which tab leads, and which rooms are open in any of them: Web Locks, which die with their tab. */

import { StorageUnavailable } from "../errors.js";

export class Locks {
  private readonly releases = new Set<() => void>();

  /** `prefix` is the store's name. Throws {@link StorageUnavailable} where there are no locks. */
  constructor(private readonly prefix: string) {
    if (typeof navigator === "undefined" || navigator.locks === undefined) {
      throw new StorageUnavailable(
        "This page is no secure context, so its tabs cannot agree on who writes. Nothing was " +
          "opened. Serve the page over https, or from localhost.",
      );
    }
  }

  /** Call `lead` once this tab is the leader: when no other tab of the store is. */
  async lead(lead: () => void): Promise<void> {
    await this.hold("leader", "exclusive", lead);
  }

  /** Let it be known that a room is open here, until the answer is called. */
  async open(room: string): Promise<() => void> {
    return new Promise((resolve) => {
      void this.hold(`room:${room}`, "shared", resolve);
    });
  }

  /** The names of the rooms that are open in some tab. */
  async openRooms(): Promise<ReadonlySet<string>> {
    const { held = [] } = await navigator.locks.query();
    const start = `${this.prefix}:room:`;
    const names = held.map((lock) => lock.name ?? "").filter((name) => name.startsWith(start));
    return new Set(names.map((name) => name.slice(start.length)));
  }

  /** Let go of everything. */
  close(): void {
    for (const release of this.releases) release();
    this.releases.clear();
  }

  private async hold(
    name: string,
    mode: LockMode,
    held: (release: () => void) => void,
  ): Promise<void> {
    const stop = new AbortController();
    const giveUp = (): void => stop.abort();
    this.releases.add(giveUp);
    try {
      await navigator.locks.request(
        `${this.prefix}:${name}`,
        { mode, signal: stop.signal },
        () =>
          new Promise<void>((release) => {
            this.releases.delete(giveUp);
            this.releases.add(release);
            held(() => {
              this.releases.delete(release);
              release();
            });
          }),
      );
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    }
  }
}
