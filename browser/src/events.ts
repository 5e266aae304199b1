/** Observers: who watches something, and how to stop. */

/** Ends an observation. */
export type Unsubscribe = () => void;

export class Observers<E> {
  private readonly callbacks = new Set<(event: E) => void>();

  add(callback: (event: E) => void): Unsubscribe {
    this.callbacks.add(callback);
    return () => this.callbacks.delete(callback);
  }

  get isEmpty(): boolean {
    return this.callbacks.size === 0;
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

/** Wait until `isDone`, asked again at every change; throws `TimeoutError` after `timeoutMs`. */
export async function until(
  changes: Changes,
  isDone: () => boolean,
  timeoutMs?: number,
): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    if (timeoutMs === undefined) return;
    timer = setTimeout(
      () => reject(new DOMException(`not within ${timeoutMs} ms`, "TimeoutError")),
      timeoutMs,
    );
  });
  late.catch(() => undefined);
  try {
    while (!isDone()) await Promise.race([changes.next(), late]);
  } finally {
    clearTimeout(timer);
  }
}
