import { randomBytes, randomUUID } from 'node:crypto';
import { io, type Socket } from 'socket.io-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ConfigInput } from '../../config/index.ts';
import { djangoCookie } from '../../tools/django-login.ts';
import { freePorts } from '../../tools/ports.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv } from '../../tools/python-env.ts';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { startShop, type Shop } from '../../tools/shop.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import { connectTo, installOutbox } from '../support/outbox.ts';

const ROOT = 'reflex___state____state';
const PRODUCTS = `${ROOT}.shop___products____product_state`;
const SECRET = randomBytes(32).toString('base64url');

interface Product {
  readonly name: string;
  readonly stock: number;
}

interface Update {
  readonly delta?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** A tab that shows the product list. */
class Shelf {
  products: readonly Product[] = [];
  isClosed = false;
  toasts = 0;
  readonly #socket: Socket;

  constructor(url: string) {
    this.#socket = io(`${url}/_event`, {
      path: '/_event',
      transports: ['websocket'],
      reconnection: false,
      query: { token: randomUUID() },
    });
    this.#socket.on('disconnect', () => (this.isClosed = true));
    this.#socket.on('event', (update: Update) => {
      const rows = update.delta?.[PRODUCTS]?.['live_rows_rx_state_'];
      if (rows !== undefined) this.products = rows as readonly Product[];
      if (JSON.stringify(update).includes('__toast')) this.toasts++;
    });
    this.send(`${ROOT}.hydrate`);
    this.send(`${PRODUCTS}.load`);
  }

  send(name: string, payload: object = {}): void {
    this.#socket.emit('event', { name, payload, router_data: { pathname: '/', asPath: '/', query: {} } });
  }

  /** `name: stock` of every product, sorted. */
  get stocks(): string[] {
    return stocksOf(this.products);
  }

  close(): void {
    this.#socket.disconnect();
  }
}

function stocksOf(products: readonly Product[]): string[] {
  return products.map(({ name, stock }) => `${name}: ${stock}`).toSorted();
}

let stateRedis: Redis;
let busRedis: Redis;
let postgres: Postgres;
let linkPorts: readonly number[];
const workers: Shop[] = [];
const sidecars: Composed[] = [];
const shelves: Shelf[] = [];

async function startWorker(): Promise<void> {
  const [first] = workers;
  const started = await startShop({
    python: await pythonEnv(),
    databaseUrl: postgres.url,
    redisUrl: stateRedis.url,
    prepare: first === undefined,
    env: {
      BRIDGEHEAD_SECRET: SECRET,
      BRIDGEHEAD_NAME: 'default',
      BRIDGEHEAD_LINK_URL: linkPorts.map((port) => `tcp://127.0.0.1:${port}`).join(','),
    },
  });
  workers.push(started);
}

async function sql(text: string): Promise<readonly object[]> {
  const client = await connectTo(postgres.url);
  try {
    return (await client.query<object>(text)).rows;
  } finally {
    await client.end();
  }
}

/** What every list must show. */
async function truth(): Promise<string[]> {
  return stocksOf((await sql('SELECT name, stock FROM shop_product')) as readonly Product[]);
}

async function allShowTheTruth(): Promise<void> {
  const expected = await truth();
  for (const shelf of shelves) await eventually(() => shelf.stocks).toEqual(expected);
}

/** Two sidecars over this bus, linked with every worker, and two tabs at each. */
async function open(config: ConfigInput): Promise<void> {
  for (const port of linkPorts) {
    const whole: ConfigInput = {
      secret: SECRET,
      backends: workers.map(({ url }) => url),
      auth: { source: 'none' },
      link: { listen: `127.0.0.1:${port}` },
      database: { url: postgres.url },
      ...config,
    };
    sidecars.push(await startComposed(whole));
  }
  for (const { running } of sidecars) {
    await eventually(() => running.operator.stats().links.length).toBe(workers.length);
    await eventually(() => running.live.bus.state).toBe('up');
    await eventually(() =>
      running.operator.health().every(({ name, state }) => name !== 'outbox' || state === 'up'),
    ).toBe(true);
  }
  for (const { url } of [...sidecars, ...sidecars]) shelves.push(new Shelf(url));
  for (const shelf of shelves) await eventually(() => shelf.products.length).toBeGreaterThan(0);
}

