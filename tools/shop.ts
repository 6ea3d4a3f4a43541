import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shopFolder } from './frontend.ts';
import { freePort } from './ports.ts';
import { run, startProcess } from './process.ts';
import type { RunningProcess } from './process.ts';
import type { PythonEnv } from './python-env.ts';

export interface ShopOptions {
  python: PythonEnv;
  /** Default: a free one. */
  port?: number;
  /** PostgreSQL; default: an SQLite file in `folder`. */
  databaseUrl?: string;
  /** For Reflex's state, Django's cache, and the companion; default: memory. */
  redisUrl?: string;
  /** Where SQLite, uploads and logs go; default: a temporary folder, removed on stop. */
  folder?: string;
  /** A folder of static files that the worker serves beside its own paths. */
  frontend?: string;
  /** Opens /debug/events. */
  debug?: boolean;
  /** Migrate and seed first; default true. Turn it off for the second worker on one database. */
  prepare?: boolean;
  /** More environment, such as BRIDGEHEAD_LINK_URL, BRIDGEHEAD_SECRET, SHOP_BRIDGE_MODE, GRANIAN_WORKERS. */
  env?: Readonly<Record<string, string | undefined>>;
}

export interface Shop {
  /** `http://127.0.0.1:<port>` */
  url: string;
  port: number;
  folder: string;
  logFile: string;
  /** The process that was started; granian's workers are its children. */
  process: RunningProcess;
  databaseUrl: string;
  stop(): Promise<void>;
}

/** Names that must not leak in from the caller's shell: they would change what the shop uses. */
const ownVariables = [
  'DATABASE_URL',
  'REDIS_URL',
  'REFLEX_REDIS_URL',
  'SHOP_DEBUG',
  'SHOP_FRONTEND_DIR',
  'BRIDGEHEAD_LINK_URL',
  'BRIDGEHEAD_SECRET',
  'BRIDGEHEAD_NAME',
];

/** Migrates, seeds and starts one worker (backend only); resolves when it answers an Engine.IO handshake. */
export async function startShop(options: ShopOptions): Promise<Shop> {
  const port = options.port ?? (await freePort());
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'bridgehead-shop-')));
  const databaseUrl = options.databaseUrl ?? `sqlite:///${join(folder, 'shop.sqlite3')}`;
  const env = { ...shopEnv(options.python, folder, databaseUrl), ...optionsEnv(options), ...options.env };
  await mkdir(folder, { recursive: true });
  if (options.prepare ?? true)
    await prepareShop({ python: options.python, folder, databaseUrl, ...(options.env && { env: options.env }) });

  const logFile = join(folder, `worker-${port}.log`);
  const worker = await startProcess({
    name: `reflex run (port ${port})`,
    command: join(options.python.bin, 'reflex'),
    args: ['run', '--env', 'prod', '--backend-only', '--backend-host', '127.0.0.1', '--backend-port', String(port)],
    cwd: shopFolder,
    env,
    logFile,
    ready: () => handshake(port),
    readyTimeoutMs: 90_000,
  });
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    folder,
    logFile,
    process: worker,
    databaseUrl,
    stop: async () => {
      await worker.stop();
      if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Migrations and demo data; both change nothing where they are done already. */
export async function prepareShop(
  options: Pick<ShopOptions, 'python' | 'env'> & { folder: string; databaseUrl: string },
): Promise<void> {
  await mkdir(options.folder, { recursive: true });
  for (const command of ['migrate', 'seed_shop']) await manageShop(options, [command]);
}

/** `manage.py`, in a process of its own, which has no link. */
export async function manageShop(
  options: Pick<ShopOptions, 'python' | 'env'> & { folder: string; databaseUrl: string },
  args: readonly string[],
): Promise<void> {
  await run({
    name: `manage.py ${args[0] ?? ''}`,
    command: options.python.python,
    args: ['manage.py', ...args],
    cwd: shopFolder,
    env: { ...shopEnv(options.python, options.folder, options.databaseUrl), ...options.env },
    logFile: join(options.folder, 'manage.log'),
  });
}

function shopEnv(python: PythonEnv, folder: string, databaseUrl: string): Record<string, string | undefined> {
  return {
    ...process.env,
    ...Object.fromEntries(ownVariables.map((name) => [name, undefined])),
    PATH: `${python.bin}:${process.env['PATH'] ?? ''}`,
    PYTHONPATH: shopFolder,
    PYTHONUNBUFFERED: '1',
    DJANGO_SETTINGS_MODULE: 'shop.settings',
    DATABASE_URL: databaseUrl,
    // A worker of its own never builds or reads a frontend, and several share this source folder.
    REFLEX_WEB_WORKDIR: join(folder, 'web'),
    REFLEX_UPLOADED_FILES_DIR: join(folder, 'uploads'),
    REFLEX_STATES_WORKDIR: join(folder, 'states'),
    REFLEX_TELEMETRY_ENABLED: 'false',
    REFLEX_CHECK_LATEST_VERSION: 'false',
    RX_AUTO_EXPORT_ON_START: '0',
    // With Redis, Reflex would start twice as many as there are cores, and granian stops all when one dies.
    GRANIAN_WORKERS: '1',
  };
}

function optionsEnv(options: ShopOptions): Record<string, string> {
  return {
    ...(options.redisUrl === undefined ? {} : { REDIS_URL: options.redisUrl, REFLEX_REDIS_URL: options.redisUrl }),
    ...(options.frontend === undefined ? {} : { SHOP_FRONTEND_DIR: options.frontend }),
    ...(options.debug === true ? { SHOP_DEBUG: '1' } : {}),
  };
}

/** Whether the port answers a WebSocket with an Engine.IO OPEN packet. */
export async function handshake(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/_event/?EIO=4&transport=websocket`);
    const timer = setTimeout(() => done(false), 2_000);
    const done = (answer: boolean): void => {
      clearTimeout(timer);
      resolve(answer);
      socket.close();
    };
    socket.addEventListener('message', (event) => done(String(event.data).startsWith('0{')));
    socket.addEventListener('error', () => done(false));
    socket.addEventListener('close', () => done(false));
  });
}
