import type { ChangeBusState, ChangeSubscriber } from '../../ports/change-bus.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import { readBusMessage, type Change, type Gap } from '../../protocol/change.ts';
import type { Push } from '../../protocol/push.ts';

export interface FeedParts {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Ids of one generation; two are kept. */
const GENERATION = 32_768;

/** The receiving half that all buses share: who subscribes, which ids were seen, how the bus stands. */
export class ChangeFeed {
  readonly #parts: FeedParts;
  readonly #subscribers = new Set<ChangeSubscriber>();
  #seen = new Set<string>();
  #seenBefore = new Set<string>();
  #state: ChangeBusState = 'starting';
  #detail = 'not connected yet';
  #onUp = (): void => undefined;
  #isLate = false;
  #saidUnreadable = false;

  constructor(parts: FeedParts) {
    this.#parts = parts;
  }

  get state(): ChangeBusState {
    return this.#state;
  }

  get detail(): string {
    return this.#detail;
  }

  subscribe(subscriber: ChangeSubscriber): () => void {
    // An object of its own: one subscriber may stand here twice.
    const own: ChangeSubscriber = {
      changes: (batch) => subscriber.changes(batch),
      gap: (gap) => subscriber.gap(gap),
      push: (push) => subscriber.push?.(push),
      state: (state) => subscriber.state?.(state),
    };
    this.#subscribers.add(own);
    return () => void this.#subscribers.delete(own);
  }

  /** Resolves when the bus is up for the first time, or after `timeout` milliseconds: what it tells then comes after a gap. */
  async firstUp(timeout: number): Promise<void> {
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#onUp = resolve;
      timer = this.#parts.clock.setTimeout(() => {
        this.#isLate = this.#state !== 'up';
        resolve();
      }, timeout);
      if (this.#state === 'up') resolve();
    });
    timer?.cancel();
  }

  /** `gap`: what may have been missed before. */
  up(gap?: Gap): void {
    const told: Gap | undefined = gap ?? (this.#isLate ? { reason: 'reconnect' } : undefined);
    this.#isLate = false;
    this.#set('up', '');
    if (told !== undefined) this.gap(told);
    this.#onUp();
  }

  down(detail: string): void {
    // Never up so far: it is starting still, and says why.
    this.#set(this.#state === 'starting' ? 'starting' : 'down', detail);
  }

  /** Hands over what was not seen before. */
  changes(batch: readonly Change[]): void {
    const fresh = batch.filter(({ id }) => this.#isFresh(id));
    if (fresh.length === 0) return;
    for (const subscriber of this.#subscribers) this.#call(() => subscriber.changes(fresh));
  }

  gap(gap: Gap): void {
    for (const subscriber of this.#subscribers) this.#call(() => subscriber.gap(gap));
  }

  push(push: Push): void {
    // Ids of changes are of another kind.
    if (!this.#isFresh(`push ${push.id}`)) return;
    for (const subscriber of this.#subscribers) this.#call(() => subscriber.push?.(push));
  }

  /** A message as it came over the bus. `id`: of changes that bring none. */
  message(text: string, id: (index: number) => string): void {
    const read = readBusMessage(text, { id, now: this.#parts.clock.now() });
    switch (read.kind) {
      case 'changes':
        if (read.skipped > 0) this.#unreadable();
        this.changes(read.changes);
        return;
      case 'gap':
        this.gap(read.gap);
        return;
      case 'push':
        this.push(read.push);
        return;
      case 'unreadable':
        this.#unreadable();
        return;
    }
  }

  close(): void {
    this.#subscribers.clear();
    this.#onUp();
  }

  #set(state: ChangeBusState, detail: string): void {
    const before = this.#state;
    this.#detail = detail;
    if (state === before) return;
    this.#state = state;
    const { logger } = this.#parts;
    if (state === 'down') logger.warn({ detail }, 'the change bus is down: live changes wait or are missed; trying on');
    else if (before === 'down') logger.info({}, 'the change bus is up again');
    for (const subscriber of this.#subscribers) this.#call(() => subscriber.state?.(state));
  }

  #isFresh(id: string): boolean {
    if (this.#seen.has(id) || this.#seenBefore.has(id)) return false;
    if (this.#seen.size >= GENERATION) {
      this.#seenBefore = this.#seen;
      this.#seen = new Set();
    }
    this.#seen.add(id);
    return true;
  }

  /** One that fails must not keep a change from the others. */
  #call(tell: () => void): void {
    try {
      tell();
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'a subscriber of changes failed');
    }
  }

  #unreadable(): void {
    if (this.#saidUnreadable) return;
    this.#saidUnreadable = true;
    this.#parts.logger.warn({}, 'something on the change bus is no change and is ignored, as further ones will be');
  }
}
