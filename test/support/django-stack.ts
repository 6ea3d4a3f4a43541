import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { io, type Socket } from 'socket.io-client';
import type { ConfigInput } from '../../config/index.ts';
import { systemClock, type Clock } from '../../src/ports/clock.ts';
import { freePorts } from '../../tools/ports.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv } from '../../tools/python-env.ts';
import { startShop, type Shop } from '../../tools/shop.ts';
import { startComposed, type Composed } from './composed.ts';
import { startDjangoConsole, type DjangoConsole } from './django-console.ts';
import { eventually } from './eventually.ts';
import type { DebugEvent, Rights } from './shop-stack.ts';

const STATE = 'reflex___state____state';
const APP_STATE = `${STATE}.reflex_django___auth_state____django_user_state.reflex_django___states____app_state`;
/** Handlers of the shop that need no database of their own, by the tier they run in. */
export const HANDLERS = {
  auth_only: `${STATE}.shop___orders____order_state.set_note`,
  full: `${APP_STATE}.shop___account____account_state.set_saved`,
} as const;
export type AuthTier = keyof typeof HANDLERS;
export const AUTH_TIERS: readonly AuthTier[] = ['auth_only', 'full'];

export type SourceName = 'companion' | 'django-db';
export const SOURCES: readonly SourceName[] = ['companion', 'django-db'];
/** The shop's own, where a test gives no other. */
const SECRET_KEY = 'django-insecure-example-shop-on-loopback-only';

export interface DjangoStackOptions {
  readonly source: SourceName;
  readonly databaseUrl: string;
  /** For all of them: the sidecar, Reflex's state, the companion and the console. */
  readonly redisUrl?: string;
  /** A Redis for Django's cache and its sessions alone; without it sessions are in the database. */
  readonly cacheUrl?: string;
  /** Whether the database is empty; default true. */
  readonly prepare?: boolean;
  readonly secretKey?: string;
  readonly secretKeyFallbacks?: readonly string[];
  readonly config?: ConfigInput;
  readonly clock?: Clock;
  /** Whether each event tells what its user may; default false. */
  readonly rights?: boolean;
}

export interface Person {
  readonly name: string;
  readonly cookie: string;
}

/** What one event is sent with. */
export interface Question {
  readonly tier: AuthTier;
  /** A client's own, in the event's router data. */
  readonly annotation?: string;
  /** Where Django may be unable to say who it is: an event that ends in an error has met nobody. */
  readonly mayFail?: boolean;
}

/** The real shop on PostgreSQL behind a sidecar of this process, and plain Django beside them to say who is right. */
export class DjangoStack {
  readonly secret: string;
  readonly django: DjangoConsole;
  readonly #options: DjangoStackOptions;
  readonly #linkPort: number;
  readonly #env: Readonly<Record<string, string>>;
  readonly #folder: string;
  readonly #clients: Socket[] = [];
  #worker: Shop;
  #sidecar: Composed;
  #serial = 0;

  private constructor(parts: {
    options: DjangoStackOptions;
    secret: string;
    linkPort: number;
    env: Readonly<Record<string, string>>;
    folder: string;
    sidecar: Composed;
    shop: Shop;
    django: DjangoConsole;
  }) {
    this.#options = parts.options;
    this.secret = parts.secret;
    this.#linkPort = parts.linkPort;
    this.#env = parts.env;
    this.#folder = parts.folder;
    this.#sidecar = parts.sidecar;
    this.#worker = parts.shop;
    this.django = parts.django;
  }

  static async start(options: DjangoStackOptions): Promise<DjangoStack> {
    const python = await pythonEnv();
    const secret = randomBytes(32).toString('base64url');
    const [shopPort = 0, linkPort = 0] = await freePorts(2);
    const { databaseUrl, redisUrl, cacheUrl, secretKey, secretKeyFallbacks } = options;
    const env = {
      BRIDGEHEAD_SECRET: secret,
      BRIDGEHEAD_NAME: 'default',
      BRIDGEHEAD_LINK_URL: `tcp://127.0.0.1:${linkPort}`,
      ...(cacheUrl !== undefined && {
        SHOP_CACHE_URL: cacheUrl,
        SHOP_SESSION_ENGINE: 'django.contrib.sessions.backends.cache',
      }),
      ...(options.rights === true && { SHOP_DEBUG_RIGHTS: '1' }),
      ...(secretKey !== undefined && { SECRET_KEY: secretKey }),
      ...(secretKeyFallbacks !== undefined && { SECRET_KEY_FALLBACKS: secretKeyFallbacks.join(',') }),
    };
    const sidecar = await composeFor(options, { secret, shopPort, linkPort }, options.clock ?? systemClock);
    const folder = await mkdtemp(join(tmpdir(), 'bridgehead-django-'));
    const shop = await startShop({
      python,
      port: shopPort,
      folder,
      debug: true,
      prepare: options.prepare ?? true,
      databaseUrl,
      ...(redisUrl !== undefined && { redisUrl }),
      env,
    });
    const services = { DATABASE_URL: databaseUrl, ...(redisUrl !== undefined && { REDIS_URL: redisUrl }) };
    const django = startDjangoConsole(python, { ...env, ...services });
    const stack = new DjangoStack({ options, secret, linkPort, env, folder, sidecar, shop, django });
    await stack.linked();
    return stack;
  }

