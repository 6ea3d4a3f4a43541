import { afterEach, describe, expect, it } from 'vitest';
import { configSchema, type ConfigInput } from '../../config/schema.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import { sessionHash } from '../../src/protocol/keys.ts';
import { startRedis } from '../../tools/services/redis.ts';
import type { Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorker } from '../support/link-worker.ts';
import { event, LiveStand, type Tab } from '../support/live-stand.ts';
import { answerUsers, byName, type Answering } from '../support/user-answers.ts';

const SECRET = 'a secret of more than thirty-two bytes, for tests';
const stand = new LiveStand();
const stops: (() => unknown)[] = [];
afterEach(async () => {
  await stand.end();
  for (const stop of stops.splice(0).toReversed()) await stop();
});

const CONFIG: ConfigInput = { auth: { source: 'companion', cache: { ttl: 3_600 } } };
const ORDER = { name: 'root.order.place' };

async function linked(
  sidecar: Composed,
  instance: string,
  answering?: Answering,
  manifest: object = {},
): Promise<LinkWorker> {
  const worker = await stand.worker(sidecar, instance, { auth: true, ...manifest });
  answerUsers(worker.client, answering);
  return worker;
}

/** How often a source was asked for the users of events. */
const asked = (sidecar: Composed): number => sidecar.metrics.authLookups.count('source');

let events = 0;

/** Sends an event, and waits until the worker has it; gives the annotation's claims. */
async function act(tab: Tab, name = ORDER.name): Promise<{ u?: { id: string } | null; r?: unknown }> {
  const n = 1_000 + ++events;
  tab.client.send(event(n, { name }));
  await eventually(() => tab.there.texts.some((text) => text.includes(`"n":${n}`))).toBe(true);
  const text = tab.there.texts.find((one) => one.includes(`"n":${n}`)) ?? '';
  const payload = /"_bridgehead":"v1\.[^.]+\.([^.]+)\./.exec(text)?.[1] ?? '';
  return JSON.parse(Buffer.from(payload, 'base64url').toString()) as { u?: { id: string } | null };
}

describe('users without a Redis bus', () => {
  it('are forgotten when a worker is cut off, and again when it is back, but not when it says goodbye', async () => {
    const sidecar = await stand.sidecar(CONFIG);
    const one = await linked(sidecar, 'one');
    const two = await linked(sidecar, 'two');
    const tab = await stand.tab(sidecar, [one, two], { cookie: 'sessionid=ann.1' });
    expect((await act(tab)).u?.id).toBe('ann');
    await act(tab);
    expect(asked(sidecar)).toBe(1);
    const other = tab.there === one.sessions[0] ? two : one;
    const name = other === one ? 'one' : 'two';
    other.client.end();
    await eventually(() => sidecar.running.operator.stats().links).toHaveLength(1);
    expect((await act(tab)).u?.id).toBe('ann');
    expect(asked(sidecar)).toBe(2);
    expect(sidecar.log()).toContain('a worker is cut off');
    const back = await linked(sidecar, name);
    await act(tab);
    await act(tab);
    expect(asked(sidecar)).toBe(3);
    back.client.send(LinkFrame.goaway, { reason: 'restart' });
    await eventually(() => sidecar.running.operator.stats().links).toHaveLength(1);
    await act(tab);
    expect(asked(sidecar)).toBe(3);
  });
});

