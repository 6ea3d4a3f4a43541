import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.ts';

const CLI = fileURLToPath(new URL('../../sidecar/cli.ts', import.meta.url));

export interface BridgeheadProcess {
  /** Addresses of its listeners. */
  readonly listen: string;
  readonly admin: string;
  log(): string;
  /** SIGTERM, and its exit code. */
  stop(): Promise<number | null>;
}

/** `bridgehead serve` in a process of its own, with this environment alone. */
export async function startBridgehead(environment: Readonly<Record<string, string>>): Promise<BridgeheadProcess> {
  const child = spawn(process.execPath, [CLI, 'serve'], {
    cwd: tmpdir(),
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (more: string) => (out += more));
  child.stderr.setEncoding('utf8').on('data', (more: string) => (err += more));
  await eventually(() => {
    if (child.exitCode !== null) throw new Error(err);
    return out;
  }).toContain('bridgehead ready');
  const address = (name: string): string => new RegExp(`${name}=(\\S+)`).exec(out)?.[1] ?? '';
  return {
    listen: address('listen'),
    admin: address('admin'),
    log: () => err,
    stop: async () => {
      child.kill('SIGTERM');
      return (await exited)[0];
    },
  };
}
