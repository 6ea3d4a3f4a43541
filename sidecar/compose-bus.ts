import type { Config } from '../config/index.ts';
import { memoryBus } from '../src/adapters/bus/memory-bus.ts';
import { meteredBus } from '../src/adapters/bus/metered-bus.ts';
import type { DeadLetter, Replay } from '../src/adapters/bus/dead-letters.ts';
import type { OutboxRelay } from '../src/adapters/bus/outbox-relay.ts';
import type { ChangeBus, ChangeBusKind } from '../src/ports/change-bus.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { Logger } from '../src/ports/logger.ts';
import type { Metrics } from '../src/ports/metrics.ts';
import type { DependencyHealth } from '../src/ports/operator.ts';

/** The change bus of this process, and what stands beside it. */
export interface Live {
  readonly bus: ChangeBus;
  /** Of the stream's consumer groups; undefined on other buses. */
  readonly deadLetters: DeadLetters | undefined;
  health(): DependencyHealth[];
  close(): Promise<void>;
}

export interface DeadLetters {
  list(limit: number): Promise<DeadLetter[]>;
  replay(id: string): Promise<Replay>;
}

export interface LiveParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly instance: string;
}

interface Built {
  readonly bus: ChangeBus;
  readonly deadLetters?: DeadLetters;
  close?(): Promise<void> | void;
}

/** A bus that is not there at start holds nothing up: it comes up later, with a gap. Milliseconds. */
const START_TIMEOUT = 500;
/** How often dead letters are counted. Milliseconds. */
const COUNT_INTERVAL = 5_000;

/** Builds and starts the bus that the configuration says, and the relay of the outbox to it. */
export async function composeBus(config: Config, parts: LiveParts): Promise<Live> {
  const { logger } = parts;
  const kind = busKind(config);
  logger.info({ bus: kind }, `live changes go over ${NAMES[kind]} (${reasonFor(config)})`);
  if (kind === 'memory' && config.redis.url !== undefined) {
    logger.warn(
      {},
      'live.bus is memory: a second sidecar of this deployment would hear nothing; set it to redis for two',
    );
  }
  const built = await build(kind, config, parts);
  const bus = meteredBus(built.bus, parts);
  await bus.start(START_TIMEOUT);
  const relay = await composeRelay(config, bus, parts);
  return {
    bus,
    deadLetters: built.deadLetters,
    health: () => [busHealth(bus), ...(relay === undefined ? [] : relay.health())],
    close: async () => {
      await relay?.close();
      await bus.close();
      await built.close?.();
    },
  };
}

const NAMES: Readonly<Record<ChangeBusKind, string>> = {
  memory: 'the memory of this process',
  redis: 'Redis pub/sub',
  'redis-streams': 'Redis Streams',
  postgres: 'the outbox in PostgreSQL',
};

function busKind({ live, redis }: Config): ChangeBusKind {
  return live.bus ?? (redis.url === undefined ? 'memory' : 'redis');
}

function reasonFor({ live, redis }: Config): string {
  if (live.bus !== undefined) return 'live.bus';
  return redis.url === undefined ? 'without Redis; for a single sidecar' : 'since redis.url is set';
}

/** Drivers are loaded where they are used: a start without them does not pay for them. */
async function build(kind: ChangeBusKind, config: Config, parts: LiveParts): Promise<Built> {
  switch (kind) {
    case 'memory':
      return { bus: memoryBus(parts) };
    case 'redis':
      return buildRedis(config, parts);
    case 'redis-streams':
      return buildStreams(config, parts);
    case 'postgres':
      return buildPostgres(config, parts);
  }
}

async function buildRedis(config: Config, parts: LiveParts): Promise<Built> {
  const { closeRedis, listeningConnection, redisClient } = await import('../src/adapters/redis/redis-client.ts');
  const { redisBus } = await import('../src/adapters/bus/redis-bus.ts');
  const commands = redisClient({ url: redisUrl(config), role: 'commands', logger: parts.logger });
  const listen = (): ReturnType<typeof listeningConnection> => listeningConnection(commands);
  return { bus: redisBus({ ...parts, commands, listen, name: config.name }), close: () => closeRedis(commands) };
}

