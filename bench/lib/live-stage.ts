/** Real workers of the shop, each linked to two sidecars, over one PostgreSQL with the outbox and one Redis. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { freePorts } from '../../tools/ports.ts';
import { waitUntil } from '../../tools/process.ts';
import type { PythonEnv } from '../../tools/python-env.ts';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { startShop, type Shop } from '../../tools/shop.ts';

const OUTBOX = new URL('../../python/src/bridgehead/django/sql/outbox.sql', import.meta.url);
const WORKERS = 4;
const SIDECARS = 2;
/** Limits out of the way: a bench's clients share one address. */
const LIMITS = { sessions: 20_000, eventsPerSecond: 1_000_000, eventBurst: 1_000_000 };

export type Bus = 'memory' | 'redis' | 'redis-streams' | 'postgres';

interface Health {
  readonly dependencies: readonly { readonly name: string; readonly state: string }[];
}

export class LiveStage {
  readonly database: pg.Client;
  #sidecars: BridgeheadProcess[] = [];
  readonly #secret = randomBytes(32).toString('base64url');
  readonly #postgres: Postgres;
  readonly #redis: Redis;
  readonly #workers: Shop[] = [];
  #linkPorts: number[] = [];

  private constructor(postgres: Postgres, redis: Redis) {
    this.#postgres = postgres;
    this.#redis = redis;
    this.database = new pg.Client({ connectionString: postgres.url });
  }

  static async start(python: PythonEnv): Promise<LiveStage> {
    const stage = new LiveStage(await startPostgres(), await startRedis());
    try {
      await stage.#start(python);
    } catch (error) {
      await stage.stop();
      throw error;
    }
    return stage;
  }

  get sidecars(): readonly BridgeheadProcess[] {
    return this.#sidecars;
  }

  /** Two fresh sidecars over this bus, with every worker linked to both. */
  async open(bus: Bus): Promise<void> {
    await this.close();
    for (const linkPort of this.#linkPorts) {
      const sidecar = await startBridgehead({
        linkPort,
        settings: {
          secret: this.#secret,
          backends: this.#workers.map(({ url }) => url),
          auth: { source: 'none' },
          redis: { url: this.#redis.url },
          database: { url: this.#postgres.url },
          live: { bus },
          limits: LIMITS,
          log: { level: 'warn' },
        },
      });
      this.#sidecars.push(sidecar);
    }
    for (const { adminUrl } of this.#sidecars) {
      await waitUntil(
        async () => {
          const stats = (await (await fetch(`${adminUrl}/api/stats`)).json()) as { links: unknown[] };
          const health = (await (await fetch(`${adminUrl}/health`)).json()) as Health;
          return stats.links.length === WORKERS && health.dependencies.every(({ state }) => state === 'up');
        },
        { what: 'all workers to be linked and all services to be up', timeoutMs: 60_000 },
      );
    }
  }

  async close(): Promise<void> {
    const open = this.#sidecars;
    this.#sidecars = [];
    for (const sidecar of open) await sidecar.stop();
  }

  async stop(): Promise<void> {
    await this.close();
    for (const worker of this.#workers) await worker.stop();
    await this.database.end().catch(() => undefined);
    await this.#postgres.stop();
    await this.#redis.stop();
  }

  async #start(python: PythonEnv): Promise<void> {
    this.#linkPorts = await freePorts(SIDECARS);
    await this.database.connect();
    for (let serial = 0; serial < WORKERS; serial++) {
      const worker = await startShop({
        python,
        databaseUrl: this.#postgres.url,
        redisUrl: this.#redis.url,
        prepare: serial === 0,
        env: {
          BRIDGEHEAD_SECRET: this.#secret,
          BRIDGEHEAD_NAME: 'default',
          BRIDGEHEAD_LINK_URL: this.#linkPorts.map((port) => `tcp://127.0.0.1:${port}`).join(','),
        },
      });
      this.#workers.push(worker);
    }
    await this.database.query(await readFile(OUTBOX, 'utf8'));
    await this.database.query(`SELECT bridgehead_track('shop_product', 'shop.product')`);
  }
}
