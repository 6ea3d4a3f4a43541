import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { io, type Socket } from 'socket.io-client';
import { startBridgehead } from '../tools/bridgehead.ts';
import { djangoCookie } from '../tools/django-login.ts';
import { freePorts } from '../tools/ports.ts';
import { waitUntil } from '../tools/process.ts';
import { pythonEnv, type PythonEnv } from '../tools/python-env.ts';
import { startPostgres, startRedis } from '../tools/services/index.ts';
import { prepareShop, startShop } from '../tools/shop.ts';
import { authOverhead } from './lib/auth-overhead.ts';
import { atLeast, atMost, rounded, type Bench, type BenchOptions, type BenchResult } from './lib/bench.ts';
import { invalidationTimes } from './lib/invalidation-time.ts';
import { median, medianRatio } from './lib/statistics.ts';

const CLIENTS = 20;
const STATE = 'reflex___state____state';
const ACCOUNT = 'reflex_django___auth_state____django_user_state.reflex_django___states____app_state';

/** One light handler of each tier: it sets one variable, so that each event has one update. */
const HANDLERS = {
  none: (turn: number) => ({ name: `${STATE}.shop___cart____cart_state.set_open`, payload: { value: turn % 2 === 0 } }),
  auth_only: (turn: number) => ({
    name: `${STATE}.shop___orders____order_state.set_note`,
    payload: { value: `${turn}` },
  }),
  full: (turn: number) => ({
    name: `${STATE}.${ACCOUNT}.shop___account____account_state.set_saved`,
    payload: { value: `${turn}` },
  }),
} as const;
type Tier = keyof typeof HANDLERS;
const TIERS: readonly Tier[] = ['none', 'auth_only', 'full'];
const WANTED: Record<Tier, number> = { none: 4, auth_only: 2.3, full: 2 };

/** `bridgehead_oplock`: with REFLEX_OPLOCK_ENABLED, which pays where a token stays with its worker. A figure without a target. */
const VARIANTS = ['alone', 'fast_auth', 'bridgehead', 'bridgehead_oplock'] as const;
type VariantName = (typeof VARIANTS)[number];

interface Variant {
  readonly name: VariantName;
  readonly url: string;
  readonly clients: Socket[];
  readonly rates: Record<Tier, number[]>;
}

/** Starts one thing after another and stops them in reverse. */
class Stack {
  readonly #stops: (() => Promise<void>)[] = [];

  async keep<T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> {
    const started = await starting;
    this.#stops.push(() => started.stop());
    return started;
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.toReversed()) await stop();
  }
}

export const tiers: Bench = {
  name: 'tiers',
  summary:
    'events/s of one Python worker in each tier: the app alone, with FAST_AUTH, with Bridgehead; what a user costs and how soon one is forgotten',
  async run(options): Promise<BenchResult> {
    const stack = new Stack();
    try {
      options.say('a user in the cache, and a user who is forgotten');
      const overhead = await authOverhead(options.quick ? 30 : 100);
      const services = await startServices(stack, options);
      const forgotten = await invalidationTimes(services, options.quick ? 100 : 500);
      const variants = await startVariants(stack, services, options);
      await measure(variants, options);
      return report(variants, { overhead, forgotten });
    } finally {
      await stack.stop();
    }
  },
};

interface Services {
  readonly python: PythonEnv;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly secret: string;
}

async function startServices(stack: Stack, { say }: BenchOptions): Promise<Services> {
  const python = await pythonEnv({ onProgress: say });
  const postgres = await stack.keep(startPostgres());
  const redis = await stack.keep(startRedis());
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-bench-'));
  await prepareShop({ python, folder, databaseUrl: postgres.url });
  await rm(folder, { recursive: true, force: true });
  return { python, databaseUrl: postgres.url, redisUrl: redis.url, secret: randomBytes(32).toString('base64url') };
}

async function startVariants(
  stack: Stack,
  { secret, ...services }: Services,
  { say }: BenchOptions,
): Promise<Variant[]> {
  say('starting four workers');
  const alone = await stack.keep(startShop({ ...services, prepare: false, env: { SHOP_PLAIN: '1' } }));
  const fast = await stack.keep(
    startShop({ ...services, prepare: false, env: { SHOP_PLAIN: '1', SHOP_FAST_AUTH: '1' } }),
  );
  const linked = async (name: string, more: Readonly<Record<string, string>>): Promise<string> => {
    const env = { BRIDGEHEAD_SECRET: secret };
    const [port = 0] = await freePorts(1);
    const settings = { name, backends: [`http://127.0.0.1:${port}`], redis: { url: services.redisUrl } };
    const sidecar = await stack.keep(startBridgehead({ settings, env }));
    const own = { ...env, ...more, BRIDGEHEAD_NAME: name, BRIDGEHEAD_LINK_URL: sidecar.linkUrl };
    await stack.keep(startShop({ ...services, port, prepare: false, env: own }));
    await waitUntil(() => isLinked(sidecar.adminUrl), { what: 'the worker to link' });
    return sidecar.url;
  };
  const urls: Record<VariantName, string> = {
    alone: alone.url,
    fast_auth: fast.url,
    bridgehead: await linked('bench', {}),
    bridgehead_oplock: await linked('bench-oplock', { REFLEX_OPLOCK_ENABLED: 'true' }),
  };
  const cookie = await djangoCookie(alone.url, 'admin', 'admin-pass');
  say('connecting');
  return Promise.all(
    VARIANTS.map(async (name): Promise<Variant> => {
      const connecting = Array.from({ length: CLIENTS }, (_, index) => connect(urls[name], `${name}-${index}`, cookie));
      return {
        name,
        url: urls[name],
        clients: await Promise.all(connecting),
        rates: { none: [], auth_only: [], full: [] },
      };
    }),
  );
}

