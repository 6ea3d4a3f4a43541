import { Cluster, Redis, type RedisOptions } from 'ioredis';
import type { Logger } from '../../ports/logger.ts';
import { parseRedisUrl, type RedisAddress } from './redis-url.ts';

/** What the adapters here are given: one server, the primary that sentinels name, or a cluster. */
export type RedisClient = Redis | Cluster;

export interface RedisClientOptions {
  /** `redis://`, `rediss://`, `unix:///path`, `redis+sentinel://a:26379,b:26379/primary/0`, `redis+cluster://a:6379,b:6379`. */
  readonly url: string;
  /** `subscriber`: a connection of its own that only listens. `blocking`: one that waits for a stream, at most 500 ms at a time. */
  readonly role: 'commands' | 'subscriber' | 'blocking';
  readonly logger: Logger;
}

/** Between two tries to connect, at most. Milliseconds. */
const MAX_RETRY_DELAY = 5_000;
const CONNECT_TIMEOUT = 2_000;
/** A server that owes an answer for so long is taken for gone: its connection is made anew. Milliseconds. */
const SILENCE = 1_000;

/**
 * A client that never gives up and never queues: while Redis is away commands fail at once. How long one may take is bounded
 * by whoever sends it (`Breaker`), since ioredis would apply such a bound to its own handshake too. It connects with
 * `connectRedis` or the first command. Throws a RangeError without the URL's text for a URL it cannot read.
 */
export function redisClient({ url, role, logger }: RedisClientOptions): RedisClient {
  const address = parseRedisUrl(url);
  const client = make(address, role);
  sayOutages(client, address.label, role, logger);
  return client;
}

/** Begins to connect; resolves once that is done or has failed for the first time: it goes on in the background. */
export async function connectRedis(client: RedisClient): Promise<void> {
  if (client.status !== 'wait') return;
  await client.connect().catch(() => undefined);
}

/**
 * A new connection to the same server, or to some node of the cluster, that never reconnects by itself: whoever listens there knows
 * when it missed something. undefined while no node of the cluster is known. It connects with `connect`.
 */
export function listeningConnection(commands: RedisClient): Redis | undefined {
  const options = {
    lazyConnect: true,
    retryStrategy: () => null,
    sentinelRetryStrategy: () => null,
    connectionName: 'bridgehead-subscriber',
  };
  if (commands instanceof Redis) return commands.duplicate(options);
  const nodes = commands.nodes('all');
  return nodes[Math.floor(Math.random() * nodes.length)]?.duplicate({ ...options, enableOfflineQueue: false });
}

/** Closes at once, and for good. */
export function closeRedis(client: RedisClient): void {
  client.disconnect();
}

function retryDelay(times: number): number {
  // Full jitter: sidecars that lost Redis together must not come back together.
  return 50 + Math.random() * Math.min(MAX_RETRY_DELAY, 100 * 2 ** Math.min(times, 10));
}

function make({ kind, hosts, tls, user, database, path, primary }: RedisAddress, role: string): RedisClient {
  const common = {
    replyMapping: 'legacy',
    lazyConnect: true,
    enableOfflineQueue: false,
    // A command whose answer was lost may have been done: doing it again is up to its sender.
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    connectTimeout: CONNECT_TIMEOUT,
    socketTimeout: SILENCE,
    connectionName: `bridgehead-${role}`,
    retryStrategy: retryDelay,
    // After a failover the old primary refuses writes: ask anew who is it.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
    db: database,
    ...user,
    ...(tls ? { tls: {} } : {}),
  } satisfies RedisOptions & { replyMapping: 'legacy' };
  switch (kind) {
    case 'unix':
      return new Redis({ ...common, path });
    case 'sentinel':
      return new Redis({
        ...common,
        sentinels: hosts,
        name: primary,
        sentinelRetryStrategy: retryDelay,
        ...(tls ? { enableTLSForSentinelMode: true } : {}),
      });
    case 'cluster':
      return new Cluster(hosts, {
        lazyConnect: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: retryDelay,
        // Whoever reads a stream must know that its node was lost: it may be another one afterwards.
        ...(role === 'blocking' ? { retryDelayOnFailover: 0 } : {}),
        redisOptions: {
          replyMapping: 'legacy',
          ...user,
          ...(tls ? { tls: {} } : {}),
          connectTimeout: CONNECT_TIMEOUT,
          socketTimeout: SILENCE,
        },
      });
    case 'single':
      return new Redis({ ...common, ...hosts[0] });
  }
}

/** One line when Redis goes away and one when it is back, with nothing of the URL but host and port. */
function sayOutages(client: RedisClient, label: string, role: string, logger: Logger): void {
  let away = false;
  client.on('error', (error: Error & { readonly code?: unknown }) => {
    if (away) return;
    away = true;
    const cause = typeof error.code === 'string' ? error.code : error.name;
    logger.warn({ redis: label, role, cause }, 'Redis cannot be reached; trying on');
  });
  client.on('ready', () => {
    if (away) logger.info({ redis: label, role }, 'Redis is back');
    away = false;
  });
}
