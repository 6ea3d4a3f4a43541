/** What an idle hydrated session costs a real Python worker, direct and over a link, and what the linked one costs the sidecar. */
import { setTimeout as delay } from 'node:timers/promises';
import { pythonEnv } from '../../tools/python-env.ts';
import { startRedis } from '../../tools/services/index.ts';
import type { BenchOptions } from './bench.ts';
import { residentBytes } from './proc.ts';
import { startLinkedFleet, type Fleet, type Services } from './tally-fleet.ts';
import { TallyWorker } from './tally-worker.ts';
import { Tabs } from './tabs.ts';

/** Opened and closed before, so that code and pools are not charged to the measured ones. */
const WARM_UP = 200;
/** Pages that are hydrated at a time. */
const AT_ONCE = 8;

/** kB (1,000 bytes) of resident memory for each session. */
export interface LinkedMemory {
  readonly direct: number;
  readonly linked: number;
  readonly sidecar: number;
}

export async function measureLinkedMemory(sessions: number, options: BenchOptions): Promise<LinkedMemory> {
  const redis = await startRedis();
  try {
    const services: Services = { python: await pythonEnv({ onProgress: options.say }), redisUrl: redis.url };
    const fleet = await startLinkedFleet(services, 1);
    let worker = 0;
    let sidecar = 0;
    try {
      [worker, sidecar] = (await grown(fleet.port, pidsOf(fleet), sessions, options, 'linked')) as [number, number];
    } finally {
      await fleet.stop();
    }
    const alone = await TallyWorker.start(services);
    try {
      const [direct = Number.NaN] = await grown(alone.port, [alone.pid], sessions, options, 'direct');
      return { direct, linked: worker, sidecar };
    } finally {
      await alone.stop();
    }
  } finally {
    await redis.stop();
  }
}

function pidsOf({ workers, pid }: Fleet): number[] {
  return [...workers.map((worker) => worker.pid), pid];
}

/** How much each of these processes grows by one session, in kB. */
async function grown(
  port: number,
  pids: readonly number[],
  sessions: number,
  { quick, say }: BenchOptions,
  name: string,
): Promise<number[]> {
  const pages = new Tabs();
  try {
    await pages.open(port, `${name}-warm-up`, WARM_UP, AT_ONCE);
    await pages.load(2_000);
    await pages.close();
    await delay(3_000);
    const before = pids.map((pid) => residentBytes(pid));
    say(`${name}: opening ${sessions} sessions of a real worker`);
    await pages.open(port, name, sessions, AT_ONCE);
    // The runtimes give memory back only some seconds after the work.
    await delay(quick ? 5_000 : 15_000);
    const idle = pids.map((pid) => residentBytes(pid));
    const { hydrated } = await pages.status();
    if (hydrated !== sessions) throw new Error(`${sessions - hydrated} sessions were lost meanwhile`);
    await pages.close();
    return idle.map((bytes, index) => (bytes - (before[index] ?? Number.NaN)) / sessions / 1000);
  } finally {
    pages.stop();
  }
}
