import type { Cluster, Redis } from 'ioredis';
import type { Change, Gap } from '../../protocol/change.ts';
import { readBusMessage } from '../../protocol/change.ts';
import { Backoff } from './backoff.ts';
import { causeOf } from './bounded.ts';
import type { FeedParts } from './change-feed.ts';
import { addDeadLetter } from './dead-letters.ts';
import { fieldOf, GROUP, MESSAGE, type StreamEntry } from './redis-stream.ts';
import { WorkGroup, type GroupReading } from './work-group.ts';

export interface StreamWorkOptions extends FeedParts {
  /** Waits for the stream, up to 500 ms at a time: nothing else may use it (`redisClient` with the role `blocking`). It stays open. */
  readonly client: Redis | Cluster;
  /** The deployment's. */
  readonly name: string;
  /** Each change is done by one of those that share this name. */
  readonly group: string;
  /** This one's name among them: the same after a restart, where it can be. */
  readonly consumer: string;
  /** MUST be able to bear a change twice: whoever dies after its work and before it says so is not known to have done it. */
  readonly handle: (change: Change) => Promise<void>;
  /**
   * Changes may never come to this group: its stream was trimmed beyond it, Redis lost something, or a publisher says so. Work that must not be
   * left out has to be found in another way, for example in the database. It may be called more than once for one gap, and again where it fails.
   */
  readonly missed: (gap: Gap) => Promise<void> | void;
  /** Tries before a message becomes a dead letter; default 5. A consumer that dies over it has tried, too. */
  readonly maxTries?: number;
  /** After so long without a word of its consumer, dead or failed, a message is taken over; default 60,000. Milliseconds. */
  readonly claimAfter?: number;
}

export interface StreamWork {
  /** Ends after what is under way. */
  close(): Promise<void>;
}

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
  readonly #group: WorkGroup;
  readonly #backoff: Backoff;
  #isClosed = false;
  #claimAt = 0;
  /** The group was there: should it be missing, somebody lost it. */
  #hadGroup = false;
  /** The run of the server that answered last. */
  #run = '';
  /** The place whose gap was told. */
  #told = '';
  /** To be told before anything else. */
  #owed: Gap | undefined;

  constructor(options: StreamWorkOptions) {
    this.#options = { maxTries: 5, claimAfter: 60_000, ...options };
    const { client, clock, consumer, group, name } = options;
    this.#group = new WorkGroup(client, name, group, consumer);
    this.#backoff = new Backoff(clock);
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
        await this.#step();
        this.#backoff.reset();
        said = false;
      } catch (error) {
        if (!said && !this.#isClosed) logger.warn({ group, cause: causeOf(error) }, 'a consumer group waits for Redis');
        said = true;
        await this.#backoff.wait();
      }
    }
  }

  async #step(): Promise<void> {
    const { clock, claimAfter } = this.#options;
    if (this.#owed !== undefined && !(await this.#miss(this.#owed))) return;
    this.#owed = undefined;
    const read = await this.#group.read(this.#told);
    this.#noticeRun(read);
    if (read.kind === 'none') return this.#makeGroup();
    this.#hadGroup = true;
    if (read.kind === 'gap') {
      if (await this.#miss({ reason: 'trimmed' })) this.#told = read.place;
      return;
    }
    if (read.kind === 'entry') await this.#do(read.entry, 1);
    if (clock.monotonic() >= this.#claimAt) {
      this.#claimAt = clock.monotonic() + claimAfter / 4;
      await this.#claim();
    } else if (read.kind === 'idle') {
      // It had everything a moment ago: the stream cannot have been trimmed beyond it since.
      const entry = await this.#group.wait();
      if (entry !== undefined) await this.#do(entry, 1);
    }
  }

  /** A server that came back from its disk, or a replica, may lack the last entries. */
  #noticeRun({ kind, run }: GroupReading): void {
    // Where the group is gone as well, that is told.
    if (this.#run !== '' && run !== this.#run && kind !== 'none') this.#owed = { reason: 'server' };
    this.#run = run;
  }

  async #makeGroup(): Promise<void> {
    if (!this.#hadGroup) return this.#group.create('now');
    if (!(await this.#miss({ reason: 'server' }))) return;
    // What is there came after it was lost, as far as anybody can know.
    await this.#group.create('all');
    this.#told = '0-0';
  }

  /** False where that failed, and is to be told again. */
  async #miss(gap: Gap): Promise<boolean> {
    const { group, logger, missed } = this.#options;
    logger.warn({ group, reason: gap.reason }, 'changes may never come to a consumer group');
    try {
      await missed(gap);
      return true;
    } catch (error) {
      logger.warn({ group, cause: causeOf(error) }, 'a consumer group could not be told of a gap; trying on');
      await this.#backoff.wait();
      return false;
    }
  }

  /** Takes over what others, or this one before, left undone. */
  async #claim(): Promise<void> {
    const { claimAfter, client, group, logger, maxTries, name } = this.#options;
    const { found, hasMore, isTrimmed } = await this.#group.claim(claimAfter);
    if (isTrimmed) this.#owed = { reason: 'trimmed' };
    if (hasMore) this.#claimAt = 0;
    if (found === undefined) return;
    const { entry, tries } = found;
    if (tries <= maxTries) return this.#do(entry, tries);
    const [id] = entry;
    const letter = { group, entry: id, tries: tries - 1, message: fieldOf(entry, MESSAGE) ?? '' };
    const dropped = await addDeadLetter(client, name, letter);
    logger.warn({ group, entry: id, tries: tries - 1 }, 'a message is a dead letter now: see "bridgehead tail --dead"');
    if (dropped > 0) logger.warn({ dropped }, 'there are too many dead letters: the oldest are gone');
    await this.#group.done(id);
  }

  async #do(entry: StreamEntry, tries: number): Promise<void> {
    const { claimAfter, clock, group, logger } = this.#options;
    const [id] = entry;
    // Whoever is at work must not be taken for dead, however long that takes.
    const keeping = clock.setInterval(() => void this.#group.keep(id).catch(() => undefined), claimAfter / 3);
    try {
      await this.#work(entry);
    } catch (error) {
      // Left undone: after claimAfter it is tried again.
      logger.warn({ group, entry: id, tries, cause: causeOf(error) }, 'work on a change failed');
      return;
    } finally {
      keeping.cancel();
    }
    await this.#group.done(id);
  }

  async #work(entry: StreamEntry): Promise<void> {
    const { clock, group, handle, logger, missed } = this.#options;
    const [id] = entry;
    const message = fieldOf(entry, MESSAGE);
    // Without a message it is the mark of a reader.
    if (message === undefined || (fieldOf(entry, GROUP) ?? group) !== group) return;
    const read = readBusMessage(message, { id: (index) => `${id}-${index}`, now: clock.now() });
    if (read.kind === 'changes') for (const change of read.changes) await handle(change);
    else if (read.kind === 'gap') await missed(read.gap);
    else if (read.kind === 'unreadable') logger.warn({ group, entry: id }, 'a message is no change and is passed over');
  }
}
