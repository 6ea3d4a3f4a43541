import { hostname } from 'node:os';
import type { Config } from '../config/index.ts';
import { announcedUrl } from '../config/values.ts';
import { directUpstream } from '../src/adapters/upstream/direct-upstream.ts';
import type { PeerParts } from '../src/core/gateway/peers.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { Logger } from '../src/ports/logger.ts';
import { keyring } from '../src/protocol/keys.ts';

/** The other sidecars of the deployment, and what they are told of this one. */
export interface ComposedPeers {
  /** undefined: they cannot be found. */
  readonly parts: PeerParts | undefined;
  /** From now on others find this one: its sids begin with `prefix`, its main listener has `port`. */
  announce(prefix: string, port: number): Promise<void>;
  close(): Promise<void>;
}

/** A sidecar that is gone without a word must not hold its clients up. Milliseconds. */
const CONNECT_TIMEOUT = 2_000;
/** A Redis that is not there at start holds nothing up: it is told later. Milliseconds. */
const START_TIMEOUT = 500;

const NONE: ComposedPeers = {
  parts: undefined,
  announce: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

/** Needs Redis to find them and a secret to believe them. ioredis is loaded where it is used. */
export async function composePeers(config: Config, parts: { clock: Clock; logger: Logger }): Promise<ComposedPeers> {
  const { name, secret, previousSecrets, redis, eventPath } = config;
  if (redis.url === undefined || secret === undefined) return NONE;
  const { closeRedis, connectRedis, redisClient } = await import('../src/adapters/redis/redis-client.ts');
  const { redisPeerDirectory } = await import('../src/adapters/redis/redis-peer-directory.ts');
  const keys = keyring(secret, previousSecrets, 'peer');
  const client = redisClient({ url: redis.url, role: 'commands', logger: parts.logger });
  const connected = connectRedis(client);
  const directory = redisPeerDirectory({ client, name, keys, host: hostname(), clock: parts.clock });
  return {
    parts: {
      name,
      directory,
      keys,
      connect: (url) => directUpstream({ url, eventPath, connectTimeout: CONNECT_TIMEOUT }),
    },
    async announce(prefix, port) {
      const url = announcedUrl({ ...config, listen: { ...config.listen, port } });
      if (url === undefined) return;
      await Promise.race([connected, new Promise<void>((resolve) => setTimeout(resolve, START_TIMEOUT).unref())]);
      await directory.announce(prefix, url);
    },
    async close() {
      await directory.close();
      closeRedis(client);
    },
  };
}
