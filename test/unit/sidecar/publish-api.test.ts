import { describe, expect, it, onTestFinished } from 'vitest';
import { startAdmin } from '../../../sidecar/admin/server.ts';
import type { DeadLetters } from '../../../sidecar/compose-bus.ts';
import { memoryBus } from '../../../src/adapters/bus/memory-bus.ts';
import { meteredBus } from '../../../src/adapters/bus/metered-bus.ts';
import { prometheusMetrics } from '../../../src/adapters/metrics/index.ts';
import {
  BusUnavailableError,
  type ChangeBus,
  type Operator,
  silentLogger,
  systemClock,
} from '../../../src/ports/index.ts';
import type { Change } from '../../../src/protocol/change.ts';
import { createPublisher } from '../../../src/publisher.ts';

const KEY = 'a-key-for-tests';
const GOOD = { model: 'shop.product', action: 'updated', pk: 42 };

async function start(options: { apiKey?: string | undefined; deadLetters?: DeadLetters } = {}) {
  const metrics = prometheusMetrics();
  const parts = { clock: systemClock, logger: silentLogger, metrics };
  const inner = memoryBus(parts);
  const away = { now: false };
  const leaving = Object.create(inner, {
    publish: {
      value: (changes: Change[]) =>
        away.now ? Promise.reject(new BusUnavailableError('Redis is away: later.')) : inner.publish(changes),
    },
  }) as ChangeBus;
  const bus = meteredBus(leaving, parts);
  await bus.start(0);
  const heard: Change[] = [];
  bus.subscribe({ changes: (batch) => heard.push(...batch), gap: () => undefined });
  const live = { bus, deadLetters: options.deadLetters };
  const apiKey = 'apiKey' in options ? options.apiKey : KEY;
  // Of the operator nothing is asked here.
  const operator = { health: () => [], ready: () => true } as unknown as Operator;
  const address = { host: '127.0.0.1', port: 0 };
  const admin = await startAdmin({ address, apiKey, hosts: [] }, { operator, metrics, logger: silentLogger, live });
  onTestFinished(() => admin.close());
  const post = async (path: string, body: unknown, headers: Readonly<Record<string, string>> = {}) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const all = { authorization: `Bearer ${KEY}`, ...headers };
    const response = await fetch(admin.url + path, { method: 'POST', body: text, headers: all });
    const json = (await response.json()) as { accepted?: number; error?: { code: string; message: string } };
    return { status: response.status, json };
  };
  const publish = (body: unknown, headers?: Readonly<Record<string, string>>) => post('/api/publish', body, headers);
  return { url: admin.url, heard, away, metrics, publish, post };
}

