import type { ShadowSum } from '../../ports/doctor.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { ShadowCell, ShadowHandler, ShadowReport, ShadowWrong } from '../../protocol/shadow-report.ts';
import { raiseTier, TIERS, type Tier } from '../../protocol/tier.ts';

/** Workers, and handlers of all of them together, whose figures are kept apart. */
const MAX_WORKERS = 200;
const MAX_ENTRIES = 50_000;
/** Handlers in the sum; further ones are not told. */
const MAX_HANDLERS = 2_000;
/** Kinds of needs and of wrong events of one handler. */
const MAX_KINDS = 64;
/** Workers that are remembered as no longer heard. */
const MAX_FOLDED = 10_000;

interface WorkerRun {
  readonly run: string;
  readonly since: number;
  readonly handlers: Map<string, ShadowHandler>;
}

/**
 * What all workers saw in shadow mode. Their figures are absolute, so the last report of each counts, however often it comes.
 * Where there are too many workers, the one heard of longest ago is added to a common sum and not heard again.
 */
export class ShadowReports {
  readonly #metrics: Metrics;
  readonly #workers = new Map<string, WorkerRun>();
  readonly #foldedWorkers = new Set<string>();
  #folded = new Sum();
  #entries = 0;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  report(worker: string, { run, since, handlers }: ShadowReport): void {
    if (this.#foldedWorkers.has(worker)) return;
    let known = this.#workers.get(worker);
    if (known?.run !== run) {
      // Other rules: what was seen under the former ones tells nothing any more.
      if (known !== undefined) this.#drop(worker, known);
      known = { run, since, handlers: new Map() };
    }
    // Last in the order, as the one heard of last.
    this.#workers.delete(worker);
    this.#workers.set(worker, known);
    for (const handler of handlers) this.#take(known, handler);
    while (this.#workers.size > MAX_WORKERS || (this.#entries > MAX_ENTRIES && this.#workers.size > 1)) this.#fold();
  }

  /** The rules have changed: linked workers begin a run of their own accord, and of the others nothing is true any more. */
  forget(linked: ReadonlySet<string>): void {
    for (const [worker, known] of this.#workers) if (!linked.has(worker)) this.#drop(worker, known);
    this.#folded = new Sum();
    this.#foldedWorkers.clear();
  }

  sum(): ShadowSum {
    const sum = this.#folded.copy();
    for (const known of this.#workers.values()) sum.addWorker(known);
    return sum.read();
  }

  #take(known: WorkerRun, handler: ShadowHandler): void {
    const name = `${handler.state}.${handler.handler}`;
    const before = known.handlers.get(name);
    if (before === undefined) {
      if (known.handlers.size >= MAX_HANDLERS) return;
      this.#entries++;
    }
    known.handlers.set(name, handler);
    const meter = this.#metrics.handler(handler.class, handler.handler);
    for (const tier of TIERS) {
      const news = eventsFor(handler, tier) - eventsFor(before, tier);
      if (news > 0) meter.shadow(tier, news);
    }
    const wrong = wrongOf(handler) - wrongOf(before);
    if (wrong > 0) meter.shadowWrong(wrong);
  }

  #drop(worker: string, known: WorkerRun): void {
    this.#workers.delete(worker);
    this.#entries -= known.handlers.size;
  }

  #fold(): void {
    const [oldest] = this.#workers;
    if (oldest === undefined) return;
    const [worker, known] = oldest;
    this.#folded.addWorker(known);
    this.#drop(worker, known);
    if (this.#foldedWorkers.size < MAX_FOLDED) this.#foldedWorkers.add(worker);
  }
}

/** Events of a handler that its rules got wrong. */
function wrongOf(handler: ShadowHandler | undefined): number {
  return handler?.wrong.reduce((sum, { events }) => sum + events, 0) ?? 0;
}

function eventsFor(handler: ShadowHandler | undefined, tier: Tier): number {
  return handler?.cells.reduce((sum, { would, events }) => sum + (would === tier ? events : 0), 0) ?? 0;
}

class Sum {
  #since: number | undefined;
  #workers = 0;
  readonly #handlers = new Map<string, ShadowHandler>();

  copy(): Sum {
    const copy = new Sum();
    copy.#since = this.#since;
    copy.#workers = this.#workers;
    for (const [name, handler] of this.#handlers) copy.#handlers.set(name, handler);
    return copy;
  }

  addWorker({ since, handlers }: WorkerRun): void {
    this.#workers++;
    this.#since = Math.min(this.#since ?? since, since);
    for (const [name, handler] of handlers) {
      const known = this.#handlers.get(name);
      if (known === undefined && this.#handlers.size >= MAX_HANDLERS) continue;
      this.#handlers.set(name, known === undefined ? handler : added(known, handler));
    }
  }

  read(): ShadowSum {
    return { since: this.#since, workers: this.#workers, handlers: [...this.#handlers.values()] };
  }
}

function added(one: ShadowHandler, other: ShadowHandler): ShadowHandler {
  const needs = new Map(Object.entries(one.needs));
  for (const [need, events] of Object.entries(other.needs)) {
    if (needs.has(need) || needs.size < MAX_KINDS) needs.set(need, (needs.get(need) ?? 0) + events);
  }
  return {
    ...other,
    events: one.events + other.events,
    lowest: raiseTier(one.lowest, other.lowest),
    cells: merged([...one.cells, ...other.cells], ({ now, would }) => `${now} ${would}`, addedCell),
    needs: Object.fromEntries(needs),
    wrong: merged([...one.wrong, ...other.wrong], wrongKind, addedWrong).slice(0, MAX_KINDS),
  };
}

function merged<T>(items: readonly T[], kindOf: (item: T) => string, add: (one: T, other: T) => T): T[] {
  const kinds = new Map<string, T>();
  for (const item of items) {
    const kind = kindOf(item);
    const known = kinds.get(kind);
    kinds.set(kind, known === undefined ? item : add(known, item));
  }
  return [...kinds.values()];
}

function wrongKind({ would, source, missing }: ShadowWrong): string {
  return [would, source, ...missing].join(' ');
}

function addedWrong(one: ShadowWrong, other: ShadowWrong): ShadowWrong {
  return { ...one, events: one.events + other.events };
}

function addedCell(one: ShadowCell, other: ShadowCell): ShadowCell {
  return {
    ...one,
    events: one.events + other.events,
    queries: one.queries + other.queries,
    bridgeMs: one.bridgeMs + other.bridgeMs,
    ms: one.ms + other.ms,
  };
}
