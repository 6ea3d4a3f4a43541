import type { Cluster, Redis } from 'ioredis';
import { streamKey, type StreamEntry } from './redis-stream.ts';

/** What one reading of a group gives. `run`: which run of the server answers; empty where it may not be asked. */
export type GroupReading =
  | { readonly kind: 'entry'; readonly run: string; readonly entry: StreamEntry }
  | { readonly kind: 'idle'; readonly run: string }
  /** What stood at `place`, where the group stands, is gone: others behind it may be, too. */
  | { readonly kind: 'gap'; readonly run: string; readonly place: string }
  /** There is no such group. */
  | { readonly kind: 'none'; readonly run: string };

/** How long one call waits for something new. Milliseconds. */
const BLOCK = 500;

/**
 * In one step, so that nothing can be trimmed in between: is the entry at which the group stands still there, and what comes next. A group is made at an
 * entry (a mark), so that it always stands at one.
 */
const READ = `
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local place
if not groups.err then
  for _, group in ipairs(groups) do
    local facts = {}
    for index = 1, #group, 2 do facts[group[index]] = group[index + 1] end
    if facts['name'] == ARGV[1] then place = facts['last-delivered-id'] end
  end
end
if not place then return { 'none', run } end
if place ~= ARGV[3] and #redis.call('XRANGE', KEYS[1], place, place) == 0 then return { 'gap', run, place } end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
if not read then return { 'idle', run } end
return { 'entry', run, read[1][2][1] }`;

type Reply =
  readonly ['entry', string, StreamEntry] | readonly ['gap', string, string] | readonly ['idle' | 'none', string];

/** What was left undone: one message, how often it was given to somebody, and whether others were trimmed before they were done. */
export interface Claimed {
  readonly found: { readonly entry: StreamEntry; readonly tries: number } | undefined;
  readonly isTrimmed: boolean;
  /** Whether there may be more. */
  readonly hasMore: boolean;
}

/** A consumer group of the stream, as one of its consumers uses it. One message at a time: what one holds nobody else can do. */
export class WorkGroup {
  readonly #client: Redis | Cluster;
  readonly #key: string;
  readonly #group: string;
  readonly #consumer: string;
  #claimFrom = '0-0';

  constructor(client: Redis | Cluster, name: string, group: string, consumer: string) {
    this.#client = client;
    this.#key = streamKey(name);
    this.#group = group;
    this.#consumer = consumer;
  }

  /** `told`: a place whose gap is known. */
  async read(told: string): Promise<GroupReading> {
    const [kind, run, what] = (await this.#client.eval(READ, 1, this.#key, this.#group, this.#consumer, told)) as Reply;
    switch (kind) {
      case 'entry':
        return { kind, run, entry: what };
      case 'gap':
        return { kind, run, place: what };
      case 'idle':
      case 'none':
        return { kind, run };
    }
  }

  /** Waits a little for what comes next. */
  async wait(): Promise<StreamEntry | undefined> {
    const read = (await this.#client.xreadgroup(
      'GROUP',
      this.#group,
      this.#consumer,
      'COUNT',
      1,
      'BLOCK',
      BLOCK,
      'STREAMS',
      this.#key,
      '>',
    )) as [string, StreamEntry[]][] | null;
    return read?.[0]?.[1][0];
  }

  /** Makes the group, unless somebody has: for what comes from now on, or for everything that is there. */
  async create(from: 'now' | 'all'): Promise<void> {
    const place = from === 'all' ? '0' : ((await this.#client.xadd(this.#key, '*', 'mark', '')) ?? '$');
    try {
      await this.#client.xgroup('CREATE', this.#key, this.#group, place, 'MKSTREAM');
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('BUSYGROUP')) throw error;
    }
  }

  /** Takes over what another one, or this one before, has left undone for so long. */
  async claim(after: number): Promise<Claimed> {
    const [next, entries, gone = []] = (await this.#client.xautoclaim(
      this.#key,
      this.#group,
      this.#consumer,
      after,
      this.#claimFrom,
      'COUNT',
      1,
    )) as [string, (StreamEntry | null)[], string[]?];
    this.#claimFrom = next;
    // One that was trimmed is null in Redis 6, which does not say which.
    const entry = entries.find((one) => one !== null);
    const facts = { isTrimmed: gone.length > 0, hasMore: next !== '0-0' };
    if (entry === undefined) return { ...facts, found: undefined };
    const [id] = entry;
    const pending = (await this.#client.xpending(this.#key, this.#group, id, id, 1)) as [
      string,
      string,
      number,
      number,
    ][];
    // The claim counts as a try, too.
    return { ...facts, found: { entry, tries: pending[0]?.[3] ?? 1 } };
  }

  /** Says that a message is still in hand. It is no further try. */
  async keep(id: string): Promise<void> {
    await this.#client.call('XCLAIM', this.#key, this.#group, this.#consumer, 0, id, 'JUSTID');
  }

  async done(id: string): Promise<void> {
    await this.#client.xack(this.#key, this.#group, id);
  }
}
