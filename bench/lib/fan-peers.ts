/** Servers that bring one message to many browsers, each started as its users would: AnyCable, Centrifugo's engine, Bridgehead. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { request, Agent } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { randomBytes } from 'node:crypto';
import { cacheFolder } from '../../tools/checkout.ts';
import { freePort } from '../../tools/ports.ts';
import { run, startProcess } from '../../tools/process.ts';
import { accepts } from '../../tools/services/accepts.ts';
import type { DialectName } from './fan-dialects.ts';
import { startLinkedSidecar } from './peers.ts';

export interface FanPeer {
  readonly name: DialectName;
  /** Where clients connect. */
  readonly port: number;
  readonly pid: number;
  /** To everybody; resolves when the server has taken it. */
  publish(text: string): Promise<void>;
  stop(): Promise<void>;
}

interface Post {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: (text: string) => string;
}

const TEN_MINUTES = 10 * 60_000;

/** Built once, by the machine's own Go, and kept in the checkout's cache. */
async function goProgram(name: 'anycable' | 'centrifuge', target: string): Promise<string> {
  const folder = join(cacheFolder, 'bench');
  const program = join(folder, name);
  await mkdir(folder, { recursive: true });
  await run({
    name: `go build (${name})`,
    command: 'go',
    args: ['build', '-o', program, target],
    cwd: fileURLToPath(new URL(`../peers/${name}`, import.meta.url)),
    logFile: join(folder, `${name}.log`),
    timeoutMs: TEN_MINUTES,
  });
  return program;
}

function poster({ url, headers, body }: Post): (text: string) => Promise<void> {
  const agent = new Agent({ keepAlive: true });
  return (text) =>
    new Promise((resolve, reject) => {
      const data = Buffer.from(body(text));
      const post = request(
        url,
        { method: 'POST', agent, headers: { ...headers, 'content-length': data.length } },
        (reply) => {
          reply.resume();
          if (reply.statusCode !== undefined && reply.statusCode < 300) reply.on('end', resolve);
          else reject(new Error(`${url} answered ${reply.statusCode}`));
        },
      );
      post.on('error', reject);
      post.end(data);
    });
}

async function startServer(
  name: DialectName,
  command: string,
  args: readonly string[],
  port: number,
  post: Post,
): Promise<FanPeer> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-bench-'));
  const child = await startProcess({
    name,
    command,
    args,
    logFile: join(folder, 'log'),
    ready: () => accepts(port),
  });
  const stop = async (): Promise<void> => {
    await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { name, port, pid: child.pid, publish: poster(post), stop };
}

export async function startAnyCable(): Promise<FanPeer> {
  const program = await goProgram('anycable', 'github.com/anycable/anycable-go/cmd/anycable-go');
  const port = await freePort();
  const args = [
    '--host=127.0.0.1',
    `--port=${port}`,
    `--http_broadcast_port=${port}`,
    '--broadcast_adapter=http',
    '--public',
    '--log_level=error',
  ];
  return startServer('anycable', program, args, port, {
    url: `http://127.0.0.1:${port}/_broadcast`,
    headers: { 'content-type': 'application/json' },
    body: (text) => JSON.stringify({ stream: 'bench', data: JSON.stringify(text) }),
  });
}

export async function startCentrifuge(): Promise<FanPeer> {
  const program = await goProgram('centrifuge', '.');
  const port = await freePort();
  return startServer('centrifuge', program, [`127.0.0.1:${port}`], port, {
    url: `http://127.0.0.1:${port}/publish`,
    body: (text) => JSON.stringify(text),
  });
}

/** A linked worker has the sessions; what is pushed never goes there. */
export async function startBridgeheadFan(): Promise<FanPeer> {
  const apiKey = randomBytes(32).toString('base64url');
  const { sidecar, stop } = await startLinkedSidecar({ live: { scripts: true }, admin: { apiKey } });
  const publish = poster({
    url: `${sidecar.adminUrl}/api/push`,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${apiKey}` },
    body: (text) => JSON.stringify({ to: { all: true }, script: text }),
  });
  return { name: 'bridgehead', port: sidecar.port, pid: sidecar.process.pid, publish, stop };
}
