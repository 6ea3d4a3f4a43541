import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../ports.ts';
import { startProcess } from '../process.ts';
import { requireProgram } from './install.ts';

export interface Redis {
  url: string;
  port: number;
  pid: number;
  folder: string;
  /** SIGKILL, as a crash; then start another one with this `port` and `folder`. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

export const redisProgram = { name: 'redis-server', aptPackage: 'redis-server' };

/** A Redis of its own in memory on a loopback port; give `port` and `folder` to start one again where another was. */
export async function startRedis(
  options: { port?: number; folder?: string; args?: readonly string[] } = {},
): Promise<Redis> {
  const command = await requireProgram(redisProgram);
  const port = options.port ?? (await freePort());
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'bridgehead-redis-')));
  const server = await startProcess({
    name: 'redis-server',
    command,
    args: [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      folder,
      '--save',
      '',
      '--appendonly',
      'no',
      '--daemonize',
      'no',
      ...(options.args ?? []),
    ],
    logFile: join(folder, 'redis.log'),
    ready: async () => (await ask(port, 'PING\r\n')).startsWith('+PONG'),
  });
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    pid: server.pid,
    folder,
    kill: async () => {
      server.signalGroup('SIGKILL');
      await server.exited;
    },
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function ask(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(command));
    socket.setTimeout(1_000, () => socket.destroy(new Error('no answer')));
    socket.once('data', (data) => {
      resolve(data.toString());
      socket.destroy();
    });
    socket.once('error', reject);
  });
}
