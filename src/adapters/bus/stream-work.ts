import type { Cluster, Redis } from 'ioredis';
import type { Change } from '../../protocol/change.ts';
import { readBusMessage } from '../../protocol/change.ts';
import { Backoff } from './backoff.ts';
import { causeOf } from './bounded.ts';
import type { FeedParts } from './change-feed.ts';
import { addDeadLetter } from './dead-letters.ts';
import { fieldOf, GROUP, MESSAGE, streamKey, type StreamEntry } from './redis-stream.ts';

export interface StreamWorkOptions extends FeedParts {
  /** Waits for the stream, up to 500 ms at a time: nothing else may use it. It stays open. */
  readonly client: Redis | Cluster;
  /** The deployment's. */
  readonly name: string;
  /** Each change is done by one of those that share this name. */
  readonly group: string;
  /** This one's name among them: the same after a restart, where it can be. */
  readonly consumer: string;
  /** MUST be able to bear a change twice: whoever dies after its work and before it says so is not known to have done it. */
  readonly handle: (change: Change) => Promise<void>;
  /** Tries before a message becomes a dead letter; default 5. */
  readonly maxTries?: number;
  /** After so long without an answer a message is taken from a consumer, dead or failed; default 60,000. Milliseconds. */
  readonly claimAfter?: number;
}

export interface StreamWork {
  /** Ends after what is under way. */
  close(): Promise<void>;
}

const BLOCK = 500;
const COUNT = 10;

/**
 * One of many: a consumer group on the stream, beginning with what comes after it was made. What fails is tried again, by whoever comes
 * first; what has failed `maxTries` times goes to the dead letters.
 */
export function streamWork(options: StreamWorkOptions): StreamWork {
  const worker = new StreamWorker(options);
  const done = worker.run();
  return {
    close: () => {
      worker.stop();
      return done;
    },
  };
}

class StreamWorker {
  readonly #options: Required<StreamWorkOptions>;
  readonly #key: string;
  readonly #backoff: Backoff;
  #isClosed = false;
  #claimAt = 0;
  #claimFrom = '0-0';

  constructor(options: StreamWorkOptions) {
    this.#options = { maxTries: 5, claimAfter: 60_000, ...options };
    this.#key = streamKey(options.name);
    this.#backoff = new Backoff(options.clock);
  }

  stop(): void {
    this.#isClosed = true;
    this.#backoff.close();
  }

  async run(): Promise<void> {
    const { client, group, logger } = this.#options;
    if (client.status === 'wait') await client.connect().catch(() => undefined);
    let said = false;
    while (!this.#isClosed) {
      try {
        await this.#makeGroup();
        this.#backoff.reset();
        said = false;
        while (!this.#isClosed) await this.#step();
      } catch (error) {
        if (!said && !this.#isClosed) logger.warn({ group, cause: causeOf(error) }, 'a consumer group waits for Redis');
        said = true;
        await this.#backoff.wait();
      }
    }
  }

  async #makeGroup(): Promise<void> {
    const { client, group } = this.#options;
    try {
      await client.xgroup('CREATE', this.#key, group, '$', 'MKSTREAM');
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('BUSYGROUP')) throw error;
    }
  }

  async #step(): Promise<void> {
    const { client, clock, claimAfter, consumer, group } = this.#options;
    if (clock.monotonic() >= this.#claimAt) {
      this.#claimAt = clock.monotonic() + claimAfter / 4;
      await this.#claim();
    }
    const read = (await client.xreadgroup(
      'GROUP',
      group,
      consumer,
      'COUNT',
      COUNT,
      'BLOCK',
      BLOCK,
      'STREAMS',
      this.#key,
      '>',
    )) as [string, StreamEntry[]][] | null;
    for (const entry of read?.[0]?.[1] ?? []) if (!this.#isClosed) await this.#do(entry, 1);
  }

  /** Takes over what others, or this one before, left undone. */
  async #claim(): Promise<void> {
    const { client, claimAfter, consumer, group, maxTries, name } = this.#options;
    const [next, entries] = (await client.xautoclaim(
      this.#key,
      group,
      consumer,
      claimAfter,
      this.#claimFrom,
      'COUNT',
      COUNT,
    )) as [string, (StreamEntry | null)[]];
    this.#claimFrom = next;
    for (const entry of entries) {
      // One that was trimmed meanwhile is null in Redis 6.
      if (entry === null || this.#isClosed) continue;
      const [id] = entry;
      const pending = (await client.xpending(this.#key, group, id, id, 1)) as [string, string, number, number][];
      // The claim counts as a delivery, too.
      const tries = pending[0]?.[3] ?? 1;
      if (tries <= maxTries) {
        await this.#do(entry, tries);
        continue;
      }
      await addDeadLetter(client, name, { group, entry: id, tries: tries - 1, message: fieldOf(entry, MESSAGE) ?? '' });
      await client.xack(this.#key, group, id);
    }
    // More of them wait.
    if (next !== '0-0') this.#claimAt = 0;
  }

  async #do(entry: StreamEntry, tries: number): Promise<void> {
    const { client, clock, group, handle, logger } = this.#options;
    const [id] = entry;
    const only = fieldOf(entry, GROUP);
    if (only === undefined || only === group) {
      const ids = (index: number): string => `${id}-${index}`;
      const read = readBusMessage(fieldOf(entry, MESSAGE) ?? '', { id: ids, now: clock.now() });
      try {
        if (read.kind === 'changes') for (const change of read.changes) await handle(change);
      } catch (error) {
        // Left undone: after claimAfter it is tried again.
        logger.warn({ group, entry: id, tries, cause: causeOf(error) }, 'work on a change failed');
        return;
      }
    }
    await client.xack(this.#key, group, id);
  }
}
