/** Lets so many at a time; the others wait in their order. */
export class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves with whether it is the caller's turn, who then MUST call `give`; false where the signal came first. */
  async take(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    return new Promise((resolve) => {
      const next = (): void => {
        signal.removeEventListener('abort', late);
        resolve(true);
      };
      const late = (): void => {
        this.#waiting.delete(next);
        resolve(false);
      };
      signal.addEventListener('abort', late, { once: true });
      this.#waiting.add(next);
    });
  }

  give(): void {
    for (const next of this.#waiting) {
      this.#waiting.delete(next);
      return next();
    }
    this.#free++;
  }
}
