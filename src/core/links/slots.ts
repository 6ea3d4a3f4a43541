import type { Clock, Timer } from '../../ports/clock.ts';

/** A place at a worker; giving it back twice does nothing. */
export interface Slot {
  release(): void;
}

/** A class, since an event takes one: an object with a closure of its own costs it more. */
class Held implements Slot {
  readonly since: number;
  readonly until: number;
  readonly isBehind: boolean;
  held = true;
  readonly #onRelease: (held: Held) => void;

  constructor(since: number, until: number, isBehind: boolean, onRelease: (held: Held) => void) {
    this.since = since;
    this.until = until;
    this.isBehind = isBehind;
    this.#onRelease = onRelease;
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    this.#onRelease(this);
  }
}

/** Who stands behind the line for so long comes first. Milliseconds. */
const PATIENCE = 2_000;
/** It holds its place for so many times as long: more of it at once would only slow all of it down. */
const BEHIND_HOLD = 10;
/** Users are around for so long after one was in line. Milliseconds. */
const AROUND = 1_000;
/** While users are around, those behind the line come one by one, and after each the line has the worker for itself so many times as long. */
const REST = 2.5;
/** And no longer: what takes longer mostly waits itself. Milliseconds. */
const MAX_REST = 250;

/**
 * What a worker is given at a time. Who finds no place waits in line, one place a turn, so that a busy session takes no more than
 * its share. A place is free again when it is given back, or after `hold` milliseconds: work that takes so long waits for
 * something itself, and must not keep others out. Behind the line stands what nobody waits for: it gets a few places, and only while nobody
 * is in line; where users come and go, it leaves the worker most of the time to them.
 */
export class Slots {
  readonly #clock: Clock;
  readonly #hold: number;
  readonly #behind: number;
  #limit: number;
  #taken = 0;
  #takenBehind = 0;
  readonly #first = new Set<(slot: Slot) => void>();
  readonly #line = new Set<(slot: Slot) => void>();
  /** With the time since when. */
  readonly #behindLine = new Map<(slot: Slot) => void, number>();
  /** Each in the order they were taken, which is that of their ends. */
  readonly #held: { readonly line: Held[]; readonly behind: Held[] } = { line: [], behind: [] };
  #timer: Timer | undefined;
  /** When the timer fires. */
  #due = Infinity;
  /** When somebody in line last got a place. */
  #usedAt = -Infinity;
  /** Nobody from behind the line is let in. */
  #rests = false;
  #isAdmitting = false;
  /** A place has become free meanwhile. */
  #admitAgain = false;
  #restTimer: Timer | undefined;
  #quietTimer: Timer | undefined;

  /** `behind`: places that those behind the line may hold at a time. */
  constructor(options: { limit: number; hold: number; behind?: number }, clock: Clock) {
    this.#limit = options.limit;
    this.#hold = options.hold;
    this.#behind = options.behind ?? 0;
    this.#clock = clock;
  }

  /** How many there are. With more of them, those in line are let in. */
  get limit(): number {
    return this.#limit;
  }

  set limit(limit: number) {
    this.#limit = limit;
    this.#admit();
  }

  get taken(): number {
    return this.#taken;
  }

  /** Whether there is a place that nobody waits for. */
  get free(): boolean {
    return this.#first.size === 0 && this.#line.size === 0 && this.#taken < this.#limit;
  }

  /** undefined: all are taken, or others are first. */
  take(): Slot | undefined {
    return this.free ? this.#make(false) : undefined;
  }

