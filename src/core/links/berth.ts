import type { Clock } from '../../ports/clock.ts';
import type { LinkedWorker } from '../../ports/links.ts';
import { Slots } from './slots.ts';

/** Events a worker is given at a time where its manifest asks for no other number. */
const EVENTS = 64;
/** An event at work for so long waits for something itself; milliseconds. */
const EVENT_HOLD = 1_000;
/**
 * Handlers that nobody waits for, live events and pushes, that a worker is given at a time: enough to keep it busy, and so few that an event of a
 * user finds little before it.
 */
const INJECTIONS = 2;
/** Sessions that attach to a worker at a time: a hydrate costs it some 8 ms, and running sessions come first. */
const ATTACHES = 8;
/** One that takes so long waits for a dead worker's state lock; milliseconds. */
const ATTACH_HOLD = 500;
/** A new worker's share grows over so many milliseconds: its code is not warm. */
const SLOW_START = 10_000;
/** An event at work weighs as much as so many idle sessions. */
const EVENT_WEIGHT = 20;

/** A session that lies at a worker and can be asked to move. */
export interface Moored {
  /** The worker is about to stop, by `by` of the monotonic clock: finish, let go, and go elsewhere. Resolves when it is there. */
  move(by: number): Promise<void>;
}

/** A worker as a place for sessions; it outlives its link for as long as one of them may come back to it. */
export class Berth {
  worker: LinkedWorker;
  /** The link is there. */
  linked = true;
  /** Its sessions have been told to move. */
  emptying = false;
  readonly events: Slots;
  readonly attaches: Slots;
  readonly sessions = new Set<Moored>();
  /** Sessions that stand in line to come. */
  coming = 0;
  /** When it was first known. */
  readonly #since: number;
  readonly #clock: Clock;

  constructor(worker: LinkedWorker, since: number, clock: Clock) {
    this.worker = worker;
    this.#since = since;
    this.#clock = clock;
    this.events = new Slots({ limit: eventsOf(worker), hold: EVENT_HOLD, behind: INJECTIONS }, clock);
    this.attaches = new Slots({ limit: ATTACHES, hold: ATTACH_HOLD }, clock);
  }

  get instance(): string {
    return this.worker.manifest.instance;
  }

  /** Whether it takes new sessions. */
  get open(): boolean {
    return this.linked && this.worker.drainBy === undefined;
  }

  relinked(worker: LinkedWorker): void {
    this.worker = worker;
    this.linked = true;
    this.emptying = false;
    this.events.limit = eventsOf(worker);
    this.attaches.limit = ATTACHES;
  }

  /** The link is lost: who waits for a turn must look elsewhere. */
  unlinked(): void {
    this.linked = false;
    this.attaches.limit = Infinity;
  }

  /**
   * How full it is, to be compared with others: sessions, of this sidecar or as the worker itself counts them, with those that are about to
   * come, and events at work, for each event it takes at a time. `young`: whether others have been here for longer, so that it starts slowly.
   */
  load(young: boolean): number {
    const { sessions, inFlight } = this.worker.load;
    const lying = Math.max(this.sessions.size, sessions) + this.coming;
    const work = lying + EVENT_WEIGHT * Math.max(this.events.taken, inFlight);
    const share = young ? Math.min(1, Math.max(0.1, this.#age / SLOW_START)) : 1;
    return (work + 1) / (this.events.limit * share);
  }

  get isWarm(): boolean {
    return this.#age >= SLOW_START;
  }

  get #age(): number {
    return this.#clock.monotonic() - this.#since;
  }

  close(): void {
    this.events.close();
    this.attaches.close();
  }
}

function eventsOf({ manifest }: LinkedWorker): number {
  return manifest.capacity > 0 ? manifest.capacity : EVENTS;
}
