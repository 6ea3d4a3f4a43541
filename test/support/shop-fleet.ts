import type { SessionSummary, Stats } from '../../src/ports/operator.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv, type ReflexVersion } from '../../tools/python-env.ts';
import { startRedis, type Redis } from '../../tools/services/index.ts';
import { startShop, type Shop } from '../../tools/shop.ts';
import { startShopStack, type ShopStack } from './shop-stack.ts';

/** A worker of its own process, and its name on the link. */
interface FleetWorker {
  readonly shop: Shop;
  readonly instance: string;
}

export interface ShopFleetOptions {
  readonly reflex?: ReflexVersion;
  readonly publicPort?: number;
  /** More environment for the workers. */
  readonly shopEnv?: Readonly<Record<string, string>>;
}

/** The shop with as many workers as a test starts, all linked to one sidecar and with their state in one Redis. */
export class ShopFleet {
  readonly stack: ShopStack;
  readonly #options: ShopFleetOptions;
  readonly #redis: Redis;
  readonly #workers: FleetWorker[];

  private constructor(options: ShopFleetOptions, redis: Redis, stack: ShopStack, first: string) {
    this.#options = options;
    this.#redis = redis;
    this.stack = stack;
    this.#workers = [{ shop: stack.shop, instance: first }];
  }

  /** With one worker. */
  static async start(options: ShopFleetOptions = {}): Promise<ShopFleet> {
    const redis = await startRedis();
    const stack = await startShopStack({
      ...options,
      redisUrl: redis.url,
      config: { proxyOther: false, auth: { source: 'companion' } },
    });
    const links = async (): Promise<readonly string[]> => (await statsOf(stack)).links.map(({ instance }) => instance);
    await waitUntil(async () => (await links()).length === 1, { what: 'a worker to link' });
    return new ShopFleet(options, redis, stack, (await links())[0] ?? '');
  }

  /** One more; resolves when it has linked. */
  async add(): Promise<void> {
    const before = new Set(await this.linked());
    const { shop, shopEnv } = this.stack;
    const started = await startShop({
      python: await pythonEnv({ reflex: this.#options.reflex ?? '0.10' }),
      folder: shop.folder,
      databaseUrl: shop.databaseUrl,
      redisUrl: this.#redis.url,
      prepare: false,
      debug: true,
      env: shopEnv,
    });
    const fresh = async (): Promise<string | undefined> => (await this.linked()).find((one) => !before.has(one));
    await waitUntil(async () => (await fresh()) !== undefined, { what: 'another worker to link' });
    this.#workers.push({ shop: started, instance: (await fresh()) ?? '' });
  }

  /** The instances that have a link now. */
  async linked(): Promise<readonly string[]> {
    return (await statsOf(this.stack)).links.map(({ instance }) => instance);
  }

  /** Which worker has the only session; empty while none has. */
  async holder(): Promise<string> {
    const answer = await fetch(`${this.stack.sidecar.admin}/api/sessions`);
    const { sessions } = (await answer.json()) as { sessions: SessionSummary[] };
    if (sessions.length !== 1) throw new Error(`one session was expected, there are ${sessions.length}`);
    return sessions[0]?.upstream ?? '';
  }

  /** The worker that has the only session ends: told to, or at once. Resolves when its processes are gone. */
  async endHolder(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const instance = await this.holder();
    const worker = this.#workers.find((one) => one.instance === instance);
    if (worker === undefined) throw new Error(`no worker has the session: ${instance}`);
    const { process } = worker.shop;
    if (signal === 'SIGKILL') process.signalGroup('SIGKILL');
    else process.signal('SIGTERM');
    await process.exited;
    // A supervisor's children may outlive it.
    process.signalGroup('SIGKILL');
    this.#workers.splice(this.#workers.indexOf(worker), 1);
  }

  async stop(): Promise<void> {
    for (const { shop } of this.#workers) await shop.stop();
    await this.stack.stop();
    await this.#redis.stop();
  }
}

async function statsOf(stack: ShopStack): Promise<Stats> {
  return (await (await fetch(`${stack.sidecar.admin}/api/stats`)).json()) as Stats;
}
