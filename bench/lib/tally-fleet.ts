/** Tally workers with something before them: nginx as one would do without Bridgehead, or Bridgehead with links. */
import { randomBytes } from 'node:crypto';
import { startBridgehead } from '../../tools/bridgehead.ts';
import { waitUntil } from '../../tools/process.ts';
import type { PythonEnv } from '../../tools/python-env.ts';
import { startNginxPeer } from './peers.ts';
import { TallyWorker } from './tally-worker.ts';

export interface Services {
  readonly python: PythonEnv;
  readonly redisUrl: string;
}

export interface Fleet {
  readonly name: 'nginx' | 'bridgehead';
  /** Where tabs connect. */
  readonly port: number;
  /** Of what stands before the workers. */
  readonly pid: number;
  readonly workers: readonly TallyWorker[];
  /** Until so many workers serve. */
  serving(workers: number): Promise<void>;
  stop(): Promise<void>;
}

/** Limits out of the way: a bench's clients share one address. */
const LIMITS = { sessions: 20_000, eventsPerSecond: 1_000_000, eventBurst: 1_000_000 };

export async function startNginxFleet(services: Services, count: number): Promise<Fleet> {
  const workers = await startAll(count, () => TallyWorker.start(services));
  const nginx = await startNginxPeer(...workers);
  return {
    name: 'nginx',
    port: nginx.port,
    pid: nginx.pid,
    workers,
    // A worker is started once it answers.
    serving: () => Promise.resolve(),
    stop: async () => {
      await nginx.stop();
      for (const worker of workers) await worker.stop();
    },
  };
}

export async function startLinkedFleet(services: Services, count: number): Promise<Fleet> {
  const secret = randomBytes(32).toString('base64url');
  const bridgehead = await startBridgehead({
    settings: { secret, redis: { url: services.redisUrl }, limits: LIMITS, log: { level: 'warn' } },
  });
  const link = { url: bridgehead.linkUrl, secret };
  const workers = await startAll(count, () => TallyWorker.start({ ...services, link }));
  const linked = async (): Promise<number> => {
    const stats = (await (await fetch(`${bridgehead.adminUrl}/api/stats`)).json()) as { links: unknown[] };
    return stats.links.length;
  };
  const serving = (wanted: number): Promise<void> =>
    waitUntil(async () => (await linked()) === wanted, { what: `${wanted} workers to be linked` });
  await serving(count);
  return {
    name: 'bridgehead',
    port: bridgehead.port,
    pid: bridgehead.process.pid,
    workers,
    serving,
    stop: async () => {
      for (const worker of workers) await worker.stop();
      await bridgehead.stop();
    },
  };
}

async function startAll(count: number, start: () => Promise<TallyWorker>): Promise<TallyWorker[]> {
  const workers: TallyWorker[] = [];
  for (let serial = 0; serial < count; serial++) workers.push(await start());
  return workers;
}
