import { afterEach, describe, expect, it } from 'vitest';
import type { ConfigInput } from '../../config/schema.ts';
import { startRedis, type Redis } from '../../tools/services/index.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient, MANIFEST } from '../support/link-client.ts';
import { acknowledgeConnect, startRecordingWorker } from '../support/recording-worker.ts';
import { answerUsers } from '../support/user-answers.ts';

const SECRET = 'secret-of-these-tests-of-shared-rates';
const RATE = 100;
const BURST = 2 * RATE;
/** Each sidecar may run ahead of its first lease by a twentieth of a second's events; the rest is rounding. */
const CREDIT = RATE / 20;
const SLACK = 1.1;

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

interface Pair {
  readonly redis: Redis;
  readonly sidecars: readonly Composed[];
  /** When each event of a client whose token begins so arrived at a worker. Milliseconds. */
  readonly arrivals: (token: string) => readonly number[];
  readonly client: (sidecar: number, who: { token: string; user?: string; address?: string }) => Promise<EngineClient>;
}

/** Two sidecars on one Redis, each with a worker of its own that can tell who a cookie is. */
async function start(limits: ConfigInput['limits']): Promise<Pair> {
  const redis = await startRedis();
  stops.push(() => redis.stop());
  const times = new Map<string, number[]>();
  const sidecars: Composed[] = [];
  for (let n = 0; n < 2; n++) {
    const worker = await startRecordingWorker({
      onFrame: (session, frame) => {
        acknowledgeConnect(session, frame);
        if (!frame.toString().startsWith('42')) return;
        const token = new URL(session.target, 'http://worker').searchParams.get('token') ?? '';
        times.set(token, [...(times.get(token) ?? []), performance.now()]);
      },
    });
    stops.push(() => worker.stop());
    const sidecar = await startComposed({
      secret: SECRET,
      backends: [worker.url],
      redis: { url: redis.url },
      limits: { eventsPerSecond: 0, ...limits },
    });
    stops.push(() => sidecar.stop());
    const link = await LinkClient.link(sidecar.running.addresses.link ?? '', SECRET, { ...MANIFEST, auth: true });
    stops.push(() => link.end());
    answerUsers(link);
    await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
    await eventually(() => sidecar.running.operator.health().find(({ name }) => name === 'redis')?.state).toBe('up');
    sidecars.push(sidecar);
  }
  return {
    redis,
    sidecars,
    arrivals: (token) => [...times].flatMap(([key, found]) => (key.startsWith(token) ? found : [])).toSorted(byTime),
    client: async (sidecar, { token, user = 'nobody', address = '192.0.2.1' }) => {
      const headers = { cookie: `sessionid=${user}.${token}`, 'x-forwarded-for': address };
      const client = await EngineClient.open(sidecars[sidecar]?.url ?? '', { token, headers });
      stops.push(() => client.end());
      await client.connect();
      return client;
    },
  };
}

const byTime = (left: number, right: number): number => left - right;

function send(client: EngineClient, count: number): void {
  for (let n = 0; n < count; n++) client.send(`42/_event,["event",{"name":"root.note.save","payload":{"n":${n}}}]`);
}

/** Whether no more came than the rate lets through by each moment; slow machines only make it less. */
function expectWithinBudget(times: readonly number[], begun: number, sidecars: number, extra = 0): void {
  for (const [index, time] of times.entries()) {
    const allowed = (BURST + (RATE * (time - begun)) / 1000) * SLACK + sidecars * CREDIT + extra;
    expect(index + 1, `after ${Math.round(time - begun)} ms`).toBeLessThanOrEqual(allowed);
  }
}

const EACH = 250;

describe('a rate that two sidecars share', () => {
  it.each([
    [
      'address',
      { addressEventsPerSecond: RATE },
      (n: number) => ({ token: `same-${n}`, user: `user${n}` }),
      { token: 'other', address: '192.0.2.2' },
    ],
    [
      'user',
      { userEventsPerSecond: RATE },
      (n: number) => ({ token: `same-${n}`, user: 'ann', address: `192.0.2.${n}` }),
      { token: 'other', user: 'ben' },
    ],
  ] as const)(
    'holds for one %s over both, loses nothing, and holds nobody else up',
    async (_what, limits, who, another) => {
      const { client, arrivals } = await start(limits);
      const clients = [await client(0, who(0)), await client(1, who(1))];
      const other = await client(0, another);
      const begun = performance.now();
      for (const one of clients) send(one, EACH);
      send(other, 50);
      await eventually(() => arrivals('other').length).toBe(50);
      await eventually(() => arrivals('same').length, { interval: 50 }).toBe(2 * EACH);
      // CONNECT counts like an event, and a session's first event tells whose it is.
      expectWithinBudget(arrivals('same'), begun, 2, 2);
    },
  );

  it('is each sidecar’s own while Redis is gone: events flow on', async () => {
    const { client, arrivals, redis, sidecars } = await start({ addressEventsPerSecond: RATE });
    const clients = [await client(0, { token: 'same-0' }), await client(1, { token: 'same-1' })];
    for (const one of clients) send(one, 50);
    await eventually(() => arrivals('same').length).toBe(100);
    await redis.stop();
    const begun = performance.now();
    for (const one of clients) send(one, EACH);
    await eventually(() => arrivals('same').length, { interval: 50 }).toBe(100 + 2 * EACH);
    for (const token of ['same-0', 'same-1']) expectWithinBudget(arrivals(token).slice(50), begun, 1);
    for (const { running, metrics } of sidecars) {
      expect(metrics.losses.total()).toBe(0);
      await eventually(() => running.operator.health().find(({ name }) => name === 'redis')?.state).toBe('down');
    }
  });
});
