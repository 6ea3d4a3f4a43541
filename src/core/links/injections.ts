import type { Clock, Timer } from '../../ports/clock.ts';
import type { LiveMetrics } from '../../ports/live-metrics.ts';
import type { HandlerCall, Outcome } from '../../ports/virtual-session.ts';
import type { Subscription } from '../../protocol/link-live.ts';
import type { LiveHub } from '../live/live-hub.ts';
import type { LiveSession } from '../live/live-session.ts';
import type { Berth } from './berth.ts';
import type { Slot } from './slots.ts';

/** What the lane asks of its session's channel. */
export interface InjectionHost {
  /** Where a handler may be started now; undefined: nowhere, and `pump` is called when that changes. */
  readonly open: Berth | undefined;
  /** Whether packets of the client wait. `pump` is called as each is handed over. */
  readonly userWaits: boolean;
  /** Starts it at the worker; returns its number. */
  inject(call: HandlerCall): number;
}

interface Begun {
  readonly number: number;
  readonly slot: Slot;
  /** undefined: a live event, which is made anew where it is lost. */
  readonly push: HandlerCall | undefined;
  received: boolean;
}

/** Pushes that wait for one session. */
const MAX_PUSHES = 64;
/** A client that always has something waiting keeps what nobody waits for back for so long. Milliseconds. */
const PATIENCE = 2_000;

/**
 * Handlers that the sidecar starts in a session: pushes and live events. One at a time, after what the user does, and, at the worker, behind
 * the events of all its users.
 */
export class Injections {
  readonly #host: InjectionHost;
  readonly #clock: Clock;
  readonly #metrics: LiveMetrics;
  readonly #live: LiveSession | undefined;
  readonly #pushes: HandlerCall[] = [];
  #begun: Begun | undefined;
  /** Where it stands in line. */
  #line: Berth | undefined;
  #patience: Timer | undefined;
  #impatient = false;

  constructor(host: InjectionHost, parts: { clock: Clock; metrics: LiveMetrics; live: LiveHub | undefined }) {
    this.#host = host;
    this.#clock = parts.clock;
    this.#metrics = parts.metrics;
    this.#live = parts.live?.open(() => this.pump());
  }

  /** A handler is at work. */
  get busy(): boolean {
    return this.#begun !== undefined;
  }

  subscribe(subscription: Subscription): void {
    if (this.#live?.subscribe(subscription) === false) this.#metrics.liveRefused();
  }

  unsubscribe(id: string): void {
    this.#live?.unsubscribe(id);
  }

  /** False where too many wait. */
  push(call: HandlerCall): boolean {
    if (this.#pushes.length >= MAX_PUSHES) return false;
    this.#pushes.push(call);
    this.pump();
    return true;
  }

  /** Something has changed: begins the next one, or stands in line for it. */
  pump(): void {
    if (this.#begun !== undefined) return;
    const berth = this.#wanted ? this.#host.open : undefined;
    if (berth === undefined || !this.#userIsDone()) return this.leave();
    if (this.#line === berth) return;
    this.leave();
    this.#line = berth;
    berth.events.waitBehind(this.#granted);
  }

  /** Gives up its place in line. */
  leave(): void {
    this.#line?.events.leave(this.#granted);
    this.#line = undefined;
  }

  /** The worker takes everything up to this number. */
  received(number: number): void {
    if (this.#begun !== undefined && this.#begun.number <= number) this.#begun.received = true;
  }

  done(number: number, outcome: Outcome): void {
    const begun = this.#begun;
    if (begun?.number !== number) return;
    this.#end(begun);
    if (begun.push === undefined) this.#live?.done(outcome === 'ended' ? 'ended' : 'failed');
    else this.#metrics.pushRun(outcome === 'ended' ? 'ended' : 'failed');
    this.pump();
  }

  /** The same worker has the session again: its last number, and those up to it whose end has still to come. */
  resumed(received: number, open: readonly number[]): void {
    const begun = this.#begun;
    if (begun === undefined) return;
    if (begun.number > received) return this.#lost(begun, true);
    begun.received = true;
    if (open.includes(begun.number)) return;
    // Its end was lost with the link: a live event may have failed, and is made anew.
    if (begun.push === undefined) this.#lost(begun, false);
    else this.done(begun.number, 'ended');
  }

  /** The worker is gone, or has let go. `certain`: what was not received has not run; `unrun`: nor have these. */
  gone(certain: boolean, unrun: readonly number[]): void {
    this.leave();
    const begun = this.#begun;
    if (begun !== undefined) this.#lost(begun, (certain && !begun.received) || unrun.includes(begun.number));
  }

  close(): void {
    this.leave();
    this.#patience?.cancel();
    this.#begun?.slot.release();
    const lost = this.#pushes.length + (this.#begun?.push === undefined ? 0 : 1);
    for (let count = 0; count < lost; count++) this.#metrics.pushRun('lost');
    this.#begun = undefined;
    this.#pushes.length = 0;
    this.#live?.close();
  }

  get #wanted(): boolean {
    return this.#pushes.length > 0 || this.#live?.ready === true;
  }

  /** Or has kept it waiting for long enough. */
  #userIsDone(): boolean {
    if (!this.#host.userWaits || this.#impatient) return true;
    this.#patience ??= this.#clock.setTimeout(() => {
      this.#patience = undefined;
      this.#impatient = true;
      this.pump();
    }, PATIENCE);
    return false;
  }

  readonly #granted = (slot: Slot): void => {
    this.#line = undefined;
    const isOpen = this.#host.open !== undefined && this.#userIsDone();
    const push = isOpen ? this.#pushes.shift() : undefined;
    const call = push ?? (isOpen ? this.#live?.take() : undefined);
    if (call === undefined) return slot.release();
    this.#patience?.cancel();
    this.#patience = undefined;
    this.#impatient = false;
    this.#begun = { number: this.#host.inject(call), slot, push, received: false };
  };

  #end(begun: Begun): void {
    this.#begun = undefined;
    begun.slot.release();
  }

  #lost(begun: Begun, neverRan: boolean): void {
    this.#end(begun);
    if (begun.push === undefined) this.#live?.lost();
    else if (neverRan) this.#pushes.unshift(begun.push);
    else this.#metrics.pushRun('lost');
  }
}
