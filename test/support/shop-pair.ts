import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { builtFrontend, frontendFor } from '../../tools/frontend.ts';
import { freePorts } from '../../tools/ports.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv } from '../../tools/python-env.ts';
import { postgresProgram, startPostgres, type Postgres } from '../../tools/services/postgres.ts';
import { requireProgram, startRedis, type Redis } from '../../tools/services/index.ts';
import { manageShop, startShop, type Shop } from '../../tools/shop.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** One of the two: a sidecar, the worker that is linked to it alone, and the network between it and its browsers. */
export interface Side {
  /** What browsers open. */
  readonly base: string;
  readonly network: TcpProxy;
  readonly sidecar: BridgeheadProcess;
  readonly shop: Shop;
  readonly frontend: string;
}

/** The shop twice, over one PostgreSQL with triggers on products and orders and one Redis, which alone connects the two. */
export class ShopPair {
  readonly sides: readonly [Side, Side];
  readonly #postgres: Postgres;
  readonly #redis: Redis;

  private constructor(sides: readonly [Side, Side], postgres: Postgres, redis: Redis) {
    this.sides = sides;
    this.#postgres = postgres;
    this.#redis = redis;
  }

  static async start(): Promise<ShopPair> {
    const [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    const secret = randomBytes(32).toString('base64url');
    const first = await startSide(secret, postgres, redis, true);
    const pair = new ShopPair([first, await startSide(secret, postgres, redis, false)], postgres, redis);
    await pair.manage('bridgehead_triggers', 'install', 'shop.Product', 'shop.Order');
    for (const { sidecar } of pair.sides) {
      await waitUntil(() => isReady(sidecar), { what: 'a link, and the outbox relayed' });
    }
    return pair;
  }

  /** `manage.py`, in a process of its own. */
  async manage(...args: string[]): Promise<void> {
    const [{ shop }] = this.sides;
    await manageShop({ python: await pythonEnv(), folder: shop.folder, databaseUrl: this.#postgres.url }, args);
  }

  /** What psql prints, without anything around it. */
  async psql(text: string): Promise<string> {
    const command = await requireProgram({ ...postgresProgram, name: 'psql' });
    const args = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', text, this.#postgres.url];
    return (await promisify(execFile)(command, args)).stdout.trim();
  }

  async stop(): Promise<void> {
    for (const { frontend, network, shop, sidecar } of this.sides) {
      await network.stop();
      await shop.stop();
      await sidecar.stop();
      await rm(frontend, { recursive: true, force: true });
    }
    await this.#redis.stop();
    await this.#postgres.stop();
  }
}

async function startSide(secret: string, postgres: Postgres, redis: Redis, prepare: boolean): Promise<Side> {
  const python = await pythonEnv();
  const [port = 0, shopPort = 0] = await freePorts(2);
  const network = await TcpProxy.start(port);
  const sidecar = await startBridgehead({
    port,
    settings: {
      secret,
      backends: [`http://127.0.0.1:${shopPort}`],
      proxyOther: true,
      auth: { source: 'companion' },
      redis: { url: redis.url },
      database: { url: postgres.url },
    },
  });
  const frontend = await frontendFor(await builtFrontend(python), network.port);
  const shop = await startShop({
    python,
    port: shopPort,
    databaseUrl: postgres.url,
    redisUrl: redis.url,
    frontend,
    prepare,
    env: { BRIDGEHEAD_SECRET: secret, BRIDGEHEAD_LINK_URL: sidecar.linkUrl },
  });
  return { base: `http://localhost:${network.port}`, network, sidecar, shop, frontend };
}

async function isReady({ adminUrl }: BridgeheadProcess): Promise<boolean> {
  const read = async (path: string): Promise<unknown> => (await fetch(`${adminUrl}${path}`)).json();
  const { links } = (await read('/api/stats')) as { links: readonly unknown[] };
  const { dependencies } = (await read('/health')) as { dependencies: readonly { name: string; state: string }[] };
  return links.length === 1 && dependencies.some(({ name, state }) => name === 'outbox' && state === 'up');
}
