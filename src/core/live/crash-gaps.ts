import type { ChangeBus } from '../../ports/change-bus.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { LinkedWorker } from '../../ports/links.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Manifest } from '../../protocol/manifest.ts';

export interface CrashGapsParts {
  readonly bus: ChangeBus;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly linked: () => readonly LinkedWorker[];
}

/** A worker that links again within this still has what it had not handed over. Milliseconds. */
const GRACE = 3_000;
/** Of several sidecars that lost it one comes first, and the others hear it. Milliseconds. */
const SPREAD = 2_000;
/** Until the bus takes it. Milliseconds. */
const RETRY_AFTER = 2_000;

/**
 * A worker that is gone without a word may have committed changes that it had not handed over yet: everybody is told a gap, one for all that
 * went at about the same time.
 */
export class CrashGaps {
  readonly #parts: CrashGapsParts;
  readonly #lost = new Set<string>();
  readonly #leave: () => void;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(parts: CrashGapsParts) {
    this.#parts = parts;
    this.#leave = parts.bus.subscribe({
      changes: () => undefined,
      // Every list is read anew: with what the lost ones committed.
      gap: ({ model }) => {
        if (model === undefined) this.#lost.clear();
      },
    });
  }

  lost({ instance, publishes }: Manifest): void {
    if (!publishes || this.#isClosed) return;
    this.#lost.add(instance);
    this.#timer ??= this.#later(GRACE + Math.random() * SPREAD);
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#leave();
  }

  #later(milliseconds: number): Timer {
    return this.#parts.clock.setTimeout(() => void this.#tell(), milliseconds);
  }

  async #tell(): Promise<void> {
    const { bus, linked, logger } = this.#parts;
    for (const { manifest } of linked()) this.#lost.delete(manifest.instance);
    const told = [...this.#lost];
    let isTold = true;
    if (told.length > 0) {
      logger.warn(
        { workers: told },
        'workers are gone without a word: changes may be missing, live lists are read anew',
      );
      isTold = await bus.publishGap({ reason: 'reported' }).then(
        () => true,
        () => false,
      );
      if (isTold) for (const instance of told) this.#lost.delete(instance);
    }
    this.#timer = undefined;
    if (this.#isClosed || this.#lost.size === 0) return;
    // Who was lost meanwhile has its time, too.
    this.#timer = this.#later(isTold ? GRACE : RETRY_AFTER);
  }
}
