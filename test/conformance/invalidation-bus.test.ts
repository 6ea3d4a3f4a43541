import { createHmac } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { closeRedis, connectRedis, redisClient, type RedisClient } from '../../src/adapters/redis/redis-client.ts';
import { redisInvalidationBus, type RedisInvalidationBus } from '../../src/adapters/redis/redis-invalidation-bus.ts';
import { memoryInvalidationBus } from '../../src/adapters/shared/memory-invalidation-bus.ts';
import type { Invalidation } from '../../src/ports/auth.ts';
import { systemClock } from '../../src/ports/clock.ts';
import type { InvalidationBus, InvalidationHandler } from '../../src/ports/invalidation-bus.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { keyring, type Keyring } from '../../src/protocol/keys.ts';
import { freePort } from '../../tools/ports.ts';
import { waitUntil } from '../../tools/process.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';

const KEYS = keyring('a secret of at least thirty-two bytes', [], 'cache');
const USER: Invalidation = { user: 'auth.user:42' };

class Recorder implements InvalidationHandler {
  readonly seen: Invalidation[] = [];
  readonly blinds: boolean[] = [];

  invalidated(what: Invalidation): void {
    this.seen.push(what);
  }

  blind(blind: boolean): void {
    this.blinds.push(blind);
  }
}

let redis: Redis;
let deployments = 0;
const closing: (() => Promise<void> | void)[] = [];

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());
beforeEach(() => void deployments++);
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

function client(role: 'commands' | 'subscriber', url = redis.url): RedisClient {
  const made = redisClient({ url, role, logger: silentLogger });
  closing.push(() => closeRedis(made));
  return made;
}

function redisBus(options: { url?: string; keys?: Keyring; instance?: string } = {}): RedisInvalidationBus {
  const { url = redis.url, keys = KEYS, instance = `i${closing.length}` } = options;
  const clients = { commands: client('commands', url), subscriber: client('subscriber', url) };
  const bus = redisInvalidationBus({
    ...clients,
    instance,
    keys,
    name: `d${deployments}`,
    clock: systemClock,
    logger: silentLogger,
  });
  closing.push(() => bus.close());
  return bus;
}

async function started<Bus extends InvalidationBus>(bus: Bus): Promise<{ bus: Bus; heard: Recorder }> {
  const heard = new Recorder();
  await bus.start(heard, 5_000);
  return { bus, heard };
}

const channel = (): string => `bridgehead:d${deployments}:invalidate`;

describe.each<[string, () => InvalidationBus]>([
  ['memory', memoryInvalidationBus],
  ['redis', redisBus],
])('the invalidation bus %s', (_, make) => {
  it('is sure once it has started', async () => {
    const { bus, heard } = await started(make());
    expect(bus.blind).toBe(false);
    expect(heard.blinds).not.toContain(true);
  });

  it('takes each id of another way for new once', async () => {
    const { bus } = await started(make());
    expect(['a', 'a', 'b', 'a'].map((id) => bus.admit(id))).toEqual([true, false, true, false]);
  });

  it('does not call back for its own messages, and can be closed twice', async () => {
    const { bus, heard } = await started(make());
    await bus.publish(USER);
    await bus.publish({ all: true });
    await bus.close();
    await bus.close();
    expect(heard.seen).toEqual([]);
  });
});

