import type { Logger } from '../../ports/logger.ts';
import type { TokenRecords } from '../../ports/token-records.ts';
import { closeRedis, redisClient } from './redis-client.ts';

/** As Reflex names them, 0.9 and 0.10 alike. */
const PREFIX = 'token_manager_socket_record_';
/** Milliseconds. */
const TIMEOUT = 1_000;

/** The records in the Redis that Reflex keeps its state in. */
export function redisTokenRecords(parts: { url: string; logger: Logger }): TokenRecords & { close(): void } {
  const client = redisClient({ ...parts, role: 'commands' });
  return {
    async forget(token) {
      const bound = new Promise<void>((resolve) => setTimeout(resolve, TIMEOUT).unref());
      const deleted = client.del(PREFIX + token).catch((cause: unknown) => {
        parts.logger.debug({ err: cause }, 'the record of a token could not be removed');
      });
      await Promise.race([deleted, bound]);
    },
    close: () => closeRedis(client),
  };
}
