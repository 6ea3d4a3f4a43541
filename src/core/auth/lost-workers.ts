import type { Clock, Timer } from '../../ports/clock.ts';
import type { LinkEnd } from '../../ports/links.ts';

/** A worker that lives dials again within seconds. One whose connection was closed and that has not is gone. Milliseconds. */
const GONE_AFTER_CLOSE = 30_000;
/** Behind a silent connection a worker may go on serving pages for as long as the network is away. Milliseconds. */
const GONE_AFTER_SILENCE = 600_000;

/**
 * Workers whose link ended without a goodbye. They may still serve logins and logouts, and what they invalidate does not come here
 * until they are back; after a while without a word they are taken for gone.
 */
export class LostWorkers {
  readonly #clock: Clock;
  readonly #changed: () => void;
  readonly #lost = new Map<string, Timer>();

  /** `changed`: called after each loss, and when the last one that was lost is back or gone. */
  constructor(clock: Clock, changed: () => void) {
    this.#clock = clock;
    this.#changed = changed;
  }

  get any(): boolean {
    return this.#lost.size > 0;
  }

  lost(instance: string, end: LinkEnd): void {
    this.#lost.get(instance)?.cancel();
    const patience = end === 'closed' ? GONE_AFTER_CLOSE : GONE_AFTER_SILENCE;
    const timer = this.#clock.setTimeout(() => this.#found([instance]), patience);
    this.#lost.set(instance, timer);
    this.#changed();
  }

  /** These are linked. */
  linked(instances: Iterable<string>): void {
    this.#found(instances);
  }

  close(): void {
    for (const timer of this.#lost.values()) timer.cancel();
    this.#lost.clear();
  }

  #found(instances: Iterable<string>): void {
    const before = this.#lost.size;
    for (const instance of instances) {
      this.#lost.get(instance)?.cancel();
      this.#lost.delete(instance);
    }
    if (before > 0 && this.#lost.size === 0) this.#changed();
  }
}
