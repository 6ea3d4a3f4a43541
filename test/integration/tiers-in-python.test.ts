import { io, type Socket } from 'socket.io-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitUntil } from '../../tools/process.ts';
import type { ReflexVersion } from '../../tools/python-env.ts';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { djangoCookie } from '../../tools/django-login.ts';
import { startShopStack, type DebugEvent, type ShopStack } from '../support/shop-stack.ts';

const ROUTER = { pathname: '/', asPath: '/', query: {} };
const STATE = 'reflex___state____state';
const ACCOUNT =
  'reflex_django___auth_state____django_user_state.reflex_django___states____app_state.shop___account____account_state';
const RULES = [
  { state: 'shop.products.*', handler: 'set_search', tier: 'none' as const },
  { state: 'shop.cart.CartState', handler: 'change', path: '/order*', tier: 'auth_only' as const },
];

describe.each<ReflexVersion>(['0.10', '0.9'])('what reflex-django does with a tier, reflex %s', (reflex) => {
  let redis: Redis;
  let postgres: Postgres;
  let stack: ShopStack;
  let client: Socket;

  beforeAll(async () => {
    redis = await startRedis();
    postgres = await startPostgres();
    const services = { databaseUrl: postgres.url, redisUrl: redis.url };
    stack = await startShopStack({ reflex, ...services, config: { tiers: { rules: RULES } } });
    await waitUntil(isLinked, { what: 'the worker to link' });
    const cookie = await djangoCookie(stack.shop.url, 'admin', 'admin-pass');
    client = io(`${stack.sidecar.listen}/_event`, {
      path: '/_event',
      transports: ['websocket'],
      reconnection: false,
      extraHeaders: { cookie },
      query: { token: `token-of-${reflex}` },
      // Older frontends send CONNECT without an event, and a hydrate after it.
      ...(reflex === '0.10' && { auth: { event: event(`${STATE}.hydrate_and_load`) } }),
    });
    await new Promise<void>((resolve, reject) => {
      client.once('connect', resolve);
      client.once('connect_error', reject);
    });
    if (reflex === '0.9') await send('hydrate');
  });

  afterAll(async () => {
    client?.disconnect();
    await stack?.stop();
    await redis?.stop();
    await postgres?.stop();
  });

  const isLinked = async (): Promise<boolean> => {
    const stats = (await (await fetch(`${stack.sidecar.admin}/api/stats`)).json()) as { links: unknown[] };
    return stats.links.length > 0;
  };

  const event = (name: string, payload: object = {}, pathname = '/'): object => ({
    name,
    payload,
    router_data: { ...ROUTER, pathname },
  });

  const seen = async (name: string, after: number): Promise<DebugEvent> => {
    let found: DebugEvent | undefined;
    await waitUntil(
      async () => {
        found = (await stack.events()).find(
          (one) => one.number > after && one.name.endsWith(name) && one.tier !== null,
        );
        return found !== undefined;
      },
      { what: `${name} in Python` },
    );
    return found as DebugEvent;
  };

  /** Sends an event and returns what it met in Python. */
  const send = async (name: string, payload: object = {}, pathname = '/'): Promise<DebugEvent> => {
    const last = (await stack.events()).at(-1)?.number ?? 0;
    client.emit('event', event(`${STATE}.${name}`, payload, pathname));
    return seen(name, last);
  };

  it('none, by the class: no user, no query of the bridge', async () => {
    const found = await send('shop___cart____cart_state.clear');
    expect(found).toMatchObject({
      tier: 'none',
      source: 'annotation',
      annotation: 'valid',
      user: null,
      bridge_queries: 0,
    });
  });

  it('auth_only, by the class: the user of the cookie', async () => {
    const found = await send('shop___orders____order_state.set_note', { value: 'hello' });
    expect(found).toMatchObject({ tier: 'auth_only', source: 'annotation', annotation: 'valid', user: 'admin' });
  });

  it('auth_only and full ask the database nothing once the user is known', async () => {
    for (const [tier, name] of [
      ['auth_only', 'shop___orders____order_state.set_note'],
      ['full', `${ACCOUNT}.set_saved`],
    ] as const) {
      await send(name, { value: 'warm' });
      const found = await send(name, { value: 'hello' });
      expect(found).toMatchObject({ tier, user: 'admin', bridge_queries: 0, queries: 0 });
    }
  });

  it('full, by the class: the whole chain with its user', async () => {
    const found = await send(`${ACCOUNT}.load`);
    expect(found).toMatchObject({ tier: 'full', source: 'annotation', annotation: 'valid', user: 'admin' });
  });

  it('a rule lowers what the mode would make full', async () => {
    const found = await send('shop___products____product_state.set_search', { value: 'cup' });
    expect(found).toMatchObject({ tier: 'none', source: 'annotation', user: null, bridge_queries: 0 });
  });

  it('a rule with a path raises, on that page alone', async () => {
    const arguments_ = { product_id: 1, by: 1 };
    expect(await send('shop___cart____cart_state.change', arguments_, '/order')).toMatchObject({ tier: 'auth_only' });
    expect(await send('shop___cart____cart_state.change', arguments_, '/')).toMatchObject({ tier: 'none' });
  });

  it('an annotation the client made is not even seen', async () => {
    const last = (await stack.events()).at(-1)?.number ?? 0;
    const forged = { ...ROUTER, _bridgehead: 'v1.AAAAAAAA.e30.AAAA' };
    client.emit('event', { name: `${STATE}.${ACCOUNT}.load`, payload: {}, router_data: forged });
    const found = await seen(`${ACCOUNT}.load`, last);
    expect(found).toMatchObject({ tier: 'full', annotation: 'valid' });
    expect(found.router_data_keys).not.toContain('_bridgehead');
  });

  it('events born in Python get their tier from the same table', async () => {
    client.emit('event', event(`${STATE}.reflex___state____on_load_internal_state.on_load_internal`));
    await seen('product_state.load', 0);
    const born = (await stack.events()).filter(({ origin }) => origin === 'python');
    expect(born.length).toBeGreaterThan(0);
    for (const one of born) expect(one.source).toMatch(/^(rule|class|mode)$/);
  });

  it('without the sidecar the worker decides as before, and repairs _rx_bridge', async () => {
    const last = (await stack.events()).at(-1)?.number ?? 0;
    const direct = io(`${stack.shop.url}/_event`, {
      path: '/_event',
      transports: ['websocket'],
      reconnection: false,
      query: { token: `direct-${reflex}` },
    });
    await new Promise<void>((resolve) => void direct.once('connect', resolve));
    direct.emit('event', event(`${STATE}.shop___cart____cart_state.clear`));
    const found = await seen('cart_state.clear', last);
    direct.disconnect();
    expect(found).toMatchObject({ tier: 'none', source: 'class', annotation: null });
  });
});
