import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { databasePool } from '../../src/adapters/auth/database-pool.ts';
import { memoryBus } from '../../src/adapters/bus/memory-bus.ts';
import { postgresBus } from '../../src/adapters/bus/postgres-bus.ts';
import { redisBus } from '../../src/adapters/bus/redis-bus.ts';
import { redisStreamBus } from '../../src/adapters/bus/redis-stream-bus.ts';
import {
  closeRedis,
  listeningConnection,
  redisClient,
  type RedisClient,
} from '../../src/adapters/redis/redis-client.ts';
import { BusUnavailableError, type ChangeBus, type ChangeBusKind } from '../../src/ports/change-bus.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import type { Change } from '../../src/protocol/change.ts';
import { startPgBouncer, type PgBouncer } from '../../tools/services/pgbouncer.ts';
import { startPostgres, type Postgres } from '../../tools/services/postgres.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';
import { connectTo, installOutbox } from '../support/outbox.ts';
import { eventually } from '../support/eventually.ts';
import { change, publishingOn, push, startedBus } from './change-bus.ts';

const parts = { clock: systemClock, logger: silentLogger };
const closing: (() => Promise<void> | void)[] = [];
let deployments = 0;
let redis: Redis;
let postgres: Postgres;
let pooler: PgBouncer;

beforeAll(async () => {
  redis = await startRedis();
  // A commit that was told survives a crash.
  postgres = await startPostgres({ settings: { synchronous_commit: 'on' } });
  pooler = await startPgBouncer(postgres.port);
  const admin = await connectTo(postgres.url);
  await installOutbox(admin);
  await admin.end();
});
afterAll(async () => {
  await pooler.stop();
  await postgres.stop();
  await redis.stop();
});
beforeEach(() => void deployments++);
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

function client(role: 'commands' | 'blocking'): RedisClient {
  const made = redisClient({ url: redis.url, role, logger: silentLogger });
  closing.push(() => closeRedis(made));
  return made;
}

function closed<Bus extends ChangeBus>(bus: Bus): Bus {
  closing.push(() => bus.close());
  return bus;
}

function makeRedisBus(): ChangeBus {
  const commands = client('commands');
  return closed(redisBus({ ...parts, commands, listen: () => listeningConnection(commands), name: `d${deployments}` }));
}

function makeStreamBus(maxLength?: number): ChangeBus {
  const clients = { commands: client('commands'), reader: client('blocking') };
  return closed(redisStreamBus({ ...parts, ...clients, name: `d${deployments}`, ...(maxLength && { maxLength }) }));
}

function makePostgresBus(url = postgres.url): ChangeBus {
  const pool = databasePool(url, silentLogger);
  closing.push(() => pool.end());
  return closed(postgresBus({ ...parts, pool, listenUrl: postgres.url, name: 'shop' }));
}

/** PostgreSQL has a clock of its own. */
const untimed = ({ id, model, action, pk, tags }: Change): object => ({ id, model, action, pk, tags });

interface Kind {
  readonly kind: ChangeBusKind;
  readonly make: () => ChangeBus;
  readonly kill: () => Promise<void>;
  readonly begin: () => Promise<void>;
}

const killRedis = (): Promise<void> => redis.kill();
const beginRedis = async (): Promise<void> => {
  redis = await startRedis(redis);
};
const onPostgres = { kill: () => postgres.crash(), begin: () => postgres.restart() };

const shared: [string, Kind][] = [
  ['redis', { kind: 'redis', make: makeRedisBus, kill: killRedis, begin: beginRedis }],
  ['redis-streams', { kind: 'redis-streams', make: makeStreamBus, kill: killRedis, begin: beginRedis }],
  ['postgres', { kind: 'postgres', make: makePostgresBus, ...onPostgres }],
  [
    'postgres behind PgBouncer',
    { kind: 'postgres', make: () => makePostgresBus(pooler.urlOf(postgres.url)), ...onPostgres },
  ],
];
const nothing = (): Promise<void> => Promise.resolve();
const kinds: [string, Kind][] = [
  ['memory', { kind: 'memory', make: () => closed(memoryBus(parts)), kill: nothing, begin: nothing }],
  ...shared,
];