  /** Stands in line; called with a place once, unless it leaves before. Standing twice keeps the first place. */
  wait(granted: (slot: Slot) => void): void {
    if (!this.#first.has(granted)) this.#line.add(granted);
  }

  /** From its place in line to before the line: somebody waits for it. */
  hurry(granted: (slot: Slot) => void): void {
    if (this.#line.delete(granted)) this.#first.add(granted);
  }

  /** Stands behind the line; called with a place once, which may be at once, unless it leaves before. */
  waitBehind(granted: (slot: Slot) => void): void {
    if (!this.#behindLine.has(granted)) this.#behindLine.set(granted, this.#clock.monotonic());
    this.#admit();
  }

  leave(granted: (slot: Slot) => void): void {
    this.#first.delete(granted);
    this.#line.delete(granted);
    this.#behindLine.delete(granted);
  }

  /** Lets everybody in: there is nothing to wait for any more. */
  close(): void {
    this.limit = Infinity;
    this.#timer?.cancel();
    for (const timer of [this.#restTimer, this.#quietTimer]) timer?.cancel();
    this.#rests = false;
    this.#held.line.length = 0;
    this.#held.behind.length = 0;
  }

  #make(isBehind: boolean): Slot {
    const now = this.#clock.monotonic();
    this.#taken++;
    if (isBehind) this.#takenBehind++;
    else this.#usedAt = now;
    const held = new Held(now, now + this.#hold * (isBehind ? BEHIND_HOLD : 1), isBehind, this.#released);
    this.#held[isBehind ? 'behind' : 'line'].push(held);
    this.#watch();
    return held;
  }

  readonly #released = (held: Held): void => {
    this.#taken--;
    if (held.isBehind) {
      this.#takenBehind--;
      this.#rest(held);
    }
    this.#admit();
  };

  #admit(): void {
    // Most often nobody waits.
    if (this.#line.size === 0 && this.#first.size === 0 && this.#behindLine.size === 0) return;
    this.#admitAgain = true;
    // Who gets a place may give it back at once: that must not go deeper and deeper where thousands do.
    if (this.#isAdmitting) return;
    this.#isAdmitting = true;
    try {
      while (this.#admitAgain) {
        this.#admitAgain = false;
        this.#admitNext();
      }
    } finally {
      this.#isAdmitting = false;
    }
  }

  #admitNext(): void {
    const longest = this.#clock.monotonic() - PATIENCE;
    this.#admitBehind((since) => since <= longest);
    for (const line of [this.#first, this.#line]) {
      for (const granted of line) {
        if (this.#taken >= this.#limit) return;
        line.delete(granted);
        granted(this.#make(false));
      }
    }
    this.#admitBehind(() => this.#line.size === 0);
  }

  /** After somebody from behind the line: users who are around have the worker for a while. */
  #rest({ since }: Held): void {
    const now = this.#clock.monotonic();
    if (!this.#hasUsers(now)) return;
    // Other sidecars' should not fall together with this one's.
    const rest = Math.min(MAX_REST, (now - since) * REST) * (0.5 + Math.random());
    this.#rests = true;
    this.#restTimer?.cancel();
    this.#restTimer = this.#clock.setTimeout(() => {
      this.#rests = false;
      this.#admit();
    }, rest);
  }

  #placesBehind(): number {
    const now = this.#clock.monotonic();
    if (!this.#hasUsers(now) || this.#behind <= 1) return this.#behind;
    // There are more once users are gone, though nothing else may happen then.
    this.#quietTimer ??= this.#clock.setTimeout(
      () => {
        this.#quietTimer = undefined;
        this.#admit();
      },
      this.#usedAt + AROUND - now,
    );
    return 1;
  }

  #hasUsers(now: number): boolean {
    return now - this.#usedAt < AROUND;
  }

  #admitBehind(mayPass: (since: number) => boolean): void {
    if (this.#behindLine.size === 0 || this.#rests) return;
    const places = this.#placesBehind();
    for (const [granted, since] of this.#behindLine) {
      if (this.#taken >= this.#limit || this.#takenBehind >= places || !mayPass(since)) return;
      this.#behindLine.delete(granted);
      granted(this.#make(true));
    }
  }

  #watch(): void {
    const until = Math.min(firstEnd(this.#held.line), firstEnd(this.#held.behind));
    if (until >= this.#due) return;
    this.#due = until;
    this.#timer?.cancel();
    this.#timer = this.#clock.setTimeout(() => this.#expire(), Math.max(1, until - this.#clock.monotonic()));
  }

  #expire(): void {
    this.#due = Infinity;
    const now = this.#clock.monotonic();
    for (const held of Object.values(this.#held)) {
      while (held[0] !== undefined && (!held[0].held || held[0].until <= now)) held.shift()?.release();
    }
    this.#watch();
  }
}

/** When the first of those that are still held ends. */
function firstEnd(held: Held[]): number {
  while (held[0]?.held === false) held.shift();
  return held[0]?.until ?? Infinity;
}
