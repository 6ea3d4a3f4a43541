import { io, type Socket } from 'socket.io-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { djangoCookie } from '../../tools/django-login.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv } from '../../tools/python-env.ts';
import { startDjangoConsole } from '../support/django-console.ts';
import { startShopStack, type ShopStack } from '../support/shop-stack.ts';

const STATE = 'reflex___state____state';
const ORDER = `${STATE}.shop___orders____order_state`;
const CART = `${STATE}.shop___cart____cart_state`;
const GALLERY = `${STATE}.shop___gallery____gallery_state`;
const RULES = [
  { state: 'shop.orders.*', handler: 'set_note', login: 'required' as const },
  { state: 'shop.cart.*', handler: 'clear', login: 'staff' as const },
  { state: 'shop.orders.*', handler: 'load', login: { permission: 'shop.change_product' } },
  { state: 'shop.gallery.*', handler: 'handle_upload', login: 'staff' as const },
];

interface Update {
  readonly events?: readonly { readonly name: string; readonly payload: Readonly<Record<string, unknown>> }[];
}

describe('access rules at the edge', () => {
  let stack: ShopStack;
  const clients: Socket[] = [];
  const cookies: Record<'nobody' | 'customer' | 'staff', string | undefined> = {
    nobody: undefined,
    customer: undefined,
    staff: undefined,
  };

  beforeAll(async () => {
    stack = await startShopStack({ config: { tiers: { rules: RULES } } });
    cookies.staff = await djangoCookie(stack.shop.url, 'admin', 'admin-pass');
    const django = startDjangoConsole(await pythonEnv(), { DATABASE_URL: stack.shop.databaseUrl });
    cookies.customer = `sessionid=${await django.run<string>('log_in', { username: 'demo' })}`;
    await django.stop();
    await waitUntil(async () => {
      const stats = (await (await fetch(`${stack.sidecar.admin}/api/stats`)).json()) as { links: unknown[] };
      return stats.links.length > 0;
    });
  });

  afterAll(async () => {
    for (const client of clients) client.disconnect();
    await stack?.stop();
  });

  const connect = async (cookie: string | undefined): Promise<Socket> => {
    const client = io(`${stack.sidecar.listen}/_event`, {
      path: '/_event',
      transports: ['websocket'],
      reconnection: false,
      forceNew: true,
      query: { token: `access-${clients.length}` },
      ...(cookie !== undefined && { extraHeaders: { cookie } }),
    });
    clients.push(client);
    await new Promise<void>((resolve, reject) => {
      client.once('connect', resolve);
      client.once('connect_error', reject);
    });
    return client;
  };

  const send = (client: Socket, name: string, payload: object = {}): Promise<Update> => {
    const answer = new Promise<Update>((resolve) => void client.once('event', resolve));
    client.emit('event', { name, payload, router_data: { pathname: '/order', query: {} } });
    return answer;
  };

  const ran = async (name: string): Promise<number> =>
    (await stack.events()).filter((event) => event.name === name).length;

  it('sends nobody to the login page, with the way back, and the worker sees nothing of it', async () => {
    const before = await ran(`${ORDER}.set_note`);
    const { events } = await send(await connect(cookies.nobody), `${ORDER}.set_note`, { value: 'x' });
    expect(events?.[0]).toMatchObject({ name: '_redirect', payload: { path: '/login?next=%2Forder' } });
    expect(await ran(`${ORDER}.set_note`)).toBe(before);
  });

  it('lets a customer through where a login is all that is asked', async () => {
    const update = await send(await connect(cookies.customer), `${ORDER}.set_note`, { value: 'y' });
    expect(update.events ?? []).toEqual([]);
    await expect.poll(() => ran(`${ORDER}.set_note`)).toBe(1);
  });

  it('tells a customer by a toast that staff alone may, also in the tier none', async () => {
    const { events } = await send(await connect(cookies.customer), `${CART}.clear`);
    expect(events?.[0]?.name).toBe('_call_function');
    expect(events?.[0]?.payload['function']).toContain('You may not do this.');
    expect(await ran(`${CART}.clear`)).toBe(0);
  });

  it('asks for a permission by name', async () => {
    const refused = await send(await connect(cookies.customer), `${ORDER}.load`);
    expect(refused.events?.[0]?.payload['function']).toContain('You may not do this.');
    // A superuser has them all.
    await send(await connect(cookies.staff), `${ORDER}.load`);
    await expect.poll(() => ran(`${ORDER}.load`)).toBe(1);
  });

  it.each([
    ['nobody', 401, 'login_required'],
    ['customer', 403, 'forbidden'],
  ] as const)('answers the upload of %s with %i', async (who, status, code) => {
    const form = new FormData();
    form.append('files', new Blob(['x']), 'x.png');
    const cookie = cookies[who];
    const answer = await fetch(`${stack.sidecar.listen}/_upload`, {
      method: 'POST',
      body: form,
      headers: {
        'reflex-client-token': 'access-upload',
        'reflex-event-handler': `${GALLERY}.handle_upload`,
        ...(cookie !== undefined && { cookie }),
      },
    });
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({ error: { code } });
  });

  it('leaves the rule to the worker while the sidecar cannot know the user: Django itself refuses', async () => {
    const client = await connect('sessionid=unheard-of');
    stack.shop.process.signalGroup('SIGSTOP');
    const answer = send(client, `${ORDER}.set_note`, { value: 'z' });
    try {
      // A worker that hangs answers no question: the event goes on with the rule inside its annotation.
      await waitUntil(async () => {
        const metrics = await (await fetch(`${stack.sidecar.admin}/metrics`)).text();
        return /auth_lookups_total\{where="unavailable"\} [1-9]/.test(metrics);
      });
    } finally {
      stack.shop.process.signalGroup('SIGCONT');
    }
    expect((await answer).events?.[0]).toMatchObject({ name: '_redirect' });
  });
});