describe.each(kinds)('the change bus %s', (_, { kind, make }) => {
  it('is up once it has started, without a gap, and closes twice', async () => {
    const { bus, heard } = await startedBus(make());
    expect([bus.kind, bus.state, heard.gaps]).toEqual([kind, 'up', []]);
    await bus.close();
    await bus.close();
  });

  it('gives its own changes back in order, as they were published', async () => {
    const { bus, heard } = await startedBus(make());
    const changes = [
      change(1, 'created'),
      { ...change('9007199254740993', 'updated'), tags: ['tenant:acme', 'a "quoted" {tag}'] },
      change('a "quoted" ä\u{1F600} key', 'deleted', 'shöp.prodüct'),
      change(-5),
    ];
    await bus.publish(changes.slice(0, 1));
    await bus.publish(changes.slice(1));
    await eventually(() => heard.list.map(untimed)).toEqual(changes.map(untimed));
  });

  it('keeps the order of 2,500 changes in batches', async () => {
    const { bus, heard } = await startedBus(make());
    const all = Array.from({ length: 2_500 }, (_, n) => change(n));
    for (let from = 0; from < all.length; from += 500) await bus.publish(all.slice(from, from + 500));
    await eventually(() => heard.list.length).toBe(all.length);
    expect(heard.pks).toEqual(all.map(({ pk }) => pk));
    expect(heard.gaps).toEqual([]);
  });

  it('gives an id once, however often it is published', async () => {
    const { bus, heard } = await startedBus(make());
    const [one, two, three] = [change(1), change(2), change(3)];
    await bus.publish([one, two, one]);
    await bus.publish([two, three]);
    await eventually(() => heard.list.map(({ id }) => id)).toEqual([one.id, two.id, three.id]);
  });

  it('tells every subscriber a reported gap, of one model or of all', async () => {
    const { bus, heard } = await startedBus(make());
    await bus.publish([change(1)]);
    await bus.publishGap({ reason: 'reported' });
    await bus.publishGap({ reason: 'reported', model: 'shop.order' });
    await bus.publish([change(2)]);
    await eventually(() => heard.all.map((entry) => ('id' in entry ? entry.pk : entry.model))).toEqual([
      1,
      undefined,
      'shop.order',
      2,
    ]);
  });

  it('brings pushes to every process, each once, as they were published', async () => {
    const { bus, heard } = await startedBus(make());
    const other = kind === 'memory' ? heard : (await startedBus(make())).heard;
    const pushes = [
      push({ kind: 'all' }, { kind: 'toast', text: 'größer "ä" </script>\u2028\0', level: 'success' }),
      push({ kind: 'user', id: '42', model: 'auth.user' }, { kind: 'event', name: 'a.B.c', payload: { n: [1, null] } }),
      push({ kind: 'group', name: 'editors' }, { kind: 'redirect', path: '/orders' }),
      push({ kind: 'path', pattern: '/orders/*' }, { kind: 'script', code: 'alert(1)' }),
      push({ kind: 'session', id: 'tab' }, { kind: 'event', name: 'a.B.c', payload: {} }),
    ];
    for (const one of pushes) await bus.publishPush(one);
    for (const one of pushes) await bus.publishPush(one);
    await bus.publish([change(1)]);
    for (const listener of [heard, other]) {
      await eventually(() => listener.pks).toEqual([1]);
      expect(listener.pushes).toEqual(pushes);
      expect(listener.gaps).toEqual([]);
    }
  });

  it('goes on where a subscriber throws, and tells one that has left nothing', async () => {
    const { bus, heard } = await startedBus(make());
    bus.subscribe({
      changes: () => {
        throw new Error('broken subscriber');
      },
      gap: () => undefined,
    });
    const gone = bus.subscribe(heard);
    gone();
    await bus.publish([change(1)]);
    await bus.publish([change(2)]);
    await eventually(() => heard.pks).toEqual([1, 2]);
  });
});

describe.each(shared)('the change bus %s among processes', (_, { make, kill, begin }) => {
  it('tells every process, each in the same order', async () => {
    const buses = await Promise.all([startedBus(make()), startedBus(make()), startedBus(make())]);
    const all = Array.from({ length: 300 }, (_, n) => change(n));
    await Promise.all(
      buses.map(async ({ bus }, nth) => {
        for (const one of all.filter(({ pk }) => Number(pk) % 3 === nth)) await bus.publish([one]);
      }),
    );
    for (const { heard } of buses) {
      await eventually(() => heard.list.length).toBe(all.length);
      for (const nth of [0, 1, 2]) {
        const own = heard.pks.filter((pk) => Number(pk) % 3 === nth);
        expect(own).toEqual(own.toSorted((a, b) => Number(a) - Number(b)));
      }
    }
  });

  it('killed and restarted under load: what it took is delivered, or a gap is told', async () => {
    const [one, two] = await Promise.all([startedBus(make()), startedBus(make())]);
    const publisher = publishingOn(one.bus);
    await eventually(() => two.heard.list.length).toBeGreaterThan(20);
    await kill();
    await begin();
    await eventually(() => [one.bus.state, two.bus.state]).toEqual(['up', 'up']);
    const before = two.heard.list.length;
    await eventually(() => two.heard.list.length).toBeGreaterThan(before + 20);
    const taken = await publisher.stop();
    const last = taken.at(-1)?.id ?? '';
    for (const { heard } of [one, two]) {
      await eventually(() => heard.has(last)).toBe(true);
      const missing = taken.filter(({ id }) => !heard.has(id));
      if (missing.length > 0) expect(heard.gaps.length).toBeGreaterThan(0);
    }
  });

  it('refuses what is published while it is down, soon, and says what to do', async () => {
    const { bus } = await startedBus(make());
    await kill();
    await eventually(() => bus.state).toBe('down');
    expect(bus.detail).not.toBe('');
    const begun = performance.now();
    const refusal: unknown = await bus.publish([change(1)]).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(BusUnavailableError);
    expect(String(refusal)).toContain('publish them again');
    expect(performance.now() - begun).toBeLessThan(5_000);
    await begin();
    await eventually(() => bus.state).toBe('up');
  });

  it('begun while its service is away comes up by itself, and tells a gap then', async () => {
    await kill();
    const bus = make();
    const heard: string[] = [];
    bus.subscribe({ changes: () => undefined, gap: ({ reason }) => heard.push(reason) });
    await bus.start(200);
    expect(bus.state).toBe('starting');
    await begin();
    await eventually(() => bus.state).toBe('up');
    expect(heard).toEqual(['reconnect']);
  });
});
