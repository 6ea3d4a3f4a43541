import type { ShadowCell, ShadowHandler } from '../../src/protocol/shadow-report.ts';
import type { Tier } from '../../src/protocol/tier.ts';

/** What a lower tier would have spared; undefined where nothing was seen that it could be compared with. */
export interface Savings {
  /** Database queries. */
  readonly queries: number;
  readonly milliseconds: number;
}

const RANK: Readonly<Record<Tier, number>> = { none: 0, auth_only: 1, full: 2 };

/**
 * Measured, not modelled: `none` spares all that came before the handler; `auth_only` what that costs less than `full` in the
 * mean of the events that were seen in each. What the hand-over of users spares on top is not among it.
 */
export class SavingsMeter {
  /** Of one event in auth_only. */
  readonly #authOnly: Savings | undefined;

  constructor(handlers: readonly ShadowHandler[]) {
    const cells = handlers.flatMap((handler) => handler.cells).filter(({ now }) => now === 'auth_only');
    const events = sum(cells, (cell) => cell.events);
    this.#authOnly =
      events === 0
        ? undefined
        : {
            queries: sum(cells, (cell) => cell.queries) / events,
            milliseconds: sum(cells, (cell) => cell.bridgeMs) / events,
          };
  }

  /** Over all events of a handler, had each got the tier that `target` says. */
  of({ cells }: ShadowHandler, target: (cell: ShadowCell) => Tier): Savings | undefined {
    const parts = cells.map((cell) => this.#ofCell(cell, target(cell)));
    if (!parts.every((part) => part !== undefined)) return undefined;
    return { queries: sum(parts, (part) => part.queries), milliseconds: sum(parts, (part) => part.milliseconds) };
  }

  #ofCell({ now, events, queries, bridgeMs }: ShadowCell, target: Tier): Savings | undefined {
    if (RANK[target] >= RANK[now]) return { queries: 0, milliseconds: 0 };
    if (target === 'none') return { queries, milliseconds: bridgeMs };
    if (this.#authOnly === undefined) return undefined;
    return {
      queries: Math.max(0, queries - events * this.#authOnly.queries),
      milliseconds: Math.max(0, bridgeMs - events * this.#authOnly.milliseconds),
    };
  }
}

function sum<T>(items: readonly T[], read: (item: T) => number): number {
  return items.reduce((total, item) => total + read(item), 0);
}