describe('an invalidation', () => {
  it('that comes over the links of two sidecars and over Redis is heard once by each', async () => {
    const redis = await startRedis();
    stops.push(() => redis.stop());
    const config: ConfigInput = { ...CONFIG, redis: { url: redis.url }, live: { bus: 'memory' } };
    const sidecars = [await stand.sidecar(config), await stand.sidecar(config)];
    const workers: LinkWorker[] = [];
    const tabs: Tab[] = [];
    for (const [n, sidecar] of sidecars.entries()) {
      const worker = await linked(sidecar, `worker-${n}`);
      workers.push(worker);
      tabs.push(await stand.tab(sidecar, [worker], { cookie: `sessionid=ann.${n}` }));
    }
    const counts = (): number[] => sidecars.map(asked);
    for (const tab of tabs) await act(tab);
    expect(counts()).toEqual([1, 1]);
    const body = { id: 'only-once', user: 'auth.user:ann' };
    workers[0]?.client.send(LinkFrame.invalidate, body);
    await eventually(async () => {
      for (const tab of tabs) await act(tab);
      return counts().every((count) => count > 1);
    }).toBe(true);
    const before = counts();
    // The same once more, over the other link.
    workers[1]?.client.send(LinkFrame.invalidate, body);
    workers[1]?.client.send(LinkFrame.ping, { t: 1 });
    await workers[1]?.client.until(LinkFrame.pong);
    for (const tab of tabs) await act(tab);
    expect(counts()).toEqual(before);
    workers[1]?.client.send(LinkFrame.invalidate, { ...body, id: 'another' });
    await eventually(async () => {
      for (const tab of tabs) await act(tab);
      return counts().every((count, n) => count > (before[n] ?? 0));
    }).toBe(true);
  });

  it('of a session is by the hash of the cookie that the app names, and of a user by a key that may be text', async () => {
    const answering: Answering = (cookie) => {
      const user = { m: 'members.member', id: 'ä:b@example.test', b: 'backend', h: 'hash', f: { is_active: true } };
      return cookie === 'key-of-ann' ? { kind: 'user', user, permissions: [] } : { kind: 'anonymous' };
    };
    const sidecar = await stand.sidecar(CONFIG);
    const worker = await linked(sidecar, 'one', answering, { cookie: 'shop_session' });
    const tab = await stand.tab(sidecar, [worker], { cookie: 'sessionid=other; shop_session=key-of-ann' });
    expect((await act(tab)).u?.id).toBe('ä:b@example.test');
    for (const what of [{ user: 'members.member:ä:b@example.test' }, { session: sessionHash('key-of-ann') }]) {
      const before = asked(sidecar);
      await act(tab);
      expect(asked(sidecar)).toBe(before);
      worker.client.send(LinkFrame.invalidate, { id: JSON.stringify(what), ...what });
      expect((await act(tab)).u?.id).toBe('ä:b@example.test');
      expect(asked(sidecar)).toBe(before + 1);
    }
    worker.client.send(LinkFrame.invalidate, { id: 'x', session: sessionHash('other') });
    const before = asked(sidecar);
    await act(tab);
    expect(asked(sidecar)).toBe(before);
  });

  it('are of the model that a worker tells, else of the configured one', async () => {
    const sidecar = await stand.sidecar({ auth: { source: 'companion', django: { userModel: 'shop.Member' } } });
    const { operator } = sidecar.running;
    expect(operator.userModel()).toBe('shop.member');
    const worker = await linked(sidecar, 'one', byName, { user: { model: 'people.person', own: [] } });
    await eventually(() => operator.userModel()).toBe('people.person');
    worker.client.end();
    await eventually(() => operator.stats().links).toEqual([]);
    await linked(sidecar, 'two');
    expect(operator.userModel()).toBe('people.person');
  });

  it("reads the configured cookie before the app's own", async () => {
    const sidecar = await stand.sidecar({ auth: { source: 'companion', cookie: 'edge_session' } });
    const worker = await linked(sidecar, 'one', byName, { cookie: 'shop_session' });
    const tab = await stand.tab(sidecar, [worker], { cookie: 'shop_session=ben.1; edge_session=ann.1' });
    expect((await act(tab)).u?.id).toBe('ann');
    expect(worker.client.of(LinkFrame.authQuery).map(({ body }) => body['cookie'])).toEqual(['ann.1']);
  });
});

