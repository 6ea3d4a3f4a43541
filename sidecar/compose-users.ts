import type { Config } from '../config/index.ts';
import { memoryInvalidationBus } from '../src/adapters/shared/memory-invalidation-bus.ts';
import { LostWorkers } from '../src/core/auth/lost-workers.ts';
import { UserResolver } from '../src/core/auth/user-resolver.ts';
import type { Invalidation, SharedUserCache } from '../src/ports/auth.ts';
import type { SharedBudget } from '../src/ports/budget.ts';
import type { InvalidationBus } from '../src/ports/invalidation-bus.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { LinkedWorker, LinkEnd } from '../src/ports/links.ts';
import type { Logger } from '../src/ports/logger.ts';
import type { Metrics } from '../src/ports/metrics.ts';
import type { DependencyHealth } from '../src/ports/operator.ts';
import { keyring } from '../src/protocol/keys.ts';
import type { ComposedSource } from './compose-source.ts';

/** How users are found, remembered and forgotten. */
export interface Users {
  /** undefined where nobody could tell: no source, or no secret to sign answers with. */
  readonly resolver: UserResolver | undefined;
  /** The user model's label: as a worker tells it, else as the configuration says. */
  readonly model: string;
  /** What Redis shares of the rates; undefined: each sidecar counts for itself. */
  readonly budget: SharedBudget | undefined;
  health(): DependencyHealth[];
  /** Forgets here, in Redis, and in every other sidecar. `id`: of a message that may come on other ways, too. */
  invalidate(what: Invalidation, id?: string): void;
  /** A worker's link ended without a goodbye: what it invalidates does not come here. */
  workerLost(instance: string, end: LinkEnd): void;
  workersChanged(workers: readonly LinkedWorker[]): void;
  close(): Promise<void>;
}

export interface UsersParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly instance: string;
  /** The permissions that the rules in force name. */
  readonly permissions: () => readonly string[];
  /** Called for every invalidation, wherever it came from. */
  readonly onInvalidated: (what: Invalidation) => void;
}

interface Shared {
  readonly cache: SharedUserCache;
  readonly bus: InvalidationBus;
  readonly budget: SharedBudget;
  close(): Promise<void>;
}

/** A bus that is not there at start must not hold the start up: it begins blind. Milliseconds. */
const BUS_TIMEOUT = 500;

/** Builds what users need; a Redis that is not there yet holds nothing up. */
export async function composeUsers(
  config: Config,
  source: ComposedSource | undefined,
  parts: UsersParts,
): Promise<Users> {
  const { clock, logger, permissions } = parts;
  const { ttl, max } = config.auth.cache;
  const { secret } = config;
  const { url } = config.redis;
  const shared =
    url === undefined || secret === undefined ? undefined : await composeShared(config, url, secret, parts);
  const bus = shared?.bus ?? memoryInvalidationBus();
  const isKnown = source !== undefined && secret !== undefined;
  const resolver = isKnown
    ? new UserResolver({ ttl: ttl * 1000, max, permissions }, { ...parts, source, shared: shared?.cache })
    : undefined;
  const apply = (what: Invalidation): void => {
    // First, so that whoever asks from now on asks the primary.
    source?.invalidated?.(what);
    resolver?.invalidate(what);
    parts.onInvalidated(what);
  };
  const look = (): void => {
    // What was missed may still be missing on a replica. In Redis it stands for others to use: whoever missed nothing may.
    source?.invalidated?.({ all: true });
    resolver?.forget({ all: true });
    resolver?.setBlind(bus.blind || lost.any);
  };
  const lost = new LostWorkers(clock, () => {
    if (lost.any) logger.warn({}, 'a worker is cut off and may invalidate users unheard: they are kept shortly');
    look();
  });
  let model = config.auth.django.userModel.toLowerCase();
  await bus.start({ invalidated: apply, blind: look }, BUS_TIMEOUT);
  return {
    resolver,
    get model() {
      return model;
    },
    budget: shared?.budget,
    health: () => (shared === undefined ? [] : [busHealth(shared.bus)]),
    invalidate(what, id) {
      if (id !== undefined && !bus.admit(id)) return;
      apply(what);
      void bus.publish(what, id);
    },
    workerLost(instance, end) {
      // Workers publish to Redis as well, whether they are linked or not.
      if (shared === undefined) lost.lost(instance, end);
    },
    workersChanged(workers) {
      lost.linked(workers.map(({ manifest }) => manifest.instance));
      // During a rollout, what any of them does of its own counts.
      const facts = workers.flatMap(({ manifest }) => manifest.user ?? []);
      const strictest = facts.find(({ own }) => own.length > 0) ?? facts.at(-1);
      if (strictest === undefined) return;
      ({ model } = strictest);
      if (source?.learned?.(strictest) === true) resolver?.invalidate({ all: true });
    },
    close: async () => {
      lost.close();
      await shared?.close();
    },
  };
}

/** ioredis is loaded where it is used: a start without Redis does not pay for it. */
async function composeShared(config: Config, url: string, secret: string, parts: UsersParts): Promise<Shared> {
  const { redisBudget } = await import('../src/adapters/redis/redis-budget.ts');
  const { closeRedis, redisClient } = await import('../src/adapters/redis/redis-client.ts');
  const { redisInvalidationBus } = await import('../src/adapters/redis/redis-invalidation-bus.ts');
  const { redisUserCache } = await import('../src/adapters/redis/redis-user-cache.ts');
  const { clock, logger, instance } = parts;
  const { name, previousSecrets } = config;
  const keys = keyring(secret, previousSecrets, 'cache');
  const client = redisClient({ url, role: 'commands', logger });
  const subscriber = redisClient({ url, role: 'subscriber', logger });
  const ttl = config.auth.cache.ttl * 1000;
  const cache = redisUserCache({ client, name, ttl, keys, clock, logger });
  const bus = redisInvalidationBus({ commands: client, subscriber, name, instance, keys, clock, logger });
  logger.info({ name }, 'users are shared and forgotten together over Redis');
  return {
    cache,
    bus,
    budget: redisBudget({ client, name, clock }),
    close: async () => {
      await bus.close();
      closeRedis(client);
      closeRedis(subscriber);
    },
  };
}

/** Without its bus a sidecar still serves: it remembers users only shortly. */
function busHealth(bus: InvalidationBus): DependencyHealth {
  const detail = bus.blind ? 'invalidations may be missed: users are remembered for seconds only' : '';
  return { name: 'redis', state: bus.blind ? 'down' : 'up', required: false, detail };
}
