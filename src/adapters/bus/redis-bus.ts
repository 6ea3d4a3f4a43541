import { randomUUID } from 'node:crypto';
import type { Cluster, Redis } from 'ioredis';
import type { ChangeBus, ChangeBusState, ChangeSubscriber } from '../../ports/change-bus.ts';
import type { Timer } from '../../ports/clock.ts';
import { encodeChanges, encodeGap, encodePush, type Change, type Gap } from '../../protocol/change.ts';
import type { Push } from '../../protocol/push.ts';
import { Backoff } from './backoff.ts';
import { causeOf, publishing } from './bounded.ts';
import { ChangeFeed, type FeedParts } from './change-feed.ts';

export interface RedisBusOptions extends FeedParts {
  /** Publishes. It stays open: it belongs to whoever made it. */
  readonly commands: Redis | Cluster;
  /** A new connection for listening that never reconnects by itself; undefined where none can be made now. */
  readonly listen: () => Redis | undefined;
  /** The deployment's. */
  readonly name: string;
}

const BEAT_INTERVAL = 1_000;
/** Messages that are read in one go; then the events of users have a turn. Characters. */
const AT_ONCE = 16_384;
/** So much of what waits is read in one go where that is more: it must not grow without end. */
const SHARE = 1 / 16;
/** A subscription that brings no beat of its own for so long is made anew. Milliseconds. */
const DEAF_AFTER = 3_000;

export function changesChannel(name: string): string {
  return `bridgehead:${name}:changes`;
}

export async function publishToChannel(client: Redis | Cluster, name: string, messages: string[]): Promise<void> {
  await Promise.all(messages.map((message) => client.publish(changesChannel(name), message)));
}

/**
 * Redis pub/sub: fast, and keeps nothing, so that each lost subscription is a gap. It is up only while its own beats come back:
 * that shows the whole way.
 */
export function redisBus(options: RedisBusOptions): ChangeBus {
  return new RedisBus(options);
}

class RedisBus implements ChangeBus {
  readonly kind = 'redis';
  readonly #options: RedisBusOptions;
  readonly #feed: ChangeFeed;
  readonly #backoff: Backoff;
  readonly #beatChannel: string;
  readonly #instance = randomUUID();
  #running: Promise<void> | undefined;
  #connection: Redis | undefined;
  /** When the subscription last showed life. */
  #heard = 0;
  #everUp = false;
  #isSubscribed = false;
  /** What came and was not read yet, and its characters. */
  #inbox: { readonly channel: string; readonly text: string }[] = [];
  #waiting = 0;
  #interval: Timer | undefined;
  #closed = false;

  constructor(options: RedisBusOptions) {
    this.#options = options;
    this.#feed = new ChangeFeed(options);
    this.#backoff = new Backoff(options.clock);
    this.#beatChannel = `${changesChannel(options.name)}:beat:${this.#instance}`;
  }

  get state(): ChangeBusState {
    return this.#feed.state;
  }

  get detail(): string {
    return this.#feed.detail;
  }

  async start(timeout: number): Promise<void> {
    const { clock, commands } = this.#options;
    if (commands.status === 'wait') void commands.connect().catch(() => undefined);
    this.#interval = clock.setInterval(this.#beat, BEAT_INTERVAL);
    this.#running = this.#run();
    await this.#feed.firstUp(timeout);
  }

  publish(changes: readonly Change[]): Promise<void> {
    return this.#publish(encodeChanges(changes));
  }

  publishGap(gap: Gap): Promise<void> {
    return this.#publish([encodeGap(gap)]);
  }

  publishPush(push: Push): Promise<void> {
    return this.#publish([encodePush(push)]);
  }

  subscribe(subscriber: ChangeSubscriber): () => void {
    return this.#feed.subscribe(subscriber);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#interval?.cancel();
    this.#backoff.close();
    this.#connection?.disconnect();
    await this.#running;
    this.#feed.close();
  }

  #publish(messages: string[]): Promise<void> {
    const { clock, commands, name } = this.#options;
    return publishing('Redis', clock, () => publishToChannel(commands, name, messages));
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      const cause = await this.#listen();
      if (this.#closed) return;
      this.#feed.down(`Redis cannot be listened to (${cause})`);
      await this.#backoff.wait();
    }
  }

  /** Resolves when the subscription is over, with the cause. */
  async #listen(): Promise<string> {
    const connection = this.#options.listen();
    if (connection === undefined) return 'no node is known';
    this.#connection = connection;
    let cause = 'connection lost';
    connection.on('error', (error) => (cause = causeOf(error)));
    const ended = new Promise<void>((resolve) => connection.once('end', resolve));
    connection.on('message', this.#receive);
    try {
      await connection.connect();
      await connection.subscribe(changesChannel(this.#options.name), this.#beatChannel);
      this.#heard = this.#options.clock.monotonic();
      this.#isSubscribed = true;
      this.#beat();
      await ended;
    } catch (error) {
      cause = causeOf(error);
    }
    this.#isSubscribed = false;
    connection.disconnect();
    return cause;
  }

  readonly #beat = (): void => {
    if (!this.#isSubscribed) return;
    if (this.#options.clock.monotonic() - this.#heard > DEAF_AFTER) {
      this.#connection?.disconnect();
      return;
    }
    this.#options.commands.publish(this.#beatChannel, '').catch(() => undefined);
  };

  readonly #receive = (channel: string, text: string): void => {
    this.#waiting += text.length;
    if (this.#inbox.push({ channel, text }) === 1) setImmediate(this.#read);
  };

  /** The oldest of it; the rest after whatever else there is to do. */
  readonly #read = (): void => {
    const enough = Math.max(AT_ONCE, this.#waiting * SHARE);
    let read = 0;
    let count = 0;
    for (const { channel, text } of this.#inbox) {
      if (read >= enough || this.#closed) break;
      read += text.length;
      count++;
      if (channel === this.#beatChannel) this.#hear();
      else this.#feed.message(text, () => randomUUID());
    }
    this.#waiting -= read;
    this.#inbox = this.#inbox.slice(count);
    if (this.#inbox.length > 0 && !this.#closed) setImmediate(this.#read);
  };

  #hear(): void {
    // One that waited to be read when its subscription ended shows nothing of the next.
    if (!this.#isSubscribed) return;
    this.#heard = this.#options.clock.monotonic();
    if (this.#feed.state === 'up') return;
    this.#backoff.reset();
    this.#feed.up(this.#everUp ? { reason: 'reconnect' } : undefined);
    this.#everUp = true;
  }
}
