import { randomBytes, randomUUID } from 'node:crypto';
import { io, type Socket } from 'socket.io-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv, type PythonEnv, type ReflexVersion } from '../../tools/python-env.ts';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { manageShop, startShop, type Shop } from '../../tools/shop.ts';
import { eventually } from '../support/eventually.ts';
import { connectTo } from '../support/outbox.ts';

const ROOT = 'reflex___state____state';
const PRODUCTS = `${ROOT}.shop___products____product_state`;

interface Product {
  readonly name: string;
  readonly stock: number;
  readonly price: string;
}

interface Update {
  readonly delta?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** A tab that shows the product list. */
class Shelf {
  products: readonly Product[] = [];
  /** Lists that came. */
  lists = 0;
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('event', ({ delta = {} }: Update) => {
      const rows = delta[PRODUCTS]?.['live_rows_rx_state_'];
      if (rows === undefined) return;
      this.products = rows as readonly Product[];
      this.lists += 1;
    });
  }

  static async open(url: string): Promise<Shelf> {
    const shelf = new Shelf(
      io(`${url}/_event`, {
        path: '/_event',
        transports: ['websocket'],
        reconnection: false,
        query: { token: randomUUID() },
      }),
    );
    shelf.send(`${ROOT}.hydrate`);
    shelf.send(`${PRODUCTS}.load`);
    await waitUntil(() => shelf.products.length > 0, { what: 'the products' });
    return shelf;
  }

  send(name: string, payload: object = {}): void {
    this.#socket.emit('event', { name, payload, router_data: { pathname: '/', asPath: '/', query: {} } });
  }

  stock(name: string): number | undefined {
    return this.products.find((product) => product.name === name)?.stock;
  }

  close(): void {
    this.#socket.disconnect();
  }
}

describe.each<ReflexVersion>(['0.10', '0.9'])('a live list in the shop, reflex %s', (reflex) => {
  let redis: Redis;
  let postgres: Postgres;
  let python: PythonEnv;
  const sidecars: BridgeheadProcess[] = [];
  const workers: Shop[] = [];
  const shelves: Shelf[] = [];

  beforeAll(async () => {
    [redis, postgres, python] = await Promise.all([startRedis(), startPostgres(), pythonEnv({ reflex })]);
    const secret = randomBytes(32).toString('base64url');
    const env = { REDIS_URL: redis.url, DATABASE_URL: postgres.url };
    for (let count = 0; count < 2; count++) sidecars.push(await startBridgehead({ settings: { secret }, env }));
    const links = sidecars.map(({ linkUrl }) => linkUrl).join(',');
    for (let count = 0; count < 2; count++) {
      workers.push(
        await startShop({
          python,
          databaseUrl: postgres.url,
          redisUrl: redis.url,
          prepare: count === 0,
          env: { BRIDGEHEAD_SECRET: secret, BRIDGEHEAD_LINK_URL: links },
        }),
      );
    }
    for (const { adminUrl } of sidecars) {
      const links = async (): Promise<number> => {
        const stats = (await (await fetch(`${adminUrl}/api/stats`)).json()) as { links: unknown[] };
        return stats.links.length;
      };
      await waitUntil(async () => (await links()) === 2, { what: 'both workers to link' });
    }
    for (const { url } of [...sidecars, ...sidecars]) shelves.push(await Shelf.open(url));
  });

  afterAll(async () => {
    for (const shelf of shelves) shelf.close();
    for (const worker of workers) await worker.stop();
    for (const sidecar of sidecars) await sidecar.stop();
    await redis?.stop();
    await postgres?.stop();
  });

  const manage = async (...args: string[]): Promise<void> => {
    const folder = workers[0]?.folder ?? '';
    await manageShop({ python, folder, databaseUrl: postgres.url, env: { REDIS_URL: redis.url } }, args);
  };
  const shell = (code: string): Promise<void> =>
    manage('shell', '--no-imports', '-c', `from shop.models import Product\n${code}`);
  const sql = async (text: string): Promise<void> => {
    const client = await connectTo(postgres.url);
    await client.query(text);
    await client.end();
  };
  const stocks = (name: string): (number | undefined)[] => shelves.map((shelf) => shelf.stock(name));

  it('shows in every tab what another program saves, and nothing that is rolled back', async () => {
    const before = shelves.map(({ lists }) => lists);
    await shell(`
from django.db import transaction
try:
    with transaction.atomic():
        Product.objects.create(slug='never', name='Never', category='Light', price=1)
        1 / 0
except ZeroDivisionError: pass
kettle = Product.objects.get(slug='kettle'); kettle.stock = 7; kettle.save()`);
    await eventually(() => stocks('Pour kettle')).toEqual([7, 7, 7, 7]);
    expect(shelves.map(({ lists }, index) => lists - (before[index] ?? 0))).toEqual([1, 1, 1, 1]);
  });

  it('takes rows out and in as a search asks', async () => {
    const [searching] = shelves;
    searching?.send(`${PRODUCTS}.set_search`, { value: 'lamp' });
    await eventually(() => searching?.products.map(({ name }) => name)).toEqual(['Desk lamp']);
    await shell(
      "Product.objects.get(slug='desk-lamp').delete(); cup = Product.objects.get(slug='cactus')\n" +
        "cup.name = 'Cactus lamp'; cup.save()",
    );
    await eventually(() => searching?.products.map(({ name }) => name)).toEqual(['Cactus lamp']);
    searching?.send(`${PRODUCTS}.set_search`, { value: '' });
    await eventually(() => searching?.products.length).toBe(11);
  });

  it('shows bulk writes and SQL once triggers are installed, and each save once', async () => {
    await manage('bridgehead_triggers', 'install');
    // Sidecars look for the outbox now and then.
    await eventually(
      async () => {
        await sql("UPDATE shop_product SET stock = stock + 1 WHERE slug = 'candle'");
        return new Set(stocks('Beeswax candle')).size === 1 && (stocks('Beeswax candle')[0] ?? 0) > 300;
      },
      { timeout: 60_000, interval: 500 },
    ).toBe(true);
    await manage('reprice_shop', '2');
    await eventually(() =>
      shelves.map(({ products }) => products.find(({ name }) => name === 'Pour kettle')?.price),
    ).toEqual(['128.00', '128.00', '128.00', '128.00']);
    const before = shelves.map(({ lists }) => lists);
    await shell("kettle = Product.objects.get(slug='kettle'); kettle.stock = 3; kettle.save()");
    await eventually(() => stocks('Pour kettle')).toEqual([3, 3, 3, 3]);
    expect(shelves.map(({ lists }, index) => lists - (before[index] ?? 0))).toEqual([1, 1, 1, 1]);
  });
});
