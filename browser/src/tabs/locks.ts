/** Which tab leads, and which rooms are open in any of them: Web Locks, which die with their tab. */

import { unavailable } from "../errors.js";

export class Locks {
  private readonly ended = new AbortController(); // for who still waits for a lock
  private readonly releases = new Set<() => void>();

  /** `prefix` is the store's name. Throws `StorageUnavailable` where there are no locks. */
  constructor(private readonly prefix: string) {
    if (!globalThis.navigator?.locks) {
      throw unavailable("this page is no secure context");
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

  /** Do this while the room is open in no tab, and is opened in none; false: it is open. */
  async closed(room: string, work: () => Promise<void>): Promise<boolean> {
    return navigator.locks.request(`${this.prefix}:room:${room}`, { ifAvailable: true }, async (lock) => {
      if (lock !== null) await work();
      return lock !== null;
    });
  }

  /** The names of the rooms that are open in some tab. */
  async openRooms(): Promise<ReadonlySet<string>> {
    const { held = [] } = await navigator.locks.query();
    const start = `${this.prefix}:room:`;
    const shared = held.filter(({ mode }) => mode === "shared");
    const names = shared.map((lock) => lock.name ?? "").filter((name) => name.startsWith(start));
    return new Set(names.map((name) => name.slice(start.length)));
  }

  /** Let go of everything. */
  close(): void {
    this.ended.abort();
    for (const release of this.releases) release();
  }

  private async hold(
    name: string,
    mode: LockMode,
    held: (release: () => void) => void,
  ): Promise<void> {
    const { signal } = this.ended;
    const hold = (): Promise<void> =>
      new Promise((resolve) => {
        const release = (): void => {
          this.releases.delete(release);
          resolve();
        };
        this.releases.add(release);
        held(release);
      });
    try {
      await navigator.locks.request(`${this.prefix}:${name}`, { mode, signal }, hold);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
