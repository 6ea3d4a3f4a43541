import type { Clock, Timer } from '../../ports/clock.ts';
import type { Berth } from './berth.ts';
import type { LinkedWorkers, Wish } from './linked-workers.ts';
import type { Slot } from './slots.ts';

/** A worker that failed a session is asked again after so many milliseconds, where there is no other. */
const RETRY = 500;
/** So often the workers of a page's own build may refuse it before another one is asked. */
const FAITHFUL = 3;

/** Looks for a worker that takes a session, and waits for its turn there. One search at a time; a new one ends the one before. */
export class BerthSearch {
  readonly #workers: LinkedWorkers;
  readonly #clock: Clock;
  readonly #onTurn: (berth: Berth, slot: Slot) => void;
  #timer: Timer | undefined;
  #forgetChange: (() => void) | undefined;
  #leaveLine: (() => void) | undefined;
  #hurry: (() => void) | undefined;
  #hurries = false;
  /** Who has refused the session in this round; how often all have. */
  readonly #refused = new Set<Berth>();
  #rounds = 0;

  /** `onTurn` gets an open berth and a place to attach there. */
  constructor(workers: LinkedWorkers, clock: Clock, onTurn: (berth: Berth, slot: Slot) => void) {
    this.#workers = workers;
    this.#clock = clock;
    this.#onTurn = onTurn;
  }

  /** Any worker, the token's own first. One that refused the session is asked again only once all have, and after a while. */
  any(wish: Wish): void {
    this.stop();
    const again = (): void => this.any(wish);
    const berth = this.#workers.choose(wish, this.#refused, this.#rounds < FAITHFUL);
    if (berth !== undefined) return this.at(berth, again);
    this.#forgetChange = this.#workers.onceChanged(again);
    if (this.#refused.size === 0) return;
    this.#timer = this.#clock.setTimeout(() => {
      this.#refused.clear();
      this.#rounds++;
      again();
    }, RETRY);
  }

  refusedBy(berth: Berth): void {
    this.#refused.add(berth);
  }

  /** A worker has the session. */
  found(): void {
    this.#refused.clear();
    this.#rounds = 0;
  }

  /**
   * This worker; `otherwise` where it goes before the turn comes. `how`: whether the session is not there yet; that it was there, so that a
   * worker which is about to stop takes it as well; or that it leaves.
   */
  at(berth: Berth, otherwise: () => void, how: 'comes' | 'returns' | 'leaves' = 'comes'): void {
    this.stop();
    const turn = (slot: Slot): void => {
      this.#leaveLine?.();
      this.#leaveLine = this.#hurry = undefined;
      if (how === 'returns' ? berth.linked : berth.open) {
        this.#hurries = false;
        return this.#onTurn(berth, slot);
      }
      slot.release();
      otherwise();
    };
    const slot = berth.attaches.take();
    if (slot !== undefined) return turn(slot);
    // Whoever chooses next must see who stands here already.
    if (how !== 'leaves') berth.coming++;
    this.#leaveLine = () => {
      if (how !== 'leaves') berth.coming--;
      berth.attaches.leave(turn);
    };
    this.#hurry = () => berth.attaches.hurry(turn);
    berth.attaches.wait(turn);
    if (this.#hurries) this.#hurry();
  }

  /** Its user waits: from now on it stands before those whose users do not. */
  hurry(): void {
    this.#hurries = true;
    this.#hurry?.();
  }

  /** Looks again after a while: who has the session's token now is about to let go. */
  later(again: () => void): void {
    this.stop();
    this.#timer = this.#clock.setTimeout(again, RETRY);
  }

  /**
   * This worker as soon as it is linked again; `otherwise` after `soon` milliseconds where another one could be found, after `late` in any
   * case.
   */
  returnOf(instance: string, times: { readonly soon: number; readonly late: number }, otherwise: () => void): void {
    this.stop();
    let isLate = false;
    const look = (): void => {
      const berth = this.#workers.byInstance(instance);
      if (berth?.linked === true) this.at(berth, otherwise, 'returns');
      else if (isLate && this.#workers.any) otherwise();
      else this.#forgetChange = this.#workers.onceChanged(look);
    };
    const onSoon = (): void => {
      isLate = true;
      this.#timer = this.#clock.setTimeout(otherwise, Math.max(0, times.late - times.soon));
      if (this.#workers.any) otherwise();
    };
    look();
    if (this.#forgetChange !== undefined) this.#timer = this.#clock.setTimeout(onSoon, times.soon);
  }

  /** A worker was found, others are first. */
  get inLine(): boolean {
    return this.#leaveLine !== undefined;
  }

  stop(): void {
    this.#timer?.cancel();
    this.#forgetChange?.();
    this.#leaveLine?.();
    this.#timer = this.#forgetChange = this.#leaveLine = this.#hurry = undefined;
  }
}
