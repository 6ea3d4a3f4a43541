import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkout } from './checkout.ts';
import { freePorts } from './ports.ts';
import { startProcess } from './process.ts';
import type { RunningProcess } from './process.ts';

export interface BridgeheadOptions {
  /** Where browsers come in; default: a free port. */
  port?: number;
  adminPort?: number;
  linkPort?: number;
  /** Merged over the listeners: any keys of the configuration, nested as in the file. */
  settings?: Readonly<Record<string, unknown>>;
  env?: Readonly<Record<string, string | undefined>>;
  /** For the configuration and the log; default: a temporary folder, removed on stop. */
  folder?: string;
}

export interface BridgeheadProcess {
  url: string;
  port: number;
  adminUrl: string;
  /** For a worker's BRIDGEHEAD_LINK_URL. */
  linkUrl: string;
  folder: string;
  logFile: string;
  process: RunningProcess;
  stop(): Promise<void>;
}

/** `bridgehead serve` from the sources, with a configuration file of its own; resolves at its ready line. */
export async function startBridgehead(options: BridgeheadOptions = {}): Promise<BridgeheadProcess> {
  const [freeMain = 0, freeAdmin = 0, freeLink = 0] = await freePorts(3);
  const port = options.port ?? freeMain;
  const adminPort = options.adminPort ?? freeAdmin;
  const linkPort = options.linkPort ?? freeLink;
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), 'bridgehead-sidecar-')));
  await mkdir(folder, { recursive: true });
  const config = join(folder, 'bridgehead.config.json');
  const { admin, link, ...settings } = options.settings ?? {};
  await writeFile(
    config,
    JSON.stringify({
      listen: `127.0.0.1:${port}`,
      admin: { listen: `127.0.0.1:${adminPort}`, ...(admin as object | undefined) },
      link: { listen: `127.0.0.1:${linkPort}`, ...(link as object | undefined) },
      ...settings,
    }),
  );
  const logFile = join(folder, 'bridgehead.log');
  // An earlier run in the same folder would look ready at once.
  await rm(logFile, { force: true });
  const child = await startProcess({
    name: 'bridgehead serve',
    command: process.execPath,
    args: [join(checkout, 'sidecar', 'cli.ts'), 'serve', '--config', config],
    env: { ...withoutBridgehead(process.env), ...options.env },
    logFile,
    ready: () => existsSync(logFile) && readFileSync(logFile, 'utf8').includes('bridgehead ready'),
  });
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    linkUrl: `tcp://127.0.0.1:${linkPort}`,
    folder,
    logFile,
    process: child,
    stop: async () => {
      await child.stop();
      if (options.folder === undefined) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The caller's shell must not reconfigure what a test or the demo starts. */
function withoutBridgehead(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  const ownNames = ['REDIS_URL', 'DATABASE_URL', 'DATABASE_REPLICA_URL', 'DATABASE_LISTEN_URL', 'LOG_LEVEL'];
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !name.startsWith('BRIDGEHEAD_') && !ownNames.includes(name)),
  );
}
