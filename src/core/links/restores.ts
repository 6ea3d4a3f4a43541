import type { BackgroundHandler, HandlerCall, VirtualSession } from '../../ports/virtual-session.ts';

/**
 * What a session had at its worker before and is to have again: its background handlers, and the whole state where its browser may lack
 * something. Each is kept until the worker has done it, so that a second crash does not cost it.
 */
export class Restores {
  #stale = false;
  #handlers: HandlerCall[] = [];
  readonly #sent = new Map<number, HandlerCall | 'state'>();

  /** The worker has still to do some of it. */
  get busy(): boolean {
    return this.#sent.size > 0;
  }

  /** The browser may have missed something. */
  lacks(): void {
    this.#stale = true;
  }

  /** These ran. */
  ran(handlers: readonly HandlerCall[]): void {
    this.#handlers.push(...handlers);
  }

  /** Sends all of it. `loads`: the page loads, and starts its own handlers first; what it starts is not started again. */
  begin(session: VirtualSession, number: () => number, loads: boolean): void {
    if (!loads) {
      for (const handler of this.#handlers.splice(0)) {
        const sent = number();
        this.#sent.set(sent, handler);
        session.inject(sent, handler, true);
      }
    }
    if (!this.#stale) return;
    this.#stale = false;
    const sent = number();
    this.#sent.set(sent, 'state');
    session.resync(sent);
  }

  done(number: number): void {
    this.#sent.delete(number);
  }

  /** The worker tells that this one runs: its attachment keeps it from now on. */
  started(handler: BackgroundHandler): void {
    if (this.#handlers.length === 0 && this.#sent.size === 0) return;
    const text = JSON.stringify(handler);
    const isSame = (other: HandlerCall): boolean =>
      JSON.stringify({ name: other.name, payload: other.payload }) === text;
    for (const [number, sent] of this.#sent) {
      if (sent !== 'state' && isSame(sent)) return void this.#sent.delete(number);
    }
    const index = this.#handlers.findIndex(isSame);
    if (index !== -1) this.#handlers.splice(index, 1);
  }

  /** The same worker goes on: its last number, and those up to it that it has still to do. */
  resumed(received: number, open: readonly number[]): void {
    this.#again((number) => number > received);
    for (const number of this.#sent.keys()) if (!open.includes(number)) this.#sent.delete(number);
  }

  /** The worker is gone, or has let go: the next one has to do it. */
  gone(): void {
    this.#again(() => true);
  }

  /** Empties it; returns the handlers that have not been started again. */
  take(): HandlerCall[] {
    const handlers = this.#handlers;
    this.#handlers = [];
    this.#sent.clear();
    this.#stale = false;
    return handlers;
  }

  #again(isLost: (number: number) => boolean): void {
    const handlers: HandlerCall[] = [];
    for (const [number, sent] of this.#sent) {
      if (!isLost(number)) continue;
      this.#sent.delete(number);
      if (sent === 'state') this.#stale = true;
      else handlers.push(sent);
    }
    this.#handlers.unshift(...handlers);
  }
}
