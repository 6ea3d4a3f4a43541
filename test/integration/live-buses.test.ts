import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createPublisher, type ConfigInput } from '../../config/index.ts';
import { startPostgres, type Postgres } from '../../tools/services/postgres.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorkerSession } from '../support/link-worker.ts';
import { change, LiveStand } from '../support/live-stand.ts';
import { connectTo, installOutbox } from '../support/outbox.ts';

let redis: Redis;
let postgres: Postgres;
const stand = new LiveStand();

beforeAll(async () => {
  redis = await startRedis();
  postgres = await startPostgres();
  const admin = await connectTo(postgres.url);
  await installOutbox(admin);
  await admin.end();
});
afterEach(() => stand.end());
afterAll(async () => {
  await postgres.stop();
  await redis.stop();
});

interface Kind {
  readonly config: () => ConfigInput;
  readonly kill: () => Promise<void>;
  readonly begin: () => Promise<void>;
}

const onRedis = {
  kill: () => redis.kill(),
  begin: async () => {
    redis = await startRedis(redis);
  },
};
const KINDS: [string, Kind][] = [
  ['redis', { config: () => ({ live: { bus: 'redis', outbox: false }, redis: { url: redis.url } }), ...onRedis }],
  [
    'redis-streams',
    { config: () => ({ live: { bus: 'redis-streams', outbox: false }, redis: { url: redis.url } }), ...onRedis },
  ],
  [
    'postgres',
    {
      config: () => ({ live: { bus: 'postgres' }, database: { url: postgres.url } }),
      kill: () => postgres.crash(),
      begin: () => postgres.restart(),
    },
  ],
];

/** Rows that a session was told of, and whether it was told to read anew. */
const knows = (session: LinkWorkerSession, pk: number): boolean =>
  session.live.some(({ changes, reload }) => reload || changes.some((row) => row.pk === pk));

describe.each(KINDS)('two sidecars over %s', (_, { config, kill, begin }) => {
  const two = async () => {
    const sidecars = [await stand.sidecar(config()), await stand.sidecar(config())] as const;
    await eventually(() => sidecars.map(({ running }) => running.live.bus.state)).toEqual(['up', 'up']);
    const workers = [await stand.worker(sidecars[0], 'one'), await stand.worker(sidecars[1], 'two')] as const;
    return { sidecars, workers };
  };

  it('bring a change of either to the sessions of both, once each', async () => {
    const { sidecars, workers } = await two();
    const [here, there] = [
      await stand.subscribed(sidecars[0], [workers[0]]),
      await stand.subscribed(sidecars[1], [workers[1]]),
    ];
    await sidecars[0].running.live.bus.publish([change(1, 'created')]);
    await sidecars[1].running.live.bus.publish([change(2)]);
    for (const tab of [here, there]) {
      const pks = (): unknown[] => tab.there.live.flatMap(({ changes }) => changes.map(({ pk }) => pk));
      await eventually(() => new Set(pks())).toEqual(new Set([1, 2]));
      expect(pks()).toHaveLength(2);
      expect(tab.there.live.some(({ reload }) => reload)).toBe(false);
    }
  });

  it('bring a push of either to the browsers of both', async () => {
    const { sidecars, workers } = await two();
    const tabs = [await stand.tab(sidecars[0], [workers[0]]), await stand.tab(sidecars[1], [workers[1]])];
    const { bus } = sidecars[1].running.live;
    await bus.publishPush({
      id: `push-${Date.now()}`,
      at: Date.now(),
      to: { kind: 'all' },
      what: { kind: 'toast', text: 'Back at noon', level: 'info' },
    });
    for (const { client } of tabs) {
      await eventually(() => client.messages.filter((text) => text.includes('Back at noon'))).toHaveLength(1);
    }
  });

  it('miss nothing when the bus is killed and restarted under load', async () => {
    const { sidecars, workers } = await two();
    const tabs = [
      await stand.subscribed(sidecars[0], [workers[0]]),
      await stand.subscribed(sidecars[1], [workers[1]]),
    ] as const;
    const { bus } = sidecars[0].running.live;
    const taken: number[] = [];
    let last = 0;
    const publish = async (): Promise<void> => {
      const pk = ++last;
      await bus.publish([change(pk, 'created')]).then(
        () => taken.push(pk),
        () => undefined,
      );
    };
    for (let n = 0; n < 30; n++) await publish();
    const killing = kill();
    for (let n = 0; n < 5; n++) await publish();
    await killing;
    await begin();
    await eventually(() => sidecars.map(({ running }) => running.live.bus.state)).toEqual(['up', 'up']);
    for (let n = 0; n < 30; n++) await publish();
    expect(taken.length).toBeGreaterThanOrEqual(60);
    for (const { there } of tabs) await eventually(() => taken.filter((pk) => !knows(there, pk))).toEqual([]);
  });
});

describe('a publisher beside the sidecars', () => {
  it.each([
    ['redis', () => ({ redisUrl: redis.url })],
    ['redis-streams', () => ({ redisUrl: redis.url, bus: 'redis-streams' as const })],
    ['postgres', () => ({ databaseUrl: postgres.url })],
  ])('pushes over %s', async (kind, options) => {
    const config = new Map(KINDS).get(kind)?.config() ?? {};
    const sidecar = await stand.sidecar(config);
    const worker = await stand.worker(sidecar, 'one');
    const { client } = await stand.tab(sidecar, [worker], { token: 'tab-of-a-task' });
    const publisher = createPublisher(options());
    await publisher.push({ to: { session: 'tab-of-a-task' }, redirect: '/orders?done=1' });
    await publisher.push({ to: { session: 'tab-of-a-task' }, script: 'alert(1)' });
    await publisher.push({ to: { all: true }, toast: { text: 'Ready', level: 'success' } });
    await publisher.close();
    await eventually(() => client.messages.some((text) => text.includes('Ready'))).toBe(true);
    expect(client.messages.some((text) => text.includes('"_redirect","payload":{"path":"/orders?done=1"'))).toBe(true);
    expect(client.messages.some((text) => text.includes('alert'))).toBe(false);
    expect(sidecar.metrics.pushDeliveries.count('refused')).toBe(1);
  });
});
