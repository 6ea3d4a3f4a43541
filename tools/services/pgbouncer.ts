import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { startProcess } from '../process.ts';
import { accepts } from './accepts.ts';
import { requireProgram, unprivilegedUser } from './install.ts';

export interface PgBouncer {
  /** The same database through the pooler. */
  urlOf(url: string): string;
  stop(): Promise<void>;
}

export const pgBouncerProgram = { name: 'pgbouncer', aptPackage: 'pgbouncer' };

/** PgBouncer in transaction mode before a PostgreSQL of ours. */
export async function startPgBouncer(postgresPort: number): Promise<PgBouncer> {
  const command = await requireProgram(pgBouncerProgram);
  const port = await freePort();
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-pgbouncer-'));
  const file = join(folder, 'pgbouncer.ini');
  const lines = [
    '[databases]',
    `* = host=127.0.0.1 port=${postgresPort} user=shop`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = any',
    'pool_mode = transaction',
    'default_pool_size = 3',
    'server_login_retry = 1',
  ];
  await writeFile(file, `${lines.join('\n')}\n`);
  // It refuses to run as root.
  const user = unprivilegedUser(['postgres']);
  if (user) for (const path of [folder, file]) await chown(path, user.uid, user.gid);
  const server = await startProcess({
    name: 'pgbouncer',
    command,
    args: [file],
    cwd: folder,
    logFile: join(folder, 'pgbouncer.log'),
    ready: () => accepts(port),
    ...user,
  });
  return {
    urlOf: (url) => Object.assign(new URL(url), { port: String(port) }).toString(),
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
