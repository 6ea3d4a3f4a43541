import type { Pool } from 'pg';
import type { ChangeBus, ChangeBusState, ChangeSubscriber } from '../../ports/change-bus.ts';
import type { Change, Gap } from '../../protocol/change.ts';
import type { Push } from '../../protocol/push.ts';
import { causeOf, publishing } from './bounded.ts';
import { ChangeFeed, type FeedParts } from './change-feed.ts';
import { isNotInstalled, NotInstalledError, writeGap, writeOutbox, writePush, type OutboxItem } from './outbox.ts';
import { OutboxFollower, trimming } from './outbox-follower.ts';
import { PgWakeUps } from './pg-wake-ups.ts';

export interface PostgresBusOptions extends FeedParts {
  /** Also through PgBouncer in any mode. It stays open: it belongs to whoever made it. */
  readonly pool: Pool;
  /** For LISTEN: of PostgreSQL itself. */
  readonly listenUrl: string;
  /** The deployment's: changes are everybody's who reads this database, pushes are not. */
  readonly name: string;
}

/**
 * PostgreSQL: what is published becomes a row of the outbox, beside those that triggers write, and every process reads what was committed
 * since it last read. Nothing is missed while rows are kept (an hour); a server that was away may have lost what it had committed: a gap.
 */
export function postgresBus(options: PostgresBusOptions): ChangeBus {
  return new PostgresBus(options);
}

class PostgresBus implements ChangeBus {
  readonly kind = 'postgres';
  readonly #options: PostgresBusOptions;
  readonly #feed: ChangeFeed;
  readonly #follower: OutboxFollower;
  readonly #wakeUps: PgWakeUps;
  #endTrimming = (): void => undefined;

  constructor(options: PostgresBusOptions) {
    this.#options = options;
    this.#feed = new ChangeFeed(options);
    this.#follower = new OutboxFollower({
      pool: options.pool,
      clock: options.clock,
      take: (item) => this.#take(item),
      onResult: (error) => this.#read(error),
    });
    this.#wakeUps = new PgWakeUps({
      url: options.listenUrl,
      clock: options.clock,
      logger: options.logger,
      onWakeUp: () => this.#follower.wake(),
      onLost: () => this.#follower.doubt(),
    });
  }

  get state(): ChangeBusState {
    return this.#feed.state;
  }

  get detail(): string {
    return this.#feed.detail;
  }

  async start(timeout: number): Promise<void> {
    this.#wakeUps.start();
    this.#follower.start();
    this.#endTrimming = trimming(this.#options.pool, this.#options.clock);
    await this.#feed.firstUp(timeout);
  }

  publish(changes: readonly Change[]): Promise<void> {
    return publishing('PostgreSQL', this.#options.clock, () => writeOutbox(this.#options.pool, changes));
  }

  publishGap(gap: Gap): Promise<void> {
    return publishing('PostgreSQL', this.#options.clock, () => writeGap(this.#options.pool, gap));
  }

  publishPush(push: Push): Promise<void> {
    return publishing('PostgreSQL', this.#options.clock, () => writePush(this.#options.pool, push, this.#options.name));
  }

  subscribe(subscriber: ChangeSubscriber): () => void {
    return this.#feed.subscribe(subscriber);
  }

  async close(): Promise<void> {
    this.#endTrimming();
    await this.#wakeUps.close();
    await this.#follower.close();
    this.#feed.close();
  }

  #take(item: OutboxItem): void {
    if (item.kind === 'changes') this.#feed.changes(item.changes);
    else if (item.kind === 'gap') this.#feed.gap(item.gap);
    else if ((item.deployment ?? this.#options.name) === this.#options.name) this.#feed.push(item.push);
  }

  #read(error: unknown): void {
    if (error === undefined) this.#feed.up();
    else if (isNotInstalled(error)) this.#feed.down(new NotInstalledError().message);
    else this.#feed.down(`the outbox cannot be read (${causeOf(error)})`);
  }
}