  get shop(): Shop {
    return this.#worker;
  }

  get sidecar(): Composed {
    return this.#sidecar;
  }

  /** Another sidecar in the place of the one before, by another clock. */
  async restartSidecar(clock: Clock): Promise<void> {
    await this.#sidecar.stop();
    const ports = { secret: this.secret, shopPort: this.shop.port, linkPort: this.#linkPort };
    this.#sidecar = await composeFor(this.#options, ports, clock);
    await this.linked();
  }

  /** Ends the worker at once. */
  async killWorker(): Promise<void> {
    this.#worker.process.signalGroup('SIGKILL');
    await this.#worker.process.exited;
    await eventually(() => this.sidecar.running.operator.stats().links.length).toBe(0);
  }

  async restartWorker(): Promise<void> {
    const { databaseUrl, redisUrl } = this.#options;
    this.#worker = await startShop({
      python: await pythonEnv(),
      port: this.shop.port,
      folder: this.#folder,
      debug: true,
      prepare: false,
      databaseUrl,
      ...(redisUrl !== undefined && { redisUrl }),
      env: this.#env,
    });
    await this.linked();
  }

  async linked(): Promise<void> {
    const isThere = (): boolean => this.sidecar.running.operator.stats().links.length > 0;
    await waitUntil(isThere, { what: 'a worker to link' });
  }

  /** A new user, and a session cookie of theirs. */
  async user(fields: object = {}): Promise<Person> {
    const name = `user-${++this.#serial}-${randomBytes(3).toString('hex')}`;
    await this.django.run('make_user', { username: name, ...fields });
    return { name, cookie: await this.django.run<string>('log_in', { username: name }) };
  }

  /** What plain Django says now. */
  says(cookie: string | undefined): Promise<string> {
    return this.django.run<string>('whoami', { cookie: cookie ?? null });
  }

  /** What plain Django lets them do now. */
  rights(cookie: string | undefined): Promise<Rights> {
    return this.django.run<Rights>('rights', { cookie: cookie ?? null });
  }

  /** A tab, at the sidecar or at another address. */
  async connect(cookie: string | undefined, options: { url?: string; token?: string } = {}): Promise<Socket> {
    const client = io(`${options.url ?? this.sidecar.url}/_event`, {
      path: '/_event',
      transports: ['websocket'],
      reconnection: false,
      forceNew: true,
      ...(cookie !== undefined && { extraHeaders: { cookie: `sessionid=${cookie}` } }),
      query: { token: options.token ?? `tab-${randomBytes(8).toString('hex')}` },
    });
    this.#clients.push(client);
    await new Promise<void>((resolve, reject) => {
      client.once('connect', resolve);
      client.once('connect_error', reject);
    });
    return client;
  }

  /** Sends an event and tells what it met in Python. */
  async ask(client: Socket, { tier, annotation, mayFail = false }: Question): Promise<DebugEvent> {
    const last = (await this.events(0)).at(-1)?.number ?? 0;
    const own = annotation === undefined ? {} : { _bridgehead: annotation };
    let failed = false;
    if (mayFail) client.once('event', () => (failed = true));
    client.emit('event', {
      name: HANDLERS[tier],
      payload: { value: 'x' },
      router_data: { pathname: '/', query: {}, ...own },
    });
    let found: DebugEvent | undefined;
    await waitUntil(
      async () => {
        found = (await this.events(last)).find((one) => one.name === HANDLERS[tier] && (one.tier !== null || failed));
        return found !== undefined;
      },
      { intervalMs: 10, what: `the event of tier ${tier} in the worker` },
    );
    return found as DebugEvent;
  }

  /** What the worker has seen after the event of this number. */
  async events(since: number): Promise<DebugEvent[]> {
    const answer = await fetch(`${this.shop.url}/debug/events?since=${since}`);
    return ((await answer.json()) as { events: DebugEvent[] }).events;
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.django.stop();
    await this.#worker.stop();
    await this.sidecar.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

function composeFor(
  { source, databaseUrl, redisUrl, config = {}, secretKey = SECRET_KEY, secretKeyFallbacks = [] }: DjangoStackOptions,
  ports: { secret: string; shopPort: number; linkPort: number },
  clock: Clock,
): Promise<Composed> {
  const { secret, shopPort, linkPort } = ports;
  const whole: ConfigInput = {
    secret,
    backends: [`http://127.0.0.1:${shopPort}`],
    database: { url: databaseUrl },
    ...(redisUrl !== undefined && { redis: { url: redisUrl } }),
    ...config,
    link: { listen: `127.0.0.1:${linkPort}` },
    auth: { source, ...config.auth, django: { secretKey, secretKeyFallbacks: [...secretKeyFallbacks] } },
  };
  return startComposed(whole, { clock });
}