async function buildStreams(config: Config, parts: LiveParts): Promise<Built> {
  const { closeRedis, redisClient } = await import('../src/adapters/redis/redis-client.ts');
  const { redisStreamBus } = await import('../src/adapters/bus/redis-stream-bus.ts');
  const { countDeadLetters, listDeadLetters, replayDeadLetter } = await import('../src/adapters/bus/dead-letters.ts');
  const { name } = config;
  const [commands, reader] = (['commands', 'blocking'] as const).map((role) =>
    redisClient({ url: redisUrl(config), role, logger: parts.logger }),
  ) as [ReturnType<typeof redisClient>, ReturnType<typeof redisClient>];
  let waiting = 0;
  const count = async (): Promise<void> => {
    waiting = await countDeadLetters(commands, name).catch(() => waiting);
  };
  parts.metrics.deadLetters(() => waiting);
  const counting = parts.clock.setInterval(() => void count(), COUNT_INTERVAL);
  return {
    bus: redisStreamBus({ ...parts, commands, reader, name }),
    deadLetters: {
      list: (limit) => listDeadLetters(commands, name, limit),
      replay: (id) => replayDeadLetter(commands, name, id),
    },
    close: () => {
      counting.cancel();
      [commands, reader].forEach(closeRedis);
    },
  };
}

async function buildPostgres(config: Config, parts: LiveParts): Promise<Built> {
  const { databasePool } = await import('../src/adapters/auth/database-pool.ts');
  const { postgresBus } = await import('../src/adapters/bus/postgres-bus.ts');
  const { listenUrl, url } = databaseUrls(config, 'live.bus');
  const pool = databasePool(url, parts.logger);
  return { bus: postgresBus({ ...parts, pool, listenUrl, name: config.name }), close: () => pool.end() };
}

/** undefined where nothing is to be relayed: the bus reads the outbox itself, there is no database, or it is not wanted. */
async function composeRelay(
  config: Config,
  bus: ChangeBus,
  parts: LiveParts,
): Promise<{ health(): DependencyHealth[]; close(): Promise<void> } | undefined> {
  const { database, live, name } = config;
  if (bus.kind === 'postgres' || live.outbox === false) return undefined;
  const required = live.outbox === true;
  if (database.url === undefined && !required) return undefined;
  const { databasePool } = await import('../src/adapters/auth/database-pool.ts');
  const { outboxRelay } = await import('../src/adapters/bus/outbox-relay.ts');
  const { listenUrl, url } = databaseUrls(config, 'live.outbox');
  const pool = databasePool(url, parts.logger);
  // What only this process hears every process must read for itself.
  const elected = bus.kind !== 'memory';
  const relay = outboxRelay({ ...parts, pool, listenUrl, bus, name, elected, required });
  return {
    health: () => (relay.state === 'absent' && !required ? [] : [relayHealth(relay)]),
    close: async () => {
      await relay.close();
      await pool.end();
    },
  };
}

function redisUrl({ redis }: Config): string {
  if (redis.url === undefined) throw new Error('live.bus: set redis.url, or REDIS_URL in the environment');
  return redis.url;
}

function databaseUrls({ database }: Config, key: string): { readonly url: string; readonly listenUrl: string } {
  const { url, listenUrl } = database;
  if (url === undefined) throw new Error(`${key}: set database.url, or DATABASE_URL in the environment`);
  return { url, listenUrl: listenUrl ?? url };
}

/** Without its bus a sidecar still serves: live changes are missed, and told as a gap afterwards. */
function busHealth({ detail, kind, state }: ChangeBus): DependencyHealth {
  return { name: `change bus ${kind}`, state, required: false, detail };
}

function relayHealth({ detail, state }: OutboxRelay): DependencyHealth {
  const states = { starting: 'starting', relaying: 'up', standby: 'up', absent: 'down', down: 'down' } as const;
  return { name: 'outbox', state: states[state], required: false, detail };
}
