import type { Cluster, Redis } from 'ioredis';
import { fieldOf, GROUP, MESSAGE, streamKey, type StreamEntry } from './redis-stream.ts';

/** A message on which the work of a consumer group failed too often. */
export interface DeadLetter {
  /** Its id among the dead letters. */
  readonly id: string;
  readonly group: string;
  /** Its id in the stream. */
  readonly entry: string;
  /** How often it was tried. */
  readonly tries: number;
  readonly message: string;
}

/** Dead letters that are kept, about. */
const MAX_DEAD = 1_000;

function deadKey(name: string): string {
  return `${streamKey(name)}:dead`;
}

/** Returns how many older ones had to go for it. */
export async function addDeadLetter(
  client: Redis | Cluster,
  name: string,
  { group, entry, tries, message }: Omit<DeadLetter, 'id'>,
): Promise<number> {
  const fields = [GROUP, group, 'entry', entry, 'tries', String(tries), MESSAGE, message];
  await client.xadd(deadKey(name), '*', ...fields);
  return client.xtrim(deadKey(name), 'MAXLEN', '~', MAX_DEAD);
}

/** How many there are. Rejects where Redis does. */
export async function countDeadLetters(client: Redis | Cluster, name: string): Promise<number> {
  return client.xlen(deadKey(name));
}

/** The oldest dead letters, at most `limit` of them. Rejects where Redis does. */
export async function listDeadLetters(client: Redis | Cluster, name: string, limit: number): Promise<DeadLetter[]> {
  return (await client.xrange(deadKey(name), '-', '+', 'COUNT', limit)).map(readLetter);
}

/** `unknown`: there is no such letter. `groupless`: nobody reads for its group any more; the letter stays. */
export type Replay = 'replayed' | 'unknown' | 'groupless';

/** Puts a dead letter back into the stream for its group alone, and takes it from the dead letters. Rejects where Redis does. */
export async function replayDeadLetter(client: Redis | Cluster, name: string, id: string): Promise<Replay> {
  // Nothing else: `-` would stand for the first one.
  const [found] = /^\d+-\d+$/.test(id) ? await client.xrange(deadKey(name), id, id) : [];
  if (found === undefined) return 'unknown';
  const { group, message } = readLetter(found);
  if (!(await groupsOf(client, name)).includes(group)) return 'groupless';
  // Added first: should this process die in between, the letter is there twice rather than nowhere.
  await client.xadd(streamKey(name), '*', MESSAGE, message, GROUP, group);
  await client.xdel(deadKey(name), id);
  return 'replayed';
}

async function groupsOf(client: Redis | Cluster, name: string): Promise<string[]> {
  try {
    const groups = (await client.xinfo('GROUPS', streamKey(name))) as (readonly string[])[];
    return groups.map((facts) => facts[facts.indexOf('name') + 1] ?? '');
  } catch (error) {
    if (error instanceof Error && error.message.includes('no such key')) return [];
    throw error;
  }
}

function readLetter(entry: StreamEntry): DeadLetter {
  return {
    id: entry[0],
    group: fieldOf(entry, GROUP) ?? '',
    entry: fieldOf(entry, 'entry') ?? '',
    tries: Number(fieldOf(entry, 'tries') ?? 0),
    message: fieldOf(entry, MESSAGE) ?? '',
  };
}