async function isLinked(admin: string): Promise<boolean> {
  const stats = (await (await fetch(`${admin}/api/stats`)).json()) as { links: unknown[] };
  return stats.links.length > 0;
}

async function connect(url: string, token: string, cookie: string): Promise<Socket> {
  const boot = { name: `${STATE}.hydrate_and_load`, payload: {}, router_data: { pathname: '/', query: {} } };
  const client = io(`${url}/_event`, {
    path: '/_event',
    transports: ['websocket'],
    reconnection: false,
    forceNew: true,
    query: { token },
    extraHeaders: { cookie },
    auth: { event: boot },
  });
  await new Promise<void>((resolve, reject) => {
    client.once('connect', resolve);
    client.once('connect_error', reject);
  });
  return client;
}

const turns = new WeakMap<Socket, number>();

/** Closed loop: each client sends its next event when the last one's update is there. */
async function rate(clients: readonly Socket[], tier: Tier, milliseconds: number): Promise<number> {
  const end = performance.now() + milliseconds;
  const begun = performance.now();
  let events = 0;
  const loop = async (client: Socket): Promise<void> => {
    while (performance.now() < end) {
      // Never the value of before: a handler that changes nothing sends nothing.
      const turn = (turns.get(client) ?? 0) + 1;
      turns.set(client, turn);
      const update = new Promise<void>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`no update within 10 s, tier ${tier}, ${JSON.stringify(client.io.opts.query)}`)),
          10_000,
        );
        client.once('event', () => {
          clearTimeout(timer);
          resolve();
        });
      });
      client.emit('event', { ...HANDLERS[tier](turn), router_data: { pathname: '/', query: {} } });
      await update;
      events++;
    }
  };
  await Promise.all(clients.map(loop));
  return events / ((performance.now() - begun) / 1000);
}

async function measure(variants: readonly Variant[], { quick, say }: BenchOptions): Promise<void> {
  const rounds = quick ? 3 : 7;
  const milliseconds = quick ? 2_000 : 4_000;
  say('warming up');
  for (const { clients } of variants) for (const tier of TIERS) await rate(clients, tier, 1_500);
  for (let round = 0; round < rounds; round++) {
    say(`round ${round + 1} of ${rounds}`);
    for (const tier of TIERS) {
      const order = round % 2 === 0 ? variants : variants.toReversed();
      for (const { clients, rates } of order) rates[tier].push(await rate(clients, tier, milliseconds));
    }
  }
  for (const { clients } of variants) for (const client of clients) client.disconnect();
}

interface AuthTimes {
  /** Microseconds. */
  readonly overhead: { readonly without: number; readonly overhead: number };
  /** Milliseconds. */
  readonly forgotten: { readonly p50: number; readonly p99: number };
}

function report(variants: readonly Variant[], { overhead, forgotten }: AuthTimes): BenchResult {
  const [alone, , ours] = variants as readonly [Variant, Variant, Variant];
  const figures: Record<string, number> = {
    event_without_user_us: rounded(overhead.without),
    auth_overhead_us: rounded(overhead.overhead),
    invalidation_p50_ms: rounded(forgotten.p50),
    invalidation_p99_ms: rounded(forgotten.p99),
  };
  for (const { name, rates } of variants) {
    for (const tier of TIERS) figures[`${name}_${tier}_events_per_second`] = Math.round(median(rates[tier]));
  }
  return {
    figures,
    table: variants.map(({ name, rates }) => ({
      app: name,
      'none ev/s': median(rates.none),
      'auth_only ev/s': median(rates.auth_only),
      'full ev/s': median(rates.full),
    })),
    targets: {
      ...Object.fromEntries(
        TIERS.map((tier) => [
          `${tier}_to_alone`,
          atLeast(rounded(medianRatio(ours.rates[tier], alone.rates[tier])), WANTED[tier]),
        ]),
      ),
      auth_overhead_us: atMost(overhead.overhead, 20),
      invalidation_p99_ms: atMost(forgotten.p99, 100),
    },
  };
}
