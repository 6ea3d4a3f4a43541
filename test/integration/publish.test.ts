import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createPublisher } from '../../config/index.ts';
import { redisBus } from '../../src/adapters/bus/redis-bus.ts';
import { redisStreamBus } from '../../src/adapters/bus/redis-stream-bus.ts';
import { listeningConnection } from '../../src/adapters/redis/redis-client.ts';
import { closeRedis, redisClient, streamWork } from '../../src/index.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { startPostgres, type Postgres } from '../../tools/services/postgres.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';
import { startBridgehead } from '../support/bridgehead-process.ts';
import { Heard } from '../conformance/change-bus.ts';
import { eventually } from '../support/eventually.ts';
import { connectTo, installOutbox } from '../support/outbox.ts';

const KEY = 'a-key-for-tests';
const stopping: (() => Promise<unknown> | void)[] = [];
let redis: Redis;
let postgres: Postgres;

beforeAll(async () => {
  redis = await startRedis();
  postgres = await startPostgres();
  const admin = await connectTo(postgres.url);
  await installOutbox(admin);
  await admin.query(
    "CREATE TABLE shop_product (id int PRIMARY KEY, name text); SELECT bridgehead_track('shop_product', 'shop.product')",
  );
  await admin.end();
});
afterAll(async () => {
  await postgres.stop();
  await redis.stop();
});
afterEach(async () => {
  for (const stop of stopping.splice(0).toReversed()) await stop();
});

async function sidecar(environment: Readonly<Record<string, string>> = {}) {
  const started = await startBridgehead({
    BRIDGEHEAD_NAME: 'shop',
    BRIDGEHEAD_API_KEY: KEY,
    BRIDGEHEAD_LISTEN: '127.0.0.1:0',
    BRIDGEHEAD_ADMIN_LISTEN: '127.0.0.1:0',
    ...environment,
  });
  stopping.push(() => started.stop());
  return started;
}

/** The output of `bridgehead tail` as it comes. */
async function tail(url: string, ...args: string[]): Promise<{ text: () => string }> {
  const child = spawn(process.execPath, ['sidecar/cli.ts', 'tail', '--url', url, ...args], {
    env: { PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more));
  stopping.push(async () => {
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  });
  await eventually(() => text).toContain('up');
  return { text: () => text };
}

async function cli(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ['sidecar/cli.ts', ...args], {
    env: { PATH: process.env['PATH'], BRIDGEHEAD_API_KEY: KEY },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (more: string) => (output.out += more));
  child.stderr.setEncoding('utf8').on('data', (more: string) => (output.err += more));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...output };
}

describe('bridgehead publish and tail', () => {
  it('carry a change from one sidecar to another over Redis, which turns itself on and says so', async () => {
    const environment = { REDIS_URL: redis.url };
    const [one, two] = [await sidecar(environment), await sidecar(environment)];
    expect(one.log()).toContain('live changes go over Redis pub/sub (since redis.url is set)');
    const [all, orders] = [await tail(two.admin, '--json'), await tail(two.admin, '--model', 'shop.order')];
    expect(await cli('publish', 'shop.product', 'updated', '42', '--url', one.admin, '--json')).toMatchObject({
      code: 0,
      out: '{"accepted":1}\n',
    });
    await eventually(() => all.text()).toContain('"model":"shop.product","action":"updated","pk":42');
    expect(await cli('publish', 'shop.Order', 'created', 'a-b', '--url', one.admin)).toMatchObject({
      code: 0,
      out: 'accepted\n',
    });
    await eventually(() => orders.text()).toMatch(/Z {2}created {2}shop\.order {2}"a-b"\n/);
    expect(orders.text()).not.toContain('shop.product');
    const health = (await (await fetch(`${two.admin}/health`)).json()) as { dependencies: { name: string }[] };
    expect(health.dependencies).toContainEqual({ name: 'change bus redis', state: 'up', required: false, detail: '' });
  });

  it('say what is wrong: 2 for wrong words, 1 where no sidecar answers or the key is missing', async () => {
    const wrong = await cli('publish', 'shop.product', 'saved', '42');
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('action is not an action')]);
    const alone = await cli('publish', 'shop.product', 'updated', '42', '--url', 'http://127.0.0.1:1');
    expect([alone.code, alone.err]).toEqual([1, expect.stringContaining('no sidecar answers')]);
    const keyless = await sidecar({ BRIDGEHEAD_API_KEY: '' });
    const refused = await cli('publish', 'shop.product', 'updated', '42', '--url', keyless.admin);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('BRIDGEHEAD_API_KEY')]);
    expect((await cli('tail', '--dead', '--url', keyless.admin)).err).toContain('redis-streams');
    expect((await cli('tail', '--replay', '1-1')).code).toBe(2);
  });
});

