import type { Clock, Timer } from '../../ports/clock.ts';

/** A place at a worker; giving it back twice does nothing. */
export interface Slot {
  release(): void;
}

interface Held extends Slot {
  readonly until: number;
  held: boolean;
}

/**
 * What a worker is given at a time. Who finds no place waits in line, one place a turn, so that a busy session takes no more than
 * its share. A place is free again when it is given back, or after `hold` milliseconds: work that takes so long waits for
 * something itself, and must not keep others out.
 */
export class Slots {
  readonly #clock: Clock;
  readonly #hold: number;
  #limit: number;
  #taken = 0;
  readonly #line = new Set<(slot: Slot) => void>();
  /** In the order they were taken, which is that of their ends. */
  #held: Held[] = [];
  #timer: Timer | undefined;

  constructor(options: { limit: number; hold: number }, clock: Clock) {
    this.#limit = options.limit;
    this.#hold = options.hold;
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
    return this.#line.size === 0 && this.#taken < this.#limit;
  }

  /** undefined: all are taken, or others are first. */
  take(): Slot | undefined {
    return this.free ? this.#make() : undefined;
  }

  /** Stands in line; called with a place once, unless it leaves before. Standing twice keeps the first place. */
  wait(granted: (slot: Slot) => void): void {
    this.#line.add(granted);
  }

  leave(granted: (slot: Slot) => void): void {
    this.#line.delete(granted);
  }

  /** Lets everybody in: there is nothing to wait for any more. */
  close(): void {
    this.limit = Infinity;
    this.#timer?.cancel();
    this.#held = [];
  }

  #make(): Slot {
    this.#taken++;
    const held: Held = {
      until: this.#clock.monotonic() + this.#hold,
      held: true,
      release: () => this.#release(held),
    };
    this.#held.push(held);
    this.#watch();
    return held;
  }

  #release(held: Held): void {
    if (!held.held) return;
    held.held = false;
    this.#taken--;
    this.#admit();
  }

  #admit(): void {
    for (const granted of this.#line) {
      if (this.#taken >= this.#limit) return;
      this.#line.delete(granted);
      granted(this.#make());
    }
  }

  #watch(): void {
    if (this.#timer !== undefined) return;
    while (this.#held[0]?.held === false) this.#held.shift();
    const [oldest] = this.#held;
    if (oldest === undefined) return;
    this.#timer = this.#clock.setTimeout(() => this.#expire(), Math.max(1, oldest.until - this.#clock.monotonic()));
  }

  #expire(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    while (this.#held[0] !== undefined && (!this.#held[0].held || this.#held[0].until <= now)) {
      this.#held.shift()?.release();
    }
    this.#watch();
  }
}
