import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { redisStreamBus } from '../../src/adapters/bus/redis-stream-bus.ts';
import { closeRedis, connectRedis, redisClient, type RedisClient } from '../../src/adapters/redis/redis-client.ts';
import type { ChangeBus } from '../../src/ports/change-bus.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';

export const parts = { clock: systemClock, logger: silentLogger };

/** A Redis for the tests of a file. Each test is a deployment of its own, and what it opened is closed after it. */
export class RedisStage {
  readonly #closing: (() => Promise<unknown> | void)[] = [];
  #deployments = 0;
  #redis: Redis | undefined;
  #operator: RedisClient | undefined;

  /** Within a file, before its tests. */
  constructor() {
    beforeAll(async () => {
      this.#redis = await startRedis();
      this.#operator = redisClient({ url: this.#redis.url, role: 'commands', logger: silentLogger });
      await connectRedis(this.#operator);
    });
    afterAll(async () => {
      closeRedis(this.operator);
      await this.redis.stop();
    });
    beforeEach(() => void this.#deployments++);
    afterEach(async () => {
      for (const close of this.#closing.splice(0).toReversed()) await close();
    });
  }

  get redis(): Redis {
    if (this.#redis === undefined) throw new Error('Redis runs within tests alone');
    return this.#redis;
  }

  get operator(): RedisClient {
    if (this.#operator === undefined) throw new Error('Redis runs within tests alone');
    return this.#operator;
  }

  get name(): string {
    return `d${this.#deployments}`;
  }

  get stream(): string {
    return `bridgehead:${this.name}:stream`;
  }

  /** Called after the test. */
  closes(close: () => Promise<unknown> | void): void {
    this.#closing.push(close);
  }

  client(role: 'commands' | 'blocking', url = this.redis.url): RedisClient {
    const made = redisClient({ url, role, logger: silentLogger });
    this.closes(() => closeRedis(made));
    return made;
  }

  streamBus(url = this.redis.url, maxLength?: number): ChangeBus {
    const clients = { commands: this.client('commands', url), reader: this.client('blocking', url) };
    const bus = redisStreamBus({ ...parts, ...clients, name: this.name, ...(maxLength && { maxLength }) });
    this.closes(() => bus.close());
    return bus;
  }
}
