import { createHash } from 'node:crypto';
import type { Clock } from '../../ports/clock.ts';
import type { LinkedWorker } from '../../ports/links.ts';
import type { Logger } from '../../ports/logger.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import { Berth } from './berth.ts';

/** Tokens whose worker is remembered after their sessions ended, so that a client that comes back finds its state. */
const MAX_TOKENS = 100_000;
/** Loads that differ by less are the same: several sidecars then choose alike. */
const SAME_LOAD = 1.1;
/** Sessions that are on their way from a stopping worker at a time, where there are others to take them. */
const MOVES = 8;

/** Workers whose age is remembered after they went. */
const MAX_AGES = 1_000;

/** What a session's worker should be like. */
export interface Wish {
  readonly token: ClientToken;
  /** Of the worker that it had. */
  readonly build: string | undefined;
  /** The hash of the state tree that its page was made for. */
  readonly schema: string | undefined;
}

interface Home {
  readonly instance: string;
  readonly build: string;
}

/** The linked workers that take sessions, and which of them a session gets. */
export class LinkedWorkers {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #berths = new Map<string, Berth>();
  readonly #homes = new Map<ClientToken, Home>();
  /** Since when each worker is known: one whose link flapped is warm still. */
  readonly #ages = new Map<string, number>();
  readonly #waiting = new Set<() => void>();
  /** When the last worker that takes sessions left; undefined while there is one. */
  #bareSince: number | undefined;

  constructor(parts: { clock: Clock; logger: Logger }) {
    this.#clock = parts.clock;
    this.#logger = parts.logger;
    this.#bareSince = parts.clock.monotonic();
  }