describe('POST /api/publish', () => {
  it('takes one change or a batch, and answers once the bus has it', async () => {
    const { heard, publish, metrics } = await start();
    expect(await publish(GOOD)).toEqual({ status: 202, json: { accepted: 1 } });
    expect(await publish({ changes: [GOOD, { ...GOOD, pk: 'b', id: 'mine' }] })).toEqual({
      status: 202,
      json: { accepted: 2 },
    });
    expect(heard.map(({ pk }) => pk)).toEqual([42, 42, 'b']);
    expect(heard[2]?.id).toBe('mine');
    const text = await metrics.text();
    expect(text).toContain('bridgehead_changes_published_total{result="ok"} 3');
    expect(text).toContain('bridgehead_changes_received_total 3');
    expect(text).toContain('bridgehead_change_lag_seconds_count 2');
    expect(text).toContain('bridgehead_change_gaps_total{reason="reconnect"} 0');
  });

  it.each([
    ['{', 'bad_json', 'JSON'],
    ['', 'bad_json', 'JSON'],
    ['[]', 'bad_change', 'The body'],
    [{ ...GOOD, pk: [1, 2] }, 'bad_change', 'pk is a composite key'],
    [{ changes: [GOOD, { ...GOOD, action: 'saved' }] }, 'bad_change', 'changes[1].action'],
    [{ changes: Array.from({ length: 1_001 }, () => GOOD) }, 'bad_change', '1000'],
    [{ ...GOOD, tenant: 1 }, 'bad_change', 'tenant is not known'],
  ])('answers 400 to %.60j and names what is wrong', async (body, code, words) => {
    const { heard, publish } = await start();
    const { status, json } = await publish(body);
    expect([status, json.error?.code]).toEqual([400, code]);
    expect(json.error?.message).toContain(words);
    expect(heard).toEqual([]);
  });

  it('takes a thousand long changes, and answers 413 to a body beyond a megabyte', async () => {
    const { heard, publish } = await start();
    const pk = 'x'.repeat(255);
    const changes = Array.from({ length: 1_000 }, (_, n) => ({ ...GOOD, pk, id: `i${n}` }));
    expect(await publish({ changes })).toMatchObject({ status: 202, json: { accepted: 1_000 } });
    expect(heard).toHaveLength(1_000);
    expect(await publish(`{"model":"${'x'.repeat(1_100_000)}"}`)).toMatchObject({ status: 413 });
  });

  it('answers 401 without the key, 403 with the remedy where none is configured, 405 to GET', async () => {
    const { publish, url } = await start();
    expect(await publish(GOOD, { authorization: 'Bearer wrong' })).toMatchObject({ status: 401 });
    expect((await fetch(`${url}/api/publish`)).status).toBe(405);
    const open = await start({ apiKey: undefined });
    const refused = await open.publish(GOOD);
    expect(refused.status).toBe(403);
    expect(refused.json.error?.message).toContain('BRIDGEHEAD_API_KEY');
  });

  it('answers 503 while the bus is away, and takes the same key afterwards', async () => {
    const { away, heard, publish, metrics } = await start();
    away.now = true;
    const key = { 'idempotency-key': 'k' };
    expect(await publish(GOOD, key)).toMatchObject({ status: 503, json: { error: { code: 'bus_unavailable' } } });
    away.now = false;
    expect(await publish(GOOD, key)).toMatchObject({ status: 202 });
    expect(heard).toHaveLength(1);
    expect(await metrics.text()).toContain('bridgehead_changes_published_total{result="failed"} 1');
  });

  it('does a request with one Idempotency-Key once, also when it comes twice at once', async () => {
    const { heard, publish } = await start();
    const key = { 'idempotency-key': 'order-7' };
    const all = await Promise.all([publish(GOOD, key), publish(GOOD, key)]);
    all.push(await publish(GOOD, key));
    expect(all).toEqual(all.map(() => ({ status: 202, json: { accepted: 1 } })));
    expect(heard).toHaveLength(1);
    expect(await publish(GOOD, { 'idempotency-key': 'other' })).toMatchObject({ status: 202 });
    expect(heard).toHaveLength(2);
  });

  it('gives a repeated request the same ids in another sidecar', async () => {
    const [one, two] = [await start(), await start()];
    for (const { publish } of [one, two]) await publish(GOOD, { 'idempotency-key': 'order-7' });
    expect(one.heard[0]?.id).toBe(two.heard[0]?.id);
  });

  it('answers 422 to a key with another body, and 400 to one that is none', async () => {
    const { heard, publish } = await start();
    const key = { 'idempotency-key': 'order-7' };
    await publish(GOOD, key);
    expect(await publish({ ...GOOD, pk: 43 }, key)).toMatchObject({
      status: 422,
      json: { error: { code: 'idempotency_key_reused' } },
    });
    expect(heard).toHaveLength(1);
    for (const bad of ['with space', 'x'.repeat(256)]) {
      expect(await publish(GOOD, { 'idempotency-key': bad })).toMatchObject({ status: 400 });
    }
  });
});