describe('the Redis invalidation bus', () => {
  it.each<Invalidation>([USER, { session: 'hash' }, { all: true }])('tells every other sidecar: %o', async (what) => {
    const [one, two, three] = await Promise.all([started(redisBus()), started(redisBus()), started(redisBus())]);
    await one.bus.publish(what);
    await waitUntil(() => two.heard.seen.length > 0 && three.heard.seen.length > 0, { intervalMs: 5 });
    expect([one.heard.seen, two.heard.seen, three.heard.seen]).toEqual([[], [what], [what]]);
  });

  it('tells each of 500, one after the other', async () => {
    const [one, two] = await Promise.all([started(redisBus()), started(redisBus())]);
    const told = Array.from({ length: 500 }, (_, n) => ({ user: `auth.user:${n}` }));
    for (const what of told) await one.bus.publish(what);
    await waitUntil(() => two.heard.seen.length >= told.length, { intervalMs: 5 });
    expect(two.heard.seen).toEqual(told);
  });

  it('hears a Django process that has no link, once for each id', async () => {
    const { heard } = await started(redisBus());
    const django = client('commands');
    await connectRedis(django);
    const text = signedLikeDjango({ id: 'a', user: 'auth.user:ä' });
    for (let n = 0; n < 3; n++) await django.publish(channel(), text);
    await django.publish(channel(), signedLikeDjango({ id: 'b', all: true }));
    await waitUntil(() => heard.seen.length > 1, { intervalMs: 5 });
    expect(heard.seen).toEqual([{ user: 'auth.user:ä' }, { all: true }]);
  });

  it('passes on under the id it came with, so that what comes on several ways is heard once', async () => {
    const [one, two, three] = await Promise.all([started(redisBus()), started(redisBus()), started(redisBus())]);
    const django = client('commands');
    await connectRedis(django);
    // A worker tells two sidecars over its links, and Redis; each of them tells the others.
    for (const { bus } of [one, two]) {
      expect(bus.admit('a')).toBe(true);
      await bus.publish(USER, 'a');
    }
    await django.publish(channel(), signedLikeDjango({ id: 'a', ...USER }));
    await django.publish(channel(), signedLikeDjango({ id: 'b', all: true }));
    const heard = [one, two, three].map((sidecar) => sidecar.heard.seen);
    await waitUntil(() => heard.every((seen) => seen.length > 0 && 'all' in (seen.at(-1) ?? {})), { intervalMs: 5 });
    expect(heard).toEqual([[{ all: true }], [{ all: true }], [USER, { all: true }]]);
    expect(three.bus.admit('a')).toBe(false);
  });

  it('ignores and counts what is not signed with a secret of the deployment', async () => {
    const { bus, heard } = await started(redisBus());
    const writer = client('commands');
    await connectRedis(writer);
    const other = keyring('another secret of thirty-two bytes or more', [], 'cache');
    const good = signedLikeDjango({ id: 'a', all: true });
    const bad = [
      JSON.stringify({ id: 'x', all: true }),
      'a.b.c',
      '',
      good.slice(0, -1),
      `${good}.x`,
      signedLikeDjango({ id: 'y', all: true }, other),
      signedLikeDjango({ id: 'z', nobody: true }),
      signedLikeDjango({ id: 'long', user: 'x'.repeat(5_000) }),
    ];
    for (const text of bad) await writer.publish(channel(), text);
    await writer.publish(channel(), good);
    await waitUntil(() => heard.seen.length > 0, { intervalMs: 5 });
    expect(heard.seen).toEqual([{ all: true }]);
    expect(bus.ignored).toBe(bad.length);
    expect(bus.blind).toBe(false);
  });

  it('is blind at once when its subscription breaks, and sure again only through a new one', async () => {
    const { bus, heard } = await started(redisBus());
    const other = await started(redisBus());
    const operator = client('commands');
    await connectRedis(operator);
    await operator.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await waitUntil(() => heard.blinds.includes(true) && !bus.blind && !other.bus.blind, { intervalMs: 5 });
    expect(heard.blinds.slice(-2)).toEqual([true, false]);
    await other.bus.publish(USER);
    await waitUntil(() => heard.seen.length > 0, { intervalMs: 5 });
  });

  it('is blind after three seconds without its own beat, and sure when they come again', async () => {
    const { bus, heard } = await started(redisBus());
    process.kill(redis.pid, 'SIGSTOP');
    const begun = performance.now();
    try {
      await waitUntil(() => bus.blind, { timeoutMs: 8_000, intervalMs: 5 });
    } finally {
      process.kill(redis.pid, 'SIGCONT');
    }
    expect(performance.now() - begun).toBeGreaterThan(1_900);
    expect(performance.now() - begun).toBeLessThan(4_500);
    expect(heard.blinds.at(-1)).toBe(true);
    await waitUntil(() => !bus.blind, { timeoutMs: 30_000, intervalMs: 5 });
    expect(heard.blinds.at(-1)).toBe(false);
  }, 30_000);

  it('begins blind where Redis is away, tells what was published meanwhile, and becomes sure when Redis comes', async () => {
    const port = await freePort();
    const url = `redis://127.0.0.1:${port}`;
    const [one, two] = [redisBus({ url }), redisBus({ url })];
    const [heard, heardByOther] = [new Recorder(), new Recorder()];
    const begun = performance.now();
    await Promise.all([one.start(heard, 300), two.start(heardByOther, 300)]);
    expect(performance.now() - begun).toBeLessThan(3_000);
    expect([one.blind, heard.blinds]).toEqual([true, [true]]);
    const published = one.publish(USER);
    const late = await startRedis({ port });
    closing.unshift(() => late.stop());
    await published;
    await waitUntil(() => !one.blind && !two.blind, { timeoutMs: 20_000 });
    expect(heard.blinds).toEqual([true, false]);
    await two.publish({ all: true });
    await waitUntil(() => heard.seen.length > 0, { timeoutMs: 10_000 });
  }, 40_000);

  it('is not kept sure by somebody who repeats its beats', async () => {
    const elsewhere = await startRedis();
    closing.push(() => elsewhere.stop());
    const bus = redisInvalidationBus({
      commands: client('commands', elsewhere.url),
      subscriber: client('subscriber'),
      instance: 'me',
      keys: KEYS,
      name: `d${deployments}`,
      clock: systemClock,
      logger: silentLogger,
    });
    closing.push(() => bus.close());
    const listener = client('subscriber', elsewhere.url);
    await connectRedis(listener);
    const beats: string[] = [];
    listener.on('message', (_: string, text: string) => beats.push(text));
    await listener.subscribe(channel());
    const writer = client('commands');
    await connectRedis(writer);
    const heard = new Recorder();
    const begun = bus.start(heard, 5_000);
    await waitUntil(() => beats.length > 0, { intervalMs: 5 });
    await waitUntil(async () => {
      await writer.publish(channel(), beats[0] ?? '');
      return !bus.blind;
    });
    await begun;
    await waitUntil(async () => {
      await writer.publish(channel(), beats[0] ?? '');
      return bus.blind;
    });
    expect([heard.blinds, bus.ignored]).toEqual([[false, true], 0]);
  });
});

/** As the companion's publisher does it (docs/PROTOCOL.md, "Invalidation"). */
function signedLikeDjango(body: object, { current }: Keyring = KEYS): string {
  const message = `${current.id}.${Buffer.from(JSON.stringify(body)).toString('base64url')}`;
  return `${message}.${createHmac('sha256', current.secret).update(message).digest('base64url')}`;
}
