import type { Cluster, Redis } from 'ioredis';
import type { ChangeBus, ChangeBusState, ChangeSubscriber } from '../../ports/change-bus.ts';
import { encodeChanges, encodeGap, encodePush, type Change, type Gap } from '../../protocol/change.ts';
import type { Push } from '../../protocol/push.ts';
import { Backoff } from './backoff.ts';
import { causeOf, publishing } from './bounded.ts';
import { ChangeFeed, type FeedParts } from './change-feed.ts';
import { appendToStream, fieldOf, GROUP, MESSAGE, streamKey, type StreamEntry } from './redis-stream.ts';

export interface RedisStreamBusOptions extends FeedParts {
  /** Publishes. Both clients stay open: they belong to whoever made them. */
  readonly commands: Redis | Cluster;
  /** Waits for the stream, up to 500 ms at a time: nothing else may use it. */
  readonly reader: Redis | Cluster;
  /** The deployment's. */
  readonly name: string;
  /** About how many messages the stream keeps; default 10,000. */
  readonly maxLength?: number;
}

const BLOCK = 500;
/** Messages of one read. */
const COUNT = 100;

/** In one step: which run of the server answers (empty where it may not be asked), and whether the entry at the cursor is still there. */
const CHECK = `
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)')
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
return { run or '', #entry }`;

/**
 * Redis Streams: every reader has a cursor of its own and reads on from it after its connection broke. Nothing was missed as long as
 * the same run of the server still has the entry at the cursor; for a cursor to always stand at an entry, a reader begins with a mark.
 */
export function redisStreamBus(options: RedisStreamBusOptions): ChangeBus {
  return new RedisStreamBus(options);
}

class RedisStreamBus implements ChangeBus {
  readonly kind = 'redis-streams';
  readonly #options: RedisStreamBusOptions;
  readonly #feed: ChangeFeed;
  readonly #backoff: Backoff;
  readonly #key: string;
  #cursor: string | undefined;
  #run = '';
  #running: Promise<void> | undefined;
  #closed = false;

  constructor(options: RedisStreamBusOptions) {
    this.#options = options;
    this.#feed = new ChangeFeed(options);
    this.#backoff = new Backoff(options.clock);
    this.#key = streamKey(options.name);
  }

  get state(): ChangeBusState {
    return this.#feed.state;
  }

  get detail(): string {
    return this.#feed.detail;
  }

  async start(timeout: number): Promise<void> {
    const { commands, reader } = this.#options;
    for (const client of [commands, reader]) {
      if (client.status === 'wait') void client.connect().catch(() => undefined);
    }
    this.#running = this.#read();
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
    this.#backoff.close();
    // A read that waits ends within BLOCK, or with its connection.
    await this.#running;
    this.#feed.close();
  }

  #publish(messages: readonly string[]): Promise<void> {
    const { clock, commands, name, maxLength } = this.#options;
    return publishing('Redis', clock, () => appendToStream(commands, name, messages, maxLength));
  }

  async #read(): Promise<void> {
    while (!this.#closed) {
      try {
        await this.#position();
        this.#backoff.reset();
        while (!this.#closed) await this.#step();
      } catch (error) {
        if (this.#closed) return;
        this.#feed.down(`the stream cannot be read (${causeOf(error)})`);
        await this.#backoff.wait();
      }
    }
  }

  /** Sets the cursor at first, and finds out afterwards whether it still proves anything. */
  async #position(): Promise<void> {
    const { commands, reader } = this.#options;
    // Each client comes back in its own time: a bus that is up takes messages too.
    await commands.xlen(this.#key);
    const before = this.#cursor;
    const [run, entries] = (await reader.eval(CHECK, 1, this.#key, before ?? '0-1')) as [string, number];
    const isSameRun = run !== '' && run === this.#run;
    this.#run = run;
    if (before !== undefined && entries > 0) {
      // A server that came back from its disk, or a replica, may lack the last entries; what it has is read all the same.
      this.#feed.up(isSameRun ? undefined : { reason: 'server' });
      return;
    }
    this.#cursor = (await reader.xadd(this.#key, '*', 'mark', '')) ?? undefined;
    this.#feed.up(before === undefined ? undefined : { reason: isSameRun ? 'trimmed' : 'server' });
  }

  async #step(): Promise<void> {
    const { reader } = this.#options;
    const cursor = this.#cursor ?? '$';
    // The second is sent behind the first, so that it is answered right after it: what was there then had not been trimmed.
    const [reply, still] = await Promise.all([
      reader.xread('COUNT', COUNT, 'BLOCK', BLOCK, 'STREAMS', this.#key, cursor),
      reader.xrange(this.#key, cursor, cursor),
    ]);
    const entries = reply?.[0]?.[1] ?? [];
    if (entries.length === 0) return;
    if (still.length === 0) this.#feed.gap({ reason: 'trimmed' });
    for (const entry of entries) this.#take(entry);
  }

  #take(entry: StreamEntry): void {
    const [id] = entry;
    this.#cursor = id;
    const message = fieldOf(entry, MESSAGE);
    if (message === undefined || fieldOf(entry, GROUP) !== undefined) return;
    this.#feed.message(message, (index) => `${id}-${index}`);
  }
}
