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

export async function addDeadLetter(
  client: Redis | Cluster,
  name: string,
  { group, entry, tries, message }: Omit<DeadLetter, 'id'>,
): Promise<void> {
  const fields = [GROUP, group, 'entry', entry, 'tries', String(tries), MESSAGE, message];
  await client.xadd(deadKey(name), 'MAXLEN', '~', MAX_DEAD, '*', ...fields);
}

/** The oldest dead letters, at most `limit` of them. Rejects where Redis does. */
export async function listDeadLetters(client: Redis | Cluster, name: string, limit: number): Promise<DeadLetter[]> {
  return (await client.xrange(deadKey(name), '-', '+', 'COUNT', limit)).map(readLetter);
}

/**
 * Puts a dead letter back into the stream for its group alone, and takes it from the dead letters. False where there is none with this
 * id. Rejects where Redis does.
 */
export async function replayDeadLetter(client: Redis | Cluster, name: string, id: string): Promise<boolean> {
  // Nothing else: `-` would stand for the first one.
  const [found] = /^\d+-\d+$/.test(id) ? await client.xrange(deadKey(name), id, id) : [];
  if (found === undefined) return false;
  const { group, message } = readLetter(found);
  // Added first: should this process die in between, the letter is there twice rather than nowhere.
  await client.xadd(streamKey(name), '*', MESSAGE, message, GROUP, group);
  await client.xdel(deadKey(name), id);
  return true;
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
