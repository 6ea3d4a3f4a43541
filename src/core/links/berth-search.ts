import type { Clock, Timer } from '../../ports/clock.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import type { Berth } from './berth.ts';
import type { LinkedWorkers } from './linked-workers.ts';
import type { Slot } from './slots.ts';

/** A worker that failed a session is asked again after so many milliseconds, where there is no other. */
const RETRY = 500;

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

  /** `onTurn` gets an open berth and a place to attach there. */
  constructor(workers: LinkedWorkers, clock: Clock, onTurn: (berth: Berth, slot: Slot) => void) {
    this.#workers = workers;
    this.#clock = clock;
    this.#onTurn = onTurn;
  }

  /** Any worker, the token's own first; `avoid` only where there is no other, and after a while. */
  any(token: ClientToken, build: string | undefined, avoid?: Berth): void {
    this.stop();
    const again = (): void => this.any(token, build);
    const berth = this.#workers.choose(token, build, avoid);
    if (berth !== undefined) return this.at(berth, again);
    this.#forgetChange = this.#workers.onceChanged(again);
    if (avoid?.open === true) this.#timer = this.#clock.setTimeout(again, RETRY);
  }

  /** This worker; `otherwise` where it goes before the turn comes. */
  at(berth: Berth, otherwise: () => void): void {
    this.stop();
    const turn = (slot: Slot): void => {
      this.#leaveLine = this.#hurry = undefined;
      if (berth.open) {
        this.#hurries = false;
        return this.#onTurn(berth, slot);
      }
      slot.release();
      otherwise();
    };
    const slot = berth.attaches.take();
    if (slot !== undefined) return turn(slot);
    this.#leaveLine = () => berth.attaches.leave(turn);
    this.#hurry = () => berth.attaches.hurry(turn);
    berth.attaches.wait(turn);
    if (this.#hurries) this.#hurry();
  }

  /** Its user waits: from now on it stands before those whose users do not. */
  hurry(): void {
    this.#hurries = true;
    this.#hurry?.();
  }

  /**
   * This worker as soon as it is linked again; `otherwise` after `soon` milliseconds where another one could be found, after `late` in any
   * case.
   */
  returnOf(berth: Berth, times: { readonly soon: number; readonly late: number }, otherwise: () => void): void {
    this.stop();
    let isLate = false;
    const look = (): void => {
      if (berth.open) this.at(berth, otherwise);
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
