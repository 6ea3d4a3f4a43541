import type { Clock, Timer } from '../../ports/clock.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import type { QueueBudget } from '../limits/queue-budget.ts';
import type { RelaySession } from './relay-session.ts';

/** What is written now is often read a moment later: only who still waits then counts. Milliseconds. */
const RELIEF_GRACE = 100;

/** Closes the clients that leave most unread while more waits in all sessions together than may. */
export class Relief {
  readonly #budget: QueueBudget;
  readonly #sessions: () => Iterable<RelaySession>;
  readonly #clock: Clock;
  #timer: Timer | undefined;

  constructor(budget: QueueBudget, sessions: () => Iterable<RelaySession>, clock: Clock) {
    this.#budget = budget;
    this.#sessions = sessions;
    this.#clock = clock;
  }

  /** Asked as often as one likes. */
  begin(): void {
    this.#timer ??= this.#clock.setTimeout(() => this.#relieve(), RELIEF_GRACE);
  }

  #relieve(): void {
    const waiting = [...this.#sessions()].map((session) => ({ session, bytes: session.countUnread() }));
    // Counting may have begun another one.
    this.#timer?.cancel();
    this.#timer = undefined;
    waiting.sort((left, right) => right.bytes - left.bytes);
    for (const { session, bytes } of waiting) {
      if (bytes === 0 || !this.#budget.crowded) return;
      session.close('slow_client', CloseCode.tryAgainLater);
    }
  }
}
