import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startProcess } from '../process.ts';
import { accepts } from './accepts.ts';
import { requireProgram } from './install.ts';

export interface Haproxy {
  pid: number;
  logFile: string;
  stop(): Promise<void>;
}

export const haproxyProgram = { name: 'haproxy', aptPackage: 'haproxy' };

/** HAProxy in the foreground with a whole configuration text; ready once `port` accepts connections. */
export async function startHaproxy(options: {
  configuration: string;
  port: number;
  env?: Readonly<Record<string, string>>;
}): Promise<Haproxy> {
  const command = await requireProgram(haproxyProgram);
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-haproxy-'));
  const file = join(folder, 'haproxy.cfg');
  const logFile = join(folder, 'haproxy.log');
  await writeFile(file, options.configuration);
  const server = await startProcess({
    name: 'haproxy',
    command,
    args: ['-db', '-f', file],
    env: { ...process.env, ...options.env },
    logFile,
    ready: () => accepts(options.port),
  });
  return {
    pid: server.pid,
    logFile,
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
