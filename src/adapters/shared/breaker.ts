import type { Clock, Timer } from '../../ports/clock.ts';

export interface BreakerOptions {
  /** How long an operation may take. Milliseconds. */
  readonly timeout: number;
  /** How long nothing is tried after a failure. Milliseconds. */
  readonly pause: number;
  readonly clock: Clock;
}

const LATE = Symbol('late');

/**
 * Keeps what is slow or gone from holding anybody up: after a failure every operation fails at once for `pause`, then one alone
 * tries, and its outcome decides.
 */
export class Breaker {
  readonly #options: BreakerOptions;
  #closedUntil: number | undefined;
  #probing = false;

  constructor(options: BreakerOptions) {
    this.#options = options;
  }

  /** The operation's result, or undefined where it failed, was late, or was not tried. Never rejects. */
  async run<T>(operation: () => Promise<T>): Promise<{ readonly value: T } | undefined> {
    const { clock, pause } = this.#options;
    const isProbe = this.#closedUntil !== undefined;
    if (this.#closedUntil !== undefined) {
      if (this.#probing || clock.monotonic() < this.#closedUntil) return undefined;
      this.#probing = true;
    }
    const result = await this.#bounded(operation);
    if (isProbe) this.#probing = false;
    if (result === undefined) this.#closedUntil = clock.monotonic() + pause;
    else if (isProbe) this.#closedUntil = undefined;
    return result;
  }

  async #bounded<T>(operation: () => Promise<T>): Promise<{ readonly value: T } | undefined> {
    const { clock, timeout } = this.#options;
    let timer: Timer | undefined;
    const late = new Promise<typeof LATE>((resolve) => {
      timer = clock.setTimeout(() => resolve(LATE), timeout);
    });
    try {
      const value = await Promise.race([operation(), late]);
      return value === LATE ? undefined : { value };
    } catch {
      return undefined;
    } finally {
      timer?.cancel();
    }
  }
}