describe('GET /api/tail', () => {
  async function follow(url: string): Promise<{ next(): Promise<unknown>; stop(): Promise<void> }> {
    const response = await fetch(url);
    expect(response.headers.get('content-type')).toContain('application/x-ndjson');
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    return {
      next: async () => {
        while (!text.includes('\n')) text += (await reader?.read())?.value ?? '\n';
        const [line = '', ...rest] = text.split('\n');
        text = rest.join('\n');
        return JSON.parse(line) as unknown;
      },
      stop: async () => reader?.cancel(),
    };
  }

  it('gives a line for each change of the model, from now on', async () => {
    const { publish, url } = await start();
    const [all, orders] = [await follow(`${url}/api/tail`), await follow(`${url}/api/tail?model=shop.Order`)];
    for (const tail of [all, orders]) expect(await tail.next()).toEqual({ state: 'up' });
    await publish({ changes: [GOOD, { ...GOOD, model: 'shop.order', pk: 7 }] });
    expect(await all.next()).toMatchObject({ change: GOOD });
    expect(await all.next()).toMatchObject({ change: { model: 'shop.order', pk: 7 } });
    expect(await orders.next()).toMatchObject({ change: { pk: 7 } });
    await all.stop();
    await orders.stop();
  });

  it('refuses a model that is none, and a twenty-first tail', async () => {
    const { url } = await start();
    expect((await fetch(`${url}/api/tail?model=nonsense`)).status).toBe(400);
    const tails = await Promise.all(Array.from({ length: 20 }, () => follow(`${url}/api/tail`)));
    const refused = await fetch(`${url}/api/tail`);
    expect(refused.status).toBe(503);
    expect(await refused.text()).toContain('too_many_tails');
    for (const tail of tails) await tail.stop();
    await expect.poll(async () => (await fetch(`${url}/api/tail`, { method: 'HEAD' })).status).toBe(200);
  });
});

describe('dead letters over the API', () => {
  it('are listed and replayed, and 409 on a bus without them', async () => {
    const letter = { id: '1-1', group: 'mail', entry: '0-9', tries: 5, message: '{}' };
    const letters = new Map([[letter.id, letter]]);
    const { post, url } = await start({
      deadLetters: {
        list: () => Promise.resolve([...letters.values()]),
        replay: (id) => Promise.resolve(letters.delete(id) ? 'replayed' : 'unknown'),
      },
    });
    expect(await (await fetch(`${url}/api/dead-letters`)).json()).toEqual({ deadLetters: [letter] });
    expect(await post('/api/dead-letters/1-1/replay', '')).toMatchObject({ status: 202 });
    expect(await post('/api/dead-letters/1-1/replay', '')).toMatchObject({ status: 404 });
    const groupless = await start({
      deadLetters: { list: () => Promise.resolve([letter]), replay: () => Promise.resolve('groupless') },
    });
    const { status, json } = await groupless.post('/api/dead-letters/1-1/replay', '');
    expect([status, json.error?.code]).toEqual([409, 'unknown_group']);
    expect(json.error?.message).toContain('start one of its programs');
    const without = await start();
    expect((await fetch(`${without.url}/api/dead-letters`)).status).toBe(409);
  });
});

describe('a publisher over the API', () => {
  it('publishes one change or several, integers of any size, and says why it could not', async () => {
    const { away, heard, url } = await start();
    const publisher = createPublisher({ url, apiKey: KEY });
    const large = { model: 'shop.product', action: 'updated', pk: 2n ** 60n, tags: ['tenant:acme'] } as const;
    expect(await publisher.publish(large)).toBe(1);
    expect(heard[0]?.tags).toEqual(['tenant:acme']);
    expect(await publisher.publish([1, 2].map((pk) => ({ model: 'shop.product', action: 'created', pk })))).toBe(2);
    expect(heard.map(({ pk }) => pk)).toEqual(['1152921504606846976', 1, 2]);
    await expect(publisher.publish({ model: 'shop', action: 'updated', pk: 1 })).rejects.toThrow(/^model is not/);
    away.now = true;
    await expect(publisher.publish({ model: 'a.b', action: 'updated', pk: 1 })).rejects.toBeInstanceOf(
      BusUnavailableError,
    );
    await expect(
      createPublisher({ url, apiKey: 'no' }).publish({ model: 'a.b', action: 'updated', pk: 1 }),
    ).rejects.toThrow('answers 401: Send the header');
    await publisher.close();
    const nobody = createPublisher({ url: 'http://127.0.0.1:1', apiKey: KEY });
    await expect(nobody.publish({ model: 'a.b', action: 'updated', pk: 1 })).rejects.toBeInstanceOf(
      BusUnavailableError,
    );
  });
});
