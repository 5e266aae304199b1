/** Observers: who watches something, and how to stop. */

/** Ends an observation. */
export type Unsubscribe = () => void;

export class Observers<E> {
  private readonly callbacks = new Set<(event: E) => void>();

  add(callback: (event: E) => void): Unsubscribe {
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  /** Tell everybody. One that throws is reported and keeps the others from nothing. */
  emit(event: E): void {
    for (const callback of [...this.callbacks]) {
      try {
        callback(event);
      } catch (error) {
        reportError(error);
      }
    }
  }

  clear(): void {
    this.callbacks.clear();
  }
}

/** Something that can be waited for again and again. */
export class Changes {
  private waiting: (() => void)[] = [];

  /** Wake everybody who waits now. */
  wake(): void {
    const woken = this.waiting;
    this.waiting = [];
    for (const resolve of woken) resolve();
  }

  /** Returns at the next `wake`. */
  next(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

/** `work`, to be asked for at any time, one run after the other: asked meanwhile, it runs once more. */
export function again(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let isAsked = false;
  const run = async (): Promise<void> => {
    try {
      while (isAsked) {
        isAsked = false;
        await work();
      }
    } finally {
      running = null;
    }
  };
  return () => {
    isAsked = true;
    return (running ??= run());
  };
}

/** Wait until `isDone`, asked again at every change; throws `TimeoutError` after `timeoutMs`. */
export async function until(
  changes: Changes,
  isDone: () => boolean,
  timeoutMs?: number,
): Promise<void> {
  const late = timeoutMs === undefined ? null : AbortSignal.timeout(timeoutMs);
  late?.addEventListener("abort", () => changes.wake());
  while (!isDone()) {
    late?.throwIfAborted();
    await changes.next();
  }
}
