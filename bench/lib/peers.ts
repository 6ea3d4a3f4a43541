/** What stands between the load client and the trivial upstream, each started as its users would. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { freePort } from '../../tools/ports.ts';
import { startProcess } from '../../tools/process.ts';
import { accepts } from '../../tools/services/accepts.ts';
import { startNginx } from '../../tools/services/nginx.ts';
import { EVENT_NAMES } from './reflex-text.ts';

export interface Peer {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  stop(): Promise<void>;
}

async function startScript(
  name: string,
  script: URL,
  port: number,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Peer> {
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-bench-'));
  const child = await startProcess({
    name,
    command: process.execPath,
    args: [fileURLToPath(script), String(port), ...args],
    env: { ...process.env, ...env },
    logFile: join(folder, 'log'),
    ready: () => accepts(port),
  });
  const stop = async (): Promise<void> => {
    await child.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { name, port, pid: child.pid, stop };
}

export async function startTrivialUpstream(): Promise<Peer> {
  return startScript('direct', new URL('./trivial-upstream.ts', import.meta.url), await freePort(), []);
}

export async function startBareRelay(upstream: Peer): Promise<Peer> {
  return startScript('bare relay', new URL('./bare-relay.ts', import.meta.url), await freePort(), [
    String(upstream.port),
  ]);
}

/**
 * Directives as in proxy/nginx.conf, without an access log, which would cost nginx time that nobody else spends. With `max_fails`
 * nginx would shut out a worker that is back, since a WebSocket only counts as a success once it has ended.
 */
export async function startNginxPeer(...upstreams: readonly { readonly port: number }[]): Promise<Peer> {
  const port = await freePort();
  const configuration = `
worker_processes auto;
worker_rlimit_nofile 20000;
events {
    worker_connections 16384;
}
http {
    access_log off;
    map $http_upgrade $connection_upgrade {
        default upgrade;
        ''      '';
    }
    upstream worker {
        ${upstreams.map((upstream) => `server 127.0.0.1:${upstream.port} max_fails=0;`).join('\n        ')}
        keepalive 32;
    }
    server {
        listen 127.0.0.1:${port} backlog=4096;
        location / {
            proxy_pass http://worker;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
            client_max_body_size 0;
        }
    }
}
`;
  const nginx = await startNginx({ configuration, port });
  return { name: 'nginx', port, pid: nginx.pid, stop: () => nginx.stop() };
}

/** More than anything here can do: the limits count every event and never cut one. */
const UNREACHED = 1_000_000;

/** Tiers by twenty rules, every limit on, metrics on. */
async function startSidecar(settings: Readonly<Record<string, unknown>>): Promise<BridgeheadProcess> {
  const rules = Array.from({ length: 16 }, (_, index) => ({
    state: `shop.module_${index}.*`,
    handler: index % 2 === 0 ? 'load_*' : 'save',
    tier: 'auth_only',
  }));
  return startBridgehead({
    settings: {
      proxyOther: false,
      tiers: {
        mode: 'full',
        rules: [
          ...rules,
          ...EVENT_NAMES.map((name) => ({ handler: name.slice(name.lastIndexOf('.') + 1), tier: 'none' })),
        ],
      },
      limits: { eventsPerSecond: UNREACHED, eventBurst: UNREACHED, sessions: 20_000 },
      log: { level: 'warn' },
      ...settings,
    },
  });
}

export async function startBridgeheadPeer(upstream: Peer): Promise<Peer> {
  const bridgehead = await startSidecar({ backends: [`http://127.0.0.1:${upstream.port}`] });
  return { name: 'bridgehead', port: bridgehead.port, pid: bridgehead.process.pid, stop: () => bridgehead.stop() };
}

/** With a linked worker (`link-upstream.ts`). */
export async function startLinkedSidecar(
  settings: Readonly<Record<string, unknown>> = {},
): Promise<{ readonly sidecar: BridgeheadProcess; readonly stop: () => Promise<void> }> {
  const secret = randomBytes(32).toString('base64url');
  const sidecar = await startSidecar({ secret, auth: { source: 'none' }, ...settings });
  const script = new URL('./link-upstream.ts', import.meta.url);
  const env = { BENCH_LINK_SECRET: secret };
  const worker = await startScript('linked worker', script, await freePort(), [sidecar.linkUrl], env);
  const stop = async (): Promise<void> => {
    await worker.stop();
    await sidecar.stop();
  };
  return { sidecar, stop };
}

/**
 * The same with a linked worker, so that events are annotated: its sessions come over the link, or, with an upstream, over connections
 * of their own.
 */
export async function startLinkedPeer(upstream?: Peer): Promise<Peer> {
  const direct = upstream && { backends: [`http://127.0.0.1:${upstream.port}`], link: { sessions: false } };
  const { sidecar, stop } = await startLinkedSidecar(direct);
  const name = upstream === undefined ? 'linked' : 'direct upstream';
  return { name, port: sidecar.port, pid: sidecar.process.pid, stop };
}
