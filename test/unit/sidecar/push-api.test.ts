import { describe, expect, it, onTestFinished } from 'vitest';
import { createPublisher } from '../../../config/index.ts';
import { startAdmin } from '../../../sidecar/admin/server.ts';
import type { PushGate } from '../../../sidecar/compose-live.ts';
import { memoryBus } from '../../../src/adapters/bus/memory-bus.ts';
import { prometheusMetrics } from '../../../src/adapters/metrics/index.ts';
import { BusUnavailableError, type Operator, silentLogger, systemClock } from '../../../src/ports/index.ts';
import { PushError, type Push } from '../../../src/protocol/push.ts';

const KEY = 'a-key-for-tests';
const TOAST = { to: { all: true }, toast: 'Hello' };

async function start(options: { gate?: Partial<PushGate>; isAway?: boolean } = {}) {
  const metrics = prometheusMetrics();
  const inner = memoryBus({ clock: systemClock, logger: silentLogger });
  await inner.start(0);
  const bus = Object.create(inner, {
    publishPush: {
      value: (push: Push) =>
        options.isAway === true
          ? Promise.reject(new BusUnavailableError('Redis is away: later.'))
          : inner.publishPush(push),
    },
  }) as typeof inner;
  const heard: Push[] = [];
  bus.subscribe({ changes: () => undefined, gap: () => undefined, push: (push) => heard.push(push) });
  const pushes: PushGate = {
    rules: { allows: (name) => name.startsWith('shop.'), scripts: false },
    hasHandler: () => true,
    ...options.gate,
  };
  // Of the operator nothing is asked here.
  const operator = { health: () => [], ready: () => true } as unknown as Operator;
  const admin = await startAdmin(
    { address: { host: '127.0.0.1', port: 0 }, apiKey: KEY, hosts: [] },
    { operator, metrics, logger: silentLogger, live: { bus, deadLetters: undefined }, pushes },
  );
  onTestFinished(() => admin.close());
  const push = async (body: unknown, headers: Readonly<Record<string, string>> = {}) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const all = { authorization: `Bearer ${KEY}`, ...headers };
    const response = await fetch(`${admin.url}/api/push`, { method: 'POST', body: text, headers: all });
    const json = (await response.json()) as { accepted?: number; error?: { code: string; message: string } };
    return { status: response.status, json };
  };
  return { url: admin.url, heard, push };
}

describe('POST /api/push', () => {
  it('takes a push and answers once the bus has it', async () => {
    const { heard, push } = await start();
    expect(await push(TOAST)).toEqual({ status: 202, json: { accepted: 1 } });
    expect(
      await push({ to: { user: 42 }, event: { name: 'shop.cart.Cart.add', payload: { pk: 1 } }, id: 'mine' }),
    ).toEqual({
      status: 202,
      json: { accepted: 1 },
    });
    expect(heard).toMatchObject([
      { to: { kind: 'all' }, what: { kind: 'toast', text: 'Hello', level: 'info' } },
      { id: 'mine', to: { kind: 'user', id: '42' }, what: { name: 'shop.cart.Cart.add', payload: { pk: 1 } } },
    ]);
    expect(Math.abs((heard[0]?.at ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  it.each([
    ['{', 'bad_json', /JSON/],
    [{ to: { all: true } }, 'bad_push', /^The body does nothing\./],
    [{ to: { everybody: true }, toast: 'x' }, 'bad_push', /^to /],
    [{ ...TOAST, toast: { text: 5 } }, 'bad_push', /^toast\.text /],
    [{ to: { all: true }, redirect: 'javascript:alert(1)' }, 'bad_push', /^redirect leads away/],
    [{ to: { all: true }, redirect: '//evil.example' }, 'bad_push', /^redirect leads away/],
  ])('refuses %j', async (body, code, message) => {
    const { heard, push } = await start();
    const { status, json } = await push(body);
    expect([status, json.error?.code]).toEqual([400, code]);
    expect(json.error?.message).toMatch(message);
    expect(heard).toEqual([]);
  });

  it('says which key allows what it refuses', async () => {
    const { heard, push } = await start({ gate: { hasHandler: (name) => name === 'shop.cart.Cart.add' } });
    const refused = await push({ to: { all: true }, event: { name: 'admin.users.Users.remove' } });
    expect([refused.status, refused.json.error?.message]).toEqual([
      403,
      "event.name is not allowed: add 'admin.users.Users.remove', or a glob for it, to live.push in every sidecar.",
    ]);
    const script = await push({ to: { all: true }, script: 'alert(1)' });
    expect([script.status, script.json.error?.message]).toEqual([
      403,
      'script is not allowed: set live.scripts to true in every sidecar.',
    ]);
    const unknown = await push({ to: { all: true }, event: { name: 'shop.cart.Cart.subtract' } });
    expect([unknown.status, unknown.json.error?.message]).toEqual([
      400,
      'event.name names no handler of the app. Write module.Class.handler.',
    ]);
    expect(heard).toEqual([]);
  });

  it('lets a handler pass that nobody can know yet: another sidecar may have workers', async () => {
    const { heard, push } = await start({ gate: { hasHandler: () => undefined } });
    expect((await push({ to: { all: true }, event: { name: 'shop.cart.Cart.subtract' } })).status).toBe(202);
    expect(heard).toHaveLength(1);
  });

  it('needs the key, and a body of some size', async () => {
    const { push } = await start();
    expect((await push(TOAST, { authorization: 'Bearer wrong' })).status).toBe(401);
    expect((await push(' '.repeat(131_073))).status).toBe(413);
  });

  it('does a repeated request once, and refuses its key for another one', async () => {
    const { heard, push } = await start();
    const key = { 'idempotency-key': 'once' };
    expect((await push(TOAST, key)).status).toBe(202);
    expect((await push(TOAST, key)).status).toBe(202);
    expect((await push({ ...TOAST, toast: 'Other' }, key)).status).toBe(422);
    expect(heard).toHaveLength(1);
  });

  it('answers 503 where the bus does not take it', async () => {
    const { push } = await start({ isAway: true });
    expect(await push(TOAST)).toMatchObject({ status: 503, json: { error: { message: 'Redis is away: later.' } } });
  });
});

describe('a publisher over HTTP', () => {
  it('pushes, and tells what was refused and why', async () => {
    const { url, heard } = await start();
    const publisher = createPublisher({ url, apiKey: KEY });
    await publisher.push({ to: { group: 'editors' }, toast: { text: 'Saved', level: 'success' } });
    expect(heard).toMatchObject([
      { to: { kind: 'group', name: 'editors' }, what: { text: 'Saved', level: 'success' } },
    ]);
    await expect(publisher.push({ to: { all: true }, redirect: '//evil.example' })).rejects.toBeInstanceOf(PushError);
    await expect(publisher.push({ to: { all: true }, script: 'x' })).rejects.toThrow(
      /answers 403: script is not allowed/,
    );
    await publisher.close();
  });
});
