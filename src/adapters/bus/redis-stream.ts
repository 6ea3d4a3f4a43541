import type { Cluster, Redis } from 'ioredis';

/** Messages that the stream keeps, about: each has at most 100 changes and 16,384 characters. */
const MAX_LENGTH = 10_000;

/** The field of an entry that holds a message; entries without it are marks of readers. */
export const MESSAGE = 'message';
/** Only for the consumer group of this name: a dead letter that was replayed. */
export const GROUP = 'group';

export type StreamEntry = readonly [id: string, fields: readonly string[]];

export function streamKey(name: string): string {
  return `bridgehead:${name}:stream`;
}

/** In order, in one round trip. */
export async function appendToStream(
  client: Redis | Cluster,
  name: string,
  messages: readonly string[],
  maxLength: number = MAX_LENGTH,
): Promise<void> {
  const key = streamKey(name);
  // Sent one behind the other on one connection: Redis takes them in this order.
  await Promise.all(messages.map((message) => client.xadd(key, 'MAXLEN', '~', maxLength, '*', MESSAGE, message)));
}

/** The value of a field of an entry. */
export function fieldOf([, fields]: StreamEntry, name: string): string | undefined {
  for (let index = 0; index < fields.length; index += 2) if (fields[index] === name) return fields[index + 1];
  return undefined;
}
