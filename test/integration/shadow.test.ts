import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { io, type Socket } from 'socket.io-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ConfigInput } from '../../config/index.ts';
import type { Diagnosis, HandlerDiagnosis } from '../../sidecar/doctor/diagnosis.ts';
import type { TierRule } from '../../src/ports/tiers.ts';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { checkout } from '../../tools/checkout.ts';
import { djangoCookie } from '../../tools/django-login.ts';
import { pythonEnv, type ReflexVersion } from '../../tools/python-env.ts';
import { startShop, type Shop } from '../../tools/shop.ts';
import { startComposed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient } from '../support/link-client.ts';
import { acknowledgeConnect, startRecordingWorker } from '../support/recording-worker.ts';
import type { DebugEvent } from '../support/shop-stack.ts';

const STATE = 'reflex___state____state';
const APP_STATE = `${STATE}.reflex_django___auth_state____django_user_state.reflex_django___states____app_state`;
const CART = `${STATE}.shop___cart____cart_state`;
const PRODUCTS = `${STATE}.shop___products____product_state`;
const ORDERS = `${STATE}.shop___orders____order_state`;
const ACCOUNT = `${APP_STATE}.shop___account____account_state`;
const CLASSES: Readonly<Record<string, string>> = {
  [CART]: 'shop.cart.CartState',
  [PRODUCTS]: 'shop.products.ProductState',
  [ORDERS]: 'shop.orders.OrderState',
  [ACCOUNT]: 'shop.account.AccountState',
};

/** Right for the products, wrong for most of the rest. */
const RULES: readonly TierRule[] = [
  { state: 'shop.products.*', tier: 'none' },
  { state: 'shop.orders.OrderState', tier: 'none' },
  { state: 'shop.account.*', handler: 'load', tier: 'none' },
  { state: 'shop.account.*', tier: 'auth_only' },
];

/** Every handler that the visitor calls, with its arguments. */
const VISIT: readonly (readonly [string, object])[] = [
  [`${CART}.set_open`, { value: true }],
  [`${CART}.add`, { product_id: 1 }],
  [`${PRODUCTS}.set_search`, { value: 'cup' }],
  [`${PRODUCTS}.set_search`, { value: '' }],
  [`${PRODUCTS}.set_category`, { value: 'All' }],
  [`${ORDERS}.load`, {}],
  [`${ORDERS}.set_note`, { value: 'ring twice' }],
  [`${ACCOUNT}.load`, {}],
  [`${ACCOUNT}.set_saved`, { value: '' }],
  [`${ACCOUNT}.save`, { form: { first_name: 'Ada', email: 'ada@example.com' } }],
];

const OWN_TIERS = ['none', 'none', 'full', 'full', 'full', 'auth_only', 'auth_only', 'full', 'full', 'full'];