describe('a reload with a rule that names another permission', () => {
  const rules = (permission: string): ConfigInput => ({
    ...CONFIG,
    secret: SECRET,
    tiers: { rules: [{ state: 'shop.order.*', login: { permission } }] },
  });

  it('refuses nobody for what was found before', async () => {
    const sidecar = await stand.sidecar(rules('shop.view'));
    const granted = new Map([['shop.view', true]]);
    let worker: LinkWorker | undefined;
    // As the companion does: of those that the last rules name, the ones the user has.
    const answering: Answering = (cookie) => {
      const named = worker?.client.of(LinkFrame.rules).at(-1)?.body['permissions'] as string[];
      return { ...byName(cookie), permissions: named.filter((name) => granted.get(name)), asked: named };
    };
    worker = await linked(sidecar, 'one', answering);
    const tab = await stand.tab(sidecar, [worker], { cookie: 'sessionid=ann.1' });
    expect((await act(tab)).u?.id).toBe('ann');
    granted.set('shop.sell', true);
    sidecar.running.reload(configSchema.parse(rules('shop.sell')));
    await worker.client.until(LinkFrame.rules, 2);
    expect((await act(tab)).u?.id).toBe('ann');
    expect(asked(sidecar)).toBe(2);
  });

  it('leaves to the worker what the worker was asked for by a sidecar with other rules', async () => {
    const sidecar = await stand.sidecar(rules('shop.view'));
    const worker = await linked(sidecar, 'one', (cookie) => ({ ...byName(cookie), asked: ['shop.sell'] }));
    const tab = await stand.tab(sidecar, [worker], { cookie: 'sessionid=ann.1' });
    const { u, r } = await act(tab);
    expect([u?.id, [r].flat()]).toEqual(['ann', [{ permission: 'shop.view' }]]);
  });
});

describe.each(['keep', 'reconnect'] as const)('a user who loses access, with auth.revoked %s', (revoked) => {
  it('keeps the tabs of everybody else, and its own where the option says so', async () => {
    const config: ConfigInput = { auth: { source: 'companion', revoked }, sessionRetention: 0 };
    const sidecar = await stand.sidecar(config);
    const gone = new Set<string>();
    const staff = new Set(['cara']);
    const answering: Answering = (cookie) => {
      const name = cookie.split('.')[0] ?? '';
      const user = { m: 'auth.user', id: name, b: 'b', h: 'h', f: { is_active: true, is_staff: staff.has(name) } };
      return gone.has(name) ? { kind: 'anonymous' } : { kind: 'user', user, permissions: [] };
    };
    const worker = await linked(sidecar, 'one', answering);
    const tabs = {
      ann: await stand.tab(sidecar, [worker], { cookie: 'sessionid=ann.1' }),
      ben: await stand.tab(sidecar, [worker], { cookie: 'sessionid=ben.1' }),
      cara: await stand.tab(sidecar, [worker], { cookie: 'sessionid=cara.1' }),
    };
    for (const tab of Object.values(tabs)) await act(tab);
    const closed = (): string[] => Object.entries(tabs).flatMap(([name, tab]) => (tab.client.closed ? [name] : []));
    // Saved, and nothing of it changes what they may.
    for (const name of ['ann', 'ben', 'cara']) {
      worker.client.send(LinkFrame.invalidate, { id: `saved ${name}`, user: `auth.user:${name}` });
    }
    for (const tab of Object.values(tabs)) await act(tab);
    gone.add('ann');
    worker.client.send(LinkFrame.invalidate, { id: 'ann is gone', user: 'auth.user:ann' });
    staff.delete('cara');
    worker.client.send(LinkFrame.invalidate, { id: 'everybody', all: true });
    if (revoked === 'reconnect') {
      await eventually(closed).toEqual(['ann', 'cara']);
      expect(sidecar.running.operator.stats().sessions).toBe(1);
      await act(tabs.ben);
    } else {
      for (const tab of Object.values(tabs)) await act(tab);
      expect((await act(tabs.ann)).u).toBeNull();
      expect(closed()).toEqual([]);
    }
  });
});
