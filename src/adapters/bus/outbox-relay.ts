import type { Pool } from 'pg';
import type { ChangeBus } from '../../ports/change-bus.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import { causeOf } from './bounded.ts';
import { ask, isNotInstalled, NotInstalledError, type OutboxItem } from './outbox.ts';
import { OutboxFollower, trimming } from './outbox-follower.ts';
import { PgWakeUps } from './pg-wake-ups.ts';

export interface OutboxRelayOptions {
  readonly pool: Pool;
  /** For LISTEN: of PostgreSQL itself. */
  readonly listenUrl: string;
  readonly bus: ChangeBus;
  /** The deployment's: each has a place of its own in the outbox. */
  readonly name: string;
  /** This process, among all. */
  readonly instance: string;
  /** True where one process tells all others: one is elected. False where each must read for itself. */
  readonly elected: boolean;
  /** Whether an outbox that is not there is worth a warning. */
  readonly required: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** `absent`: there is no outbox. `standby`: another process relays it. */
export type RelayState = 'starting' | 'relaying' | 'standby' | 'absent' | 'down';

export interface OutboxRelay {
  readonly state: RelayState;
  /** Why it does not relay, with the remedy. */
  readonly detail: string;
  close(): Promise<void>;
}

/** Whoever relays says so about every two seconds, also amid a long reading; silent for so long it is taken for dead. Milliseconds. */
const LEASE = 6_000;
/** How often it looks whether it is time to say so, and how old the last word may be. Milliseconds. */
const LOOK = 1_000;
const FRESH = 1_500;

const TAKE_LEASE = `
  INSERT INTO bridgehead_cursor AS cursor (name, snapshot, holder, until)
  VALUES ($1, pg_current_snapshot(), $2, now() + $3 * interval '1 millisecond')
  ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
  WHERE cursor.holder = excluded.holder OR cursor.until < now()
  RETURNING snapshot::text`;
const ADVANCE = `
  UPDATE bridgehead_cursor SET snapshot = $3::pg_snapshot, until = now() + $4 * interval '1 millisecond'
  WHERE name = $1 AND holder = $2`;
const RENEW =
  "UPDATE bridgehead_cursor SET until = now() + $3 * interval '1 millisecond' WHERE name = $1 AND holder = $2";
const RELEASE = 'UPDATE bridgehead_cursor SET until = now() WHERE name = $1 AND holder = $2';

class NotElectedError extends Error {
  override readonly name = 'NotElectedError';
}

/**
 * Brings the outbox to a bus that does not read it by itself. One of the deployment's sidecars does it, by a lease in the database (which works
 * through every pooler); its place stands there, too, and moves only when the bus has taken everything. After a crash the next one
 * repeats what was under way, with the same ids.
 */
export function outboxRelay(options: OutboxRelayOptions): OutboxRelay {
  const relay = new Relay(options);
  relay.start();
  return relay;
}

class Relay implements OutboxRelay {
  readonly #options: OutboxRelayOptions;
  readonly #follower: OutboxFollower;
  readonly #wakeUps: PgWakeUps;
  #endTrimming = (): void => undefined;
  #renewing: Timer | undefined;
  /** Until when this process may tell something, and when it last asked for that: by its own clock, from before it asked. */
  #heldUntil = 0;
  #askedAt = 0;
  #state: RelayState = 'starting';
  #detail = '';

  constructor(options: OutboxRelayOptions) {
    this.#options = options;
    const { clock, elected, listenUrl, logger, pool } = options;
    this.#follower = new OutboxFollower({
      pool,
      clock,
      take: (item) => this.#relay(item),
      onResult: (error) => this.#note(error),
      ...(elected && { begin: () => this.#takeLease(), taken: (snapshot) => this.#advance(snapshot) }),
    });
    this.#wakeUps = new PgWakeUps({
      url: listenUrl,
      clock,
      logger,
      onWakeUp: () => this.#follower.wake(),
      onLost: () => this.#follower.doubt(),
    });
  }

  get state(): RelayState {
    return this.#state;
  }

  get detail(): string {
    return this.#detail;
  }

  start(): void {
    this.#follower.start();
    const { clock, elected, pool } = this.#options;
    this.#endTrimming = trimming(pool, clock);
    if (elected) this.#renewing = clock.setInterval(() => void this.#renew(), LOOK);
  }

  async close(): Promise<void> {
    const { elected, instance, name, pool } = this.#options;
    this.#endTrimming();
    await this.#wakeUps.close();
    await this.#follower.close();
    this.#renewing?.cancel();
    // The next one need not wait for the lease to end.
    if (elected && this.#state === 'relaying') await ask(pool, RELEASE, [name, instance]).catch(() => undefined);
  }

  async #takeLease(): Promise<string> {
    const { instance, name, pool } = this.#options;
    const { rows } = await this.#holding(() => ask(pool, TAKE_LEASE, [name, instance, LEASE]));
    const [row] = rows as readonly { readonly snapshot: string }[];
    if (row === undefined) throw new NotElectedError();
    return row.snapshot;
  }

  async #advance(snapshot: string): Promise<void> {
    const { instance, name, pool } = this.#options;
    const { rowCount } = await this.#holding(() => ask(pool, ADVANCE, [name, instance, snapshot, LEASE]));
    if (rowCount === 0) throw new NotElectedError();
  }

  /** Amid a reading: its end, which renews as well, may be a long way off. */
  async #renew(): Promise<void> {
    const { clock, instance, name, pool } = this.#options;
    const now = clock.monotonic();
    if (now >= this.#heldUntil || now - this.#askedAt < FRESH) return;
    // Where the database cannot be asked, the lease ends by itself.
    await this.#holding(() => ask(pool, RENEW, [name, instance, LEASE])).catch(() => undefined);
  }

  /** A statement that takes, renews or, with no row, finds lost. */
  async #holding(work: () => ReturnType<typeof ask>): ReturnType<typeof ask> {
    const now = this.#options.clock.monotonic();
    this.#askedAt = now;
    const answer = await work();
    this.#heldUntil = answer.rowCount === 0 ? 0 : now + LEASE;
    return answer;
  }

  #relay(item: OutboxItem): Promise<void> {
    const { bus, clock, elected, name } = this.#options;
    // Another one has it, or may have: two would tell everything twice, and neither would get to the end.
    if (elected && clock.monotonic() >= this.#heldUntil) throw new NotElectedError();
    if (item.kind === 'changes') return bus.publish(item.changes);
    if (item.kind === 'gap') return bus.publishGap(item.gap);
    return (item.deployment ?? name) === name ? bus.publishPush(item.push) : Promise.resolve();
  }

  #note(error: unknown): void {
    const [state, detail] = stateAfter(error);
    const before = this.#state;
    this.#detail = detail;
    this.#state = state;
    if (state === before) return;
    const { logger, required } = this.#options;
    if (state === 'relaying') {
      // Not before: most databases have no outbox.
      this.#wakeUps.start();
      logger.info({}, 'the outbox is brought to the change bus');
    } else if (state === 'absent' && required) logger.warn({}, detail);
    else if (state === 'down') logger.warn({ detail }, 'the outbox cannot be relayed: its changes wait; trying on');
  }
}

function stateAfter(error: unknown): [RelayState, string] {
  if (error === undefined) return ['relaying', ''];
  if (error instanceof NotElectedError) return ['standby', 'another sidecar relays the outbox'];
  if (isNotInstalled(error)) return ['absent', new NotInstalledError().message];
  return ['down', `the outbox cannot be relayed (${causeOf(error)})`];
}