describe('what a transaction changes in PostgreSQL', () => {
  it.each(['memory', 'redis', 'redis-streams', 'postgres'])('reaches every sidecar over the bus %s', async (bus) => {
    const environment = { REDIS_URL: redis.url, DATABASE_URL: postgres.url, BRIDGEHEAD_LIVE_BUS: bus };
    const sidecars = [await sidecar(environment), await sidecar(environment)];
    const tails = await Promise.all(sidecars.map(({ admin }) => tail(admin, '--json')));
    const admin = await connectTo(postgres.url);
    stopping.push(() => admin.end());
    const states = (): Promise<string[]> =>
      Promise.all(
        sidecars.map(async ({ admin }) => {
          const { dependencies } = (await (await fetch(`${admin}/health`)).json()) as {
            dependencies: { name: string; state: string }[];
          };
          const name = bus === 'postgres' ? 'change bus postgres' : 'outbox';
          return dependencies.find((dependency) => dependency.name === name)?.state ?? 'none';
        }),
      );
    await eventually(states).toEqual(['up', 'up']);
    await admin.query("BEGIN; INSERT INTO shop_product VALUES (99, 'gone'); ROLLBACK");
    await admin.query('INSERT INTO shop_product SELECT n FROM generate_series(1, 3) n');
    await admin.query("UPDATE shop_product SET name = 'x'; DELETE FROM shop_product");
    for (const { text } of tails) {
      await eventually(() => text().match(/"deleted","pk":[123],/g)?.length).toBe(3);
      for (const action of ['created', 'updated']) {
        for (const pk of [1, 2, 3]) expect(text().split(`"${action}","pk":${pk},`)).toHaveLength(2);
      }
      expect(text()).not.toContain('"pk":99,');
    }
  });
});

describe('a publisher in another program', () => {
  const change = { model: 'shop.Product', action: 'updated', pk: 42 } as const;
  const published = { model: 'shop.product', action: 'updated', pk: 42 };

  it.each(['redis', 'redis-streams'] as const)('reaches the bus %s directly', async (kind) => {
    const parts = { clock: systemClock, logger: silentLogger, name: 'direct' };
    const [commands, reader] = (['commands', 'blocking'] as const).map((role) =>
      redisClient({ url: redis.url, role, logger: silentLogger }),
    );
    if (commands === undefined || reader === undefined) throw new Error('no clients');
    const bus =
      kind === 'redis'
        ? redisBus({ ...parts, commands, listen: () => listeningConnection(commands) })
        : redisStreamBus({ ...parts, commands, reader });
    const heard = new Heard();
    bus.subscribe(heard);
    await bus.start(10_000);
    stopping.push(async () => {
      await bus.close();
      [commands, reader].forEach(closeRedis);
    });
    const publisher = createPublisher({ redisUrl: redis.url, name: 'direct', bus: kind });
    stopping.push(() => publisher.close());
    expect(await publisher.publish([change, { ...change, pk: 2n ** 63n }])).toBe(2);
    await eventually(() => heard.list).toMatchObject([published, { ...published, pk: '9223372036854775808' }]);
  });

  it('reaches the outbox, and rejects where it cannot', async () => {
    const publisher = createPublisher({ databaseUrl: postgres.url });
    stopping.push(() => publisher.close());
    const own = `p${process.pid}`;
    expect(await publisher.publish({ ...change, pk: own })).toBe(1);
    const admin = await connectTo(postgres.url);
    stopping.push(() => admin.end());
    const { rows } = await admin.query('SELECT model, action FROM bridgehead_change WHERE pk = $1', [own]);
    expect(rows).toEqual([{ model: 'shop.product', action: 'updated' }]);
    for (const options of [{ databaseUrl: 'postgresql://127.0.0.1:1/x' }, { redisUrl: 'redis://127.0.0.1:1' }]) {
      const nowhere = createPublisher(options);
      stopping.push(() => nowhere.close());
      await expect(nowhere.publish(change)).rejects.toThrow('did not take the changes');
    }
  });
});

describe('work on changes, once each', () => {
  it('is done through the public exports, and its dead letters are listed and replayed by the command', async () => {
    const one = await sidecar({ REDIS_URL: redis.url, BRIDGEHEAD_LIVE_BUS: 'redis-streams' });
    const client = redisClient({ url: redis.url, role: 'blocking', logger: silentLogger });
    const done: unknown[] = [];
    let isBroken = true;
    const work = streamWork({
      client,
      clock: systemClock,
      logger: silentLogger,
      name: 'shop',
      group: 'mail',
      consumer: 'one',
      maxTries: 1,
      claimAfter: 50,
      handle: ({ pk }) => {
        if (isBroken) return Promise.reject(new Error('unlucky'));
        done.push(pk);
        return Promise.resolve();
      },
      missed: () => undefined,
    });
    stopping.push(async () => {
      await work.close();
      closeRedis(client);
    });
    const letters = async (): Promise<{ id: string; group: string }[]> => {
      const { code, out } = await cli('tail', '--dead', '--url', one.admin);
      expect(code).toBe(0);
      return out
        .split('\n')
        .flatMap((line) => (line === '' ? [] : [JSON.parse(line) as { id: string; group: string }]));
    };
    const published = async (): Promise<number> => {
      // The group begins with what comes after it was made.
      await cli('publish', 'shop.product', 'updated', '42', '--url', one.admin);
      return (await letters()).length;
    };
    await eventually(published, { interval: 200 }).toBeGreaterThan(0);
    await eventually(async () => (await fetch(`${one.admin}/metrics`)).text()).toMatch(/bridgehead_dead_letters [1-9]/);
    isBroken = false;
    const [letter] = await letters();
    expect(letter?.group).toBe('mail');
    const before = done.length;
    expect(await cli('tail', '--dead', '--replay', letter?.id ?? '', '--url', one.admin)).toMatchObject({
      code: 0,
      out: 'replayed\n',
    });
    await eventually(() => done.length).toBeGreaterThan(before);
    expect((await letters()).map(({ id }) => id)).not.toContain(letter?.id);
    const again = await cli('tail', '--dead', '--replay', letter?.id ?? '', '--url', one.admin);
    expect([again.code, again.err]).toEqual([1, expect.stringContaining('No dead letter has this id')]);
  });
});
