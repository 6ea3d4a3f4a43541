import { chmod, chown, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Client, escapeIdentifier } from 'pg';
import { freePort } from '../ports.ts';
import { run, startProcess, type RunningProcess } from '../process.ts';
import { requireProgram, unprivilegedUser } from './install.ts';

export interface Postgres {
  /** With a database `shop` that is empty. */
  url: string;
  port: number;
  pid: number;
  /** Stops the server and cuts its connections; its data stays for `restart`. */
  halt(): Promise<void>;
  /** The same without any order: what was committed stays if `synchronous_commit` is on. */
  crash(): Promise<void>;
  restart(): Promise<void>;
  /** A new, empty database on the same server; returns its URL. */
  createDatabase(name: string): Promise<string>;
  stop(): Promise<void>;
}

export const postgresProgram = {
  name: 'postgres',
  aptPackage: 'postgresql',
  folders: ['/usr/lib/postgresql/*/bin'],
};

/** A PostgreSQL of its own with trust on loopback and durability off. */
export async function startPostgres(options: { settings?: Readonly<Record<string, string>> } = {}): Promise<Postgres> {
  const command = await requireProgram(postgresProgram);
  const initdb = join(dirname(command), 'initdb');
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-postgres-'));
  // PostgreSQL refuses to run as root.
  const user = unprivilegedUser(['postgres']);
  const data = join(folder, 'data');
  const logFile = join(folder, 'postgres.log');
  if (user) await chown(folder, user.uid, user.gid);
  await chmod(folder, 0o700);
  const env = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8', HOME: folder };
  await run({
    name: 'initdb',
    command: initdb,
    args: ['-D', data, '-U', 'shop', '--auth=trust', '--encoding=UTF8', '--no-sync'],
    cwd: folder,
    env,
    logFile,
    ...user,
  });
  const settings = {
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    max_connections: '300',
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    ...options.settings,
  };
  const url = (database: string): string => `postgresql://shop@127.0.0.1:${port}/${database}`;
  const startServer = (): Promise<RunningProcess> =>
    startProcess({
      name: 'postgres',
      command,
      args: [
        '-D',
        data,
        '-p',
        String(port),
        ...Object.entries(settings).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
      ],
      cwd: folder,
      env,
      logFile,
      ready: async () => {
        await query(url('postgres'), 'SELECT 1');
        return true;
      },
      // Fast shutdown: connections still open are closed, not waited for.
      stopSignal: 'SIGINT',
      ...user,
    });
  let server = await startServer();
  const createDatabase = async (name: string): Promise<string> => {
    await query(url('postgres'), `CREATE DATABASE ${escapeIdentifier(name)}`);
    return url(name);
  };
  await createDatabase('shop');
  return {
    url: url('shop'),
    port,
    get pid() {
      return server.pid;
    },
    halt: async () => {
      await server.stop();
    },
    crash: async () => {
      server.signal('SIGQUIT');
      await server.exited;
    },
    restart: async () => {
      server = await startServer();
    },
    createDatabase,
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function query(connectionString: string, text: string): Promise<void> {
  const client = new Client({ connectionString, connectionTimeoutMillis: 2_000 });
  // A server that goes away while we wait is a failed query, not an unhandled event.
  client.on('error', () => undefined);
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