  /** Whether a worker takes sessions now. */
  get any(): boolean {
    return [...this.#berths.values()].some((berth) => berth.open);
  }

  /** Milliseconds since there was one, or since the start; 0 while there is. */
  get bare(): number {
    return this.#bareSince === undefined ? 0 : this.#clock.monotonic() - this.#bareSince;
  }

  /** The smallest message that any worker takes at most, in code points; Infinity where there is none. */
  get maxPayload(): number {
    // Asked for each packet.
    let smallest = Infinity;
    for (const { worker } of this.#berths.values()) smallest = Math.min(smallest, worker.manifest.maxPayload);
    return smallest;
  }

  /** Sessions of each worker. */
  get sessions(): ReadonlyMap<string, number> {
    return new Map([...this.#berths.values()].map(({ instance, sessions }) => [instance, sessions.size]));
  }

  /** The links have changed. */
  update(workers: readonly LinkedWorker[]): void {
    const carrying = workers.filter(({ manifest }) => manifest.sessions);
    const present = new Map(carrying.map((worker) => [worker.manifest.instance, worker]));
    for (const berth of this.#berths.values()) {
      if (present.has(berth.instance)) continue;
      berth.unlinked();
      this.#forget(berth);
    }
    for (const worker of carrying) this.#add(worker);
    // Workers that are there and take none are not worth waiting for.
    const since =
      workers.length > 0 && carrying.length === 0 ? -Infinity : (this.#bareSince ?? this.#clock.monotonic());
    this.#bareSince = this.any ? undefined : since;
    // Who is told may ask to be told again.
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Calls once when the workers change, unless the returned function is called before. */
  onceChanged(callback: () => void): () => void {
    // A function of its own: the same callback may wait twice.
    const wake = (): void => callback();
    this.#waiting.add(wake);
    return () => void this.#waiting.delete(wake);
  }

  byInstance(instance: string): Berth | undefined {
    return this.#berths.get(instance);
  }

  /** The worker that Reflex's token records name so; it may be about to stop. */
  byTokens(holder: string): Berth | undefined {
    return [...this.#berths.values()].find(({ worker, linked }) => linked && worker.manifest.tokens === holder);
  }

  /**
   * Where a session should lie: with a worker that its page was made for, where there is one; among those with the one that has its state, else
   * with one of the least loaded. undefined: nowhere now. `refused`: not these. `faithful`: rather nowhere than with a worker that its page was
   * not made for, while there are others.
   */
  choose({ token, build, schema }: Wish, refused: ReadonlySet<Berth>, faithful: boolean): Berth | undefined {
    const open = [...this.#berths.values()].filter((berth) => berth.open);
    const home = token === '' ? undefined : this.#homes.get(token);
    const wanted = build ?? home?.build;
    const able = narrowed(open, ({ worker }) => worker.manifest.schema === schema && schema !== undefined);
    const same = narrowed(able, ({ worker }) => worker.manifest.build === wanted);
    const willing = same.filter((berth) => !refused.has(berth));
    const candidates = willing.length > 0 || faithful ? willing : open.filter((berth) => !refused.has(berth));
    const own = candidates.find(({ instance }) => instance === home?.instance);
    if (own !== undefined) return own;
    const anyWarm = candidates.some(({ isWarm }) => isWarm);
    const loads = new Map(candidates.map((berth) => [berth, berth.load(anyWarm)]));
    const least = Math.min(...loads.values());
    const equal = candidates.filter((berth) => (loads.get(berth) ?? 0) <= least * SAME_LOAD);
    // Rendezvous hash (Thaler and Ravishankar, 1998).
    return equal.reduce<{ berth: Berth; rank: string } | undefined>((best, berth) => {
      const rank = createHash('sha1').update(`${berth.instance}\n${token}`).digest('hex');
      return best === undefined || rank > best.rank ? { berth, rank } : best;
    }, undefined)?.berth;
  }

  /** The worker that has, or last had, a session of this token, while it is linked. */
  homeOf(token: ClientToken): Manifest | undefined {
    return this.#berths.get(this.#homes.get(token)?.instance ?? '')?.worker.manifest;
  }

  /** A session lies there now. */
  remember(token: ClientToken, berth: Berth): void {
    if (token === '') return;
    this.#homes.delete(token);
    this.#homes.set(token, { instance: berth.instance, build: berth.worker.manifest.build });
    cutTo(MAX_TOKENS, this.#homes);
  }

  /** Forgets a worker that has gone once its last session has left it. */
  left(berth: Berth): void {
    this.#forget(berth);
  }

  #forget(berth: Berth): void {
    if (berth.linked || berth.sessions.size > 0 || this.#berths.get(berth.instance) !== berth) return;
    this.#berths.delete(berth.instance);
    berth.close();
  }

  #add(worker: LinkedWorker): void {
    const { instance } = worker.manifest;
    const known = this.#berths.get(instance);
    const since = this.#ages.get(instance) ?? worker.since;
    this.#ages.delete(instance);
    this.#ages.set(instance, since);
    cutTo(MAX_AGES, this.#ages);
    const berth = known ?? new Berth(worker, since, this.#clock);
    if (known === undefined) this.#berths.set(berth.instance, berth);
    else if (known.worker !== worker || !known.linked) known.relinked(worker);
    if (worker.drainBy === undefined || berth.emptying) return;
    berth.emptying = true;
    void this.#empty(berth, worker.drainBy);
  }

  /**
   * A worker is about to stop: its sessions go, a few at a time, so that the others are served until their turn and nobody waits for more
   * than a move. When half of the time is over, all that are left go at once.
   */
  async #empty(berth: Berth, by: number): Promise<void> {
    this.#logger.info({ worker: berth.instance, sessions: berth.sessions.size }, 'a worker stops: moving its sessions');
    const leaving = [...berth.sessions];
    const next = async (): Promise<void> => {
      for (let session = leaving.shift(); session !== undefined; session = leaving.shift()) await session.move(by);
    };
    const lanes = (count: number): Promise<unknown> => Promise.all(Array.from({ length: count }, next));
    const half = Math.max(0, (by - this.#clock.monotonic()) / 2);
    const hurry = this.#clock.setTimeout(() => void lanes(leaving.length), half);
    await lanes(this.any ? MOVES : leaving.length);
    hurry.cancel();
  }
}

/** Those that it holds for, where there are any. */
function narrowed(berths: readonly Berth[], holds: (berth: Berth) => boolean): readonly Berth[] {
  const some = berths.filter(holds);
  return some.length > 0 ? some : berths;
}

/** The oldest go. */
function cutTo(limit: number, entries: Map<string, unknown>): void {
  if (entries.size <= limit) return;
  for (const oldest of entries.keys()) {
    entries.delete(oldest);
    return;
  }
}