describe.each<ReflexVersion>(['0.10', '0.9'])('a shadow over the shop, reflex %s', (reflex) => {
  const secret = randomBytes(32).toString('base64url');
  let folder: string;
  let shop: Shop;
  let cookie: string;
  let sidecar: BridgeheadProcess | undefined;
  let visits = 0;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bridgehead-shadow-'));
    // A socket, since the worker dials on while there is no sidecar: a port could be taken in the meantime.
    const env = { BRIDGEHEAD_SECRET: secret, BRIDGEHEAD_LINK_URL: `unix:${folder}/link` };
    shop = await startShop({ python: await pythonEnv({ reflex }), debug: true, env });
    cookie = await djangoCookie(shop.url, 'admin', 'admin-pass');
  });

  afterAll(async () => {
    await sidecar?.stop();
    await shop?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** The sidecar anew, with these tiers; resolves when the worker is linked. */
  const start = async (tiers: ConfigInput['tiers'], sessions = false): Promise<BridgeheadProcess> => {
    await sidecar?.stop();
    const link = { listen: `unix:${folder}/link`, sessions };
    const started = await startBridgehead({ settings: { backends: [shop.url], secret, tiers, link } });
    sidecar = started;
    await eventually(async () => {
      const stats = (await (await fetch(`${started.adminUrl}/api/stats`)).json()) as { links: unknown[] };
      return stats.links.length;
    }).toBe(1);
    return started;
  };

  const events = async (since: number): Promise<DebugEvent[]> => {
    const answer = await fetch(`${shop.url}/debug/events?since=${since}`);
    return ((await answer.json()) as { events: DebugEvent[] }).events;
  };

  /** The whole visit, one event after the other; resolves with what each met in Python. */
  const visit = async (url: string): Promise<DebugEvent[]> => {
    const before = (await events(0)).at(-1)?.number ?? 0;
    const client: Socket = io(`${url}/_event`, {
      path: '/_event',
      transports: ['websocket'],
      reconnection: false,
      extraHeaders: { cookie },
      query: { token: `token-${reflex}-${visits++}` },
    });
    const send = async (name: string, payload: object): Promise<DebugEvent> => {
      const last = (await events(before)).at(-1)?.number ?? before;
      client.emit('event', { name, payload, router_data: { pathname: '/', asPath: '/', query: {} } });
      const find = async (): Promise<DebugEvent | undefined> =>
        (await events(last)).find((one) => one.name === name && one.tier !== null);
      await eventually(find).toBeDefined();
      return (await find()) as DebugEvent;
    };
    const met: DebugEvent[] = [];
    try {
      await new Promise<void>((resolve, reject) => void client.once('connect', resolve).once('connect_error', reject));
      await send(`${STATE}.hydrate`, {});
      for (const [name, payload] of VISIT) met.push(await send(name, payload));
    } finally {
      client.disconnect();
    }
    return met;
  };

  /** What an event met, without what differs from run to run. */
  const facts = ({
    name,
    tier,
    source,
    origin,
    user,
    bridge_queries,
    queries,
    router_data_keys,
  }: DebugEvent): object => ({
    name,
    tier,
    source,
    origin,
    user,
    bridge_queries,
    queries,
    router_data_keys,
  });

  const doctor = async (): Promise<{ code: number | null; diagnosis: Diagnosis }> => {
    const cli = join(checkout, 'sidecar', 'cli.ts');
    const url = sidecar?.adminUrl ?? '';
    return new Promise((resolve, reject) => {
      const process_ = execFile(process.execPath, [cli, 'doctor', '--url', url, '--json'], (_error, stdout, stderr) => {
        if (stdout === '') reject(new Error(stderr));
        else resolve({ code: process_.exitCode, diagnosis: JSON.parse(stdout) as Diagnosis });
      });
    });
  };

  /** As above, once all events of one visit were told. */
  const doctorAfterVisit = async (): Promise<{ code: number | null; diagnosis: Diagnosis }> => {
    const told = async (): Promise<number> => {
      const { diagnosis } = await doctor();
      return diagnosis.handlers
        .filter(({ state }) => state.startsWith('shop.'))
        .reduce((sum, handler) => sum + handler.events, 0);
    };
    await eventually(told, { interval: 250 }).toBe(VISIT.length);
    return doctor();
  };

  const of = ({ handlers }: Diagnosis, state: string, handler: string): HandlerDiagnosis =>
    handlers.find((one) => one.state === state && one.handler === handler) as HandlerDiagnosis;

  const lowest: Readonly<Record<string, string>> = {
    [`${CART}.set_open`]: 'none',
    [`${CART}.add`]: 'none',
    [`${PRODUCTS}.set_search`]: 'none',
    [`${PRODUCTS}.set_category`]: 'none',
    [`${ORDERS}.load`]: 'auth_only',
    [`${ORDERS}.set_note`]: 'none',
    [`${ACCOUNT}.load`]: 'auth_only',
    [`${ACCOUNT}.set_saved`]: 'none',
    [`${ACCOUNT}.save`]: 'full',
  };

  it('changes nothing, names every event that wrong rules would break, and advises rules that break none', async () => {
    // Connected to the worker itself: the app's own tiers.
    const own = (await visit(shop.url)).map(facts);
    expect(own.map((one) => (one as DebugEvent).tier)).toEqual(OWN_TIERS);

    await start({ rules: RULES, shadow: true });
    expect((await visit(sidecar?.url ?? '')).map(facts)).toEqual(own);
    const wrong = await doctorAfterVisit();
    expect(wrong.code).toBe(1);
    expect(wrong.diagnosis).toMatchObject({ ok: false, shadow: true, workers: { linked: 1, reporting: 1 }, wrong: 3 });
    expect(of(wrong.diagnosis, 'shop.orders.OrderState', 'load').wrong).toEqual([
      { tier: 'none', by: 'tiers.rules[1]', missing: ['user'], events: 1 },
    ]);
    expect(of(wrong.diagnosis, 'shop.account.AccountState', 'load').wrong).toMatchObject([
      { tier: 'none', by: 'tiers.rules[2]', events: 1 },
    ]);
    expect(of(wrong.diagnosis, 'shop.account.AccountState', 'load').wrong[0]?.missing).toEqual(
      expect.arrayContaining(['user', 'session', 'session.write']),
    );
    expect(of(wrong.diagnosis, 'shop.account.AccountState', 'save').wrong).toEqual([
      { tier: 'auth_only', by: 'tiers.rules[3]', missing: ['messages'], events: 1 },
    ]);
    const search = of(wrong.diagnosis, 'shop.products.ProductState', 'set_search');
    expect(search).toMatchObject({ events: 2, now: ['full'], rules: ['none'], lowest: 'none', wrong: [] });
    // The session and its user, twice.
    expect(search.saved.byRules?.queries).toBe(4);
    expect(search.saved.byLowest?.milliseconds).toBeGreaterThan(0);
    for (const [name] of VISIT) {
      const dot = name.lastIndexOf('.');
      const found = of(wrong.diagnosis, CLASSES[name.slice(0, dot)] ?? '', name.slice(dot + 1));
      expect([name, found.lowest]).toEqual([name, lowest[name]]);
    }

    // Started anew with the rules that it printed, and with sessions that come over the worker's link.
    const { rules } = wrong.diagnosis.advised;
    await start({ rules, shadow: true }, true);
    expect((await visit(sidecar?.url ?? '')).map(facts)).toEqual(own);
    const right = await doctorAfterVisit();
    expect(right.diagnosis).toMatchObject({ ok: true, wrong: 0, advised: { changed: false } });
    expect(right.code).toBe(0);

    // And in force: the tiers are those advised, and the user is there where it is needed.
    await start({ rules });
    const forced = await visit(sidecar?.url ?? '');
    expect(forced.map(({ name, tier }) => [name, tier])).toEqual(VISIT.map(([name]) => [name, lowest[name]]));
    for (const { tier, user } of forced) expect(user).toBe(tier === 'none' ? null : 'admin');
    expect(await doctor()).toMatchObject({ code: 0, diagnosis: { ok: true, findings: [{ id: 'shadow-off' }] } });
  });
});