/** Changes rows by SQL, one after the other, until told to stop. */
function writing(): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const run = async (): Promise<void> => {
    for (let n = 0; !stopping.signal.aborted; n++) {
      const text = `UPDATE shop_product SET stock = stock + 1 WHERE id % 4 = ${n % 4}`;
      // The database may be what is down.
      await sql(text).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const running = run();
  return {
    stop: async () => {
      stopping.abort();
      await running;
    },
  };
}

beforeAll(async () => {
  [stateRedis, busRedis, postgres] = await Promise.all([startRedis(), startRedis(), startPostgres()]);
  linkPorts = await freePorts(2);
  await startWorker();
  await startWorker();
  const client = await connectTo(postgres.url);
  await installOutbox(client);
  await client.query("SELECT bridgehead_track('shop_product', 'shop.product')");
  await client.end();
});

afterEach(async () => {
  for (const shelf of shelves.splice(0)) shelf.close();
  for (const sidecar of sidecars.splice(0)) await sidecar.stop();
});

afterAll(async () => {
  for (const worker of workers) await worker.stop();
  await Promise.all([postgres?.stop(), busRedis?.stop(), stateRedis?.stop()]);
});

interface Bus {
  readonly config: () => ConfigInput;
  readonly kill: () => Promise<void>;
  readonly begin: () => Promise<void>;
  /** The bus is the database itself. */
  readonly isDatabase: boolean;
}

const onRedis = {
  isDatabase: false,
  kill: () => busRedis.kill(),
  begin: async () => {
    busRedis = await startRedis(busRedis);
  },
};
const BUSES: [string, Bus][] = [
  ['redis', { config: () => ({ live: { bus: 'redis' }, redis: { url: busRedis.url } }), ...onRedis }],
  ['redis-streams', { config: () => ({ live: { bus: 'redis-streams' }, redis: { url: busRedis.url } }), ...onRedis }],
  [
    'postgres',
    {
      config: () => ({ live: { bus: 'postgres' } }),
      kill: () => postgres.crash(),
      begin: () => postgres.restart(),
      isDatabase: true,
    },
  ],
];

describe.each(BUSES)('live lists of real workers, two sidecars over %s', (_, { config, kill, begin, isDatabase }) => {
  it('show what the admin saves and what SQL changes, and nothing that is rolled back', async () => {
    await open(config());
    const [worker] = workers;
    const cookie = await djangoCookie(worker?.url ?? '', 'admin', 'admin-pass');
    const [product] = (await sql("SELECT id FROM shop_product WHERE slug = 'kettle'")) as readonly { id: number }[];
    const page = `${worker?.url ?? ''}/admin/shop/product/${product?.id}/change/`;
    const form = await fetch(page, { headers: { cookie } });
    const html = await form.text();
    const csrf = /name="csrfmiddlewaretoken" value="([^"]+)"/.exec(html)?.[1] ?? '';
    const token = /csrftoken=([^;]+)/.exec(form.headers.getSetCookie().join(';'))?.[1] ?? '';
    const stock = String(1_000 + Math.floor(Math.random() * 1_000));
    const fields = { slug: 'kettle', name: 'Pour kettle', category: 'Kitchen', description: '', price: '64.00', stock };
    const answer = await fetch(page, {
      method: 'POST',
      redirect: 'manual',
      headers: { cookie: `${cookie}; csrftoken=${token}`, referer: page },
      body: new URLSearchParams({ ...fields, csrfmiddlewaretoken: csrf }),
    });
    expect(answer.status).toBe(302);
    await allShowTheTruth();
    expect(shelves[0]?.stocks).toContain(`Pour kettle: ${stock}`);
    await sql('BEGIN; UPDATE shop_product SET stock = 77777; ROLLBACK');
    await sql('UPDATE shop_product SET stock = stock + 5');
    await allShowTheTruth();
    expect(shelves.flatMap(({ stocks }) => stocks).filter((text) => text.includes('77777'))).toEqual([]);
  });

  it('are right again when the bus was killed and restarted under load', async () => {
    await open(config());
    const writer = writing();
    const before = shelves.map(({ stocks }) => stocks);
    await eventually(() => shelves.every(({ stocks }, index) => stocks.join() !== before[index]?.join())).toBe(true);
    await kill();
    await eventually(() => sidecars.map(({ running }) => running.live.bus.state)).toEqual(['down', 'down']);
    // Where the database still runs, rows change while nobody can be told; nothing changes after that.
    if (!isDatabase) await sql('UPDATE shop_product SET stock = stock + 3');
    await writer.stop();
    await begin();
    await eventually(() => sidecars.map(({ running }) => running.live.bus.state)).toEqual(['up', 'up']);
    await allShowTheTruth();
    await sql('UPDATE shop_product SET stock = stock + 1');
    await allShowTheTruth();
    expect(shelves.map(({ isClosed }) => isClosed)).toEqual([false, false, false, false]);
  });
});

describe('live lists', () => {
  it('stay right when their worker is killed, and when another one stops, while rows change', async () => {
    await open({ live: { bus: 'redis' }, redis: { url: busRedis.url } });
    const writer = writing();
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const gone = workers.shift();
      if (signal === 'SIGKILL') gone?.process.signalGroup('SIGKILL');
      else gone?.process.signal('SIGTERM');
      await gone?.process.exited;
      await gone?.stop();
      await startWorker();
      for (const { running } of sidecars) {
        await waitUntil(() => running.operator.stats().links.length === 2, { what: 'two links' });
      }
    }
    await writer.stop();
    await allShowTheTruth();
    await sql('UPDATE shop_product SET stock = stock + 1');
    await allShowTheTruth();
    expect(shelves.map(({ isClosed }) => isClosed)).toEqual([false, false, false, false]);
  });
});
