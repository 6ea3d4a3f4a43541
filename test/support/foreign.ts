import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../tools/ports.ts';
import { startProcess } from '../../tools/process.ts';
import { pythonEnv } from '../../tools/python-env.ts';

export const NAMESPACES = ['/', '/chat', '/locked', '/_event'] as const;

/** A Socket.IO server that is no Reflex app: echo, binary, calls both ways, a namespace that refuses, one that kicks. */
export interface ForeignServer {
  readonly kind: 'socket.io' | 'python-socketio';
  readonly url: string;
  readonly port: number;
  /** The namespaces that clients have left so far. */
  left(): Promise<string[]>;
  stop(): Promise<void>;
}

const pythonFolder = fileURLToPath(new URL('python', import.meta.url));

/** python-socketio under granian, as a Reflex app runs. */
export async function startPythonServer(options: { port?: number } = {}): Promise<ForeignServer> {
  const python = await pythonEnv();
  const port = options.port ?? (await freePort());
  const url = `http://127.0.0.1:${port}`;
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-foreign-'));
  const left = async (): Promise<string[]> => (await (await fetch(`${url}/left`)).text()).split(',').filter(Boolean);
  const child = await startProcess({
    name: 'a python-socketio server',
    command: join(python.bin, 'granian'),
    args: ['--interface', 'asginl', '--host', '127.0.0.1', '--port', `${port}`, 'foreign_server:app'],
    cwd: pythonFolder,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    logFile: join(folder, 'server.log'),
    ready: async () => (await left()).length === 0,
  });
  return {
    kind: 'python-socketio',
    url,
    port,
    left,
    stop: async () => {
      await child.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Runs python-socketio's client against a server and returns what it saw. */
export async function runPythonClient(
  url: string,
  transport: 'websocket' | 'polling',
): Promise<Record<string, unknown>> {
  const { execFile } = await import('node:child_process');
  const { promisify } = await import('node:util');
  const python = await pythonEnv();
  const { stdout } = await promisify(execFile)(python.python, ['foreign_client.py', url, transport, '_event'], {
    cwd: pythonFolder,
    timeout: 60_000,
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  return JSON.parse(stdout) as Record<string, unknown>;
}