describe('a sidecar in shadow', () => {
  const SECRET = 'secret-of-these-tests-that-must-not-be-logged';
  const stops: (() => unknown)[] = [];
  afterEach(async () => {
    for (const stop of stops.splice(0).toReversed()) await stop();
  });

  const CLIENT = [
    '40/_event,{"event":{"name":"root.hydrate_and_load","payload":{},"router_data":{"pathname":"/"}}}',
    '42/_event,["event",{"name":"root.cart.add","payload":{"n":1.0,"id":9007199254740993},"router_data":{"pathname":"/pay"}}]',
    '42/_event,["event",{ "name":"root.order.place", "payload":{} }]',
    '42/_event,["event",{"name":"root.unknown.thing","payload":{},"router_data":{}}]',
    '42/_event,["ping"]',
  ] as const;

  /** What the worker gets and the client is answered when these messages pass a sidecar with these tiers. */
  const passed = async (tiers: ConfigInput['tiers']): Promise<{ worker: unknown; client: unknown }> => {
    const worker = await startRecordingWorker({
      onFrame: (session, frame) => {
        acknowledgeConnect(session, frame);
        session.socket.send(`42/_event,["event",{"delta":{"x":${frame.length}}}]`);
      },
    });
    stops.push(() => worker.stop());
    const sidecar = await startComposed({
      name: 'shop',
      secret: SECRET,
      backends: [worker.url],
      link: { sessions: false },
      ...(tiers && { tiers }),
    });
    stops.push(() => sidecar.stop());
    if (tiers !== undefined) {
      const link = await LinkClient.link(sidecar.running.addresses.link ?? '', SECRET);
      stops.push(() => link.end());
      await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
    }
    const client = await EngineClient.open(sidecar.url, { token: 'token', headers: { cookie: 'sessionid=x' } });
    // In order: a connection that is lost would be waited for.
    stops.push(() => client.socket.close());
    for (const message of CLIENT) client.send(message);
    await eventually(() => worker.texts().length).toBe(CLIENT.length);
    await eventually(() => client.messages.length).toBe(CLIENT.length + 1);
    return { worker: worker.texts(), client: client.messages };
  };

  it('forwards byte for byte what it forwards without rules, and refuses nobody', async () => {
    const without = await passed(undefined);
    const rules: TierRule[] = [
      { state: 'shop.cart.*', tier: 'none', login: 'staff' },
      { state: 'shop.order.*', login: { permission: 'shop.add_order' } },
      { path: '/pay*', tier: 'full' },
    ];
    expect(await passed({ rules, mode: 'smart', shadow: true })).toEqual(without);
    expect(without.worker).toEqual(CLIENT);
  });
});
