import { setTimeout as delay } from 'node:timers/promises';
import { pythonEnv } from '../tools/python-env.ts';
import { startRedis } from '../tools/services/index.ts';
import { atMost, rounded, type Bench, type BenchOptions, type BenchResult } from './lib/bench.ts';
import { openFilesLimit } from './lib/proc.ts';
import { percentile } from './lib/statistics.ts';
import { startLinkedFleet, startNginxFleet, type Fleet } from './lib/tally-fleet.ts';
import { now } from './lib/tab.ts';
import { Tabs, type TabsReport } from './lib/tabs.ts';

const WANTED = 10_000;
const WORKERS = 3;
/** Pages that are not cut, and go on sending. */
const OTHERS = 50;
const PER_SECOND = 1;
/** Files that a process opens besides two for each session. */
const OTHER_FILES = 200;
/** When it is given up. Milliseconds for each page. */
const PATIENCE = 60;

interface Series {
  readonly name: Fleet['name'];
  /** Milliseconds from the cut until the last page was whole again, or until it was given up. */
  readonly took: number;
  readonly missing: number;
  readonly crowd: TabsReport;
  readonly others: TabsReport;
  readonly cutAt: number;
}

export const storm: Bench = {
  name: 'storm',
  summary: 'thousands of pages come back at once, and what the others feel of it: behind nginx, behind Bridgehead',
  async run(options): Promise<BenchResult> {
    const wanted = options.quick ? 1_000 : WANTED;
    const pages = Math.min(wanted, Math.floor((openFilesLimit() - OTHER_FILES) / 2));
    const python = await pythonEnv({ onProgress: options.say });
    const all: Series[] = [];
    for (const start of [startNginxFleet, startLinkedFleet]) {
      const redis = await startRedis();
      try {
        const fleet = await start({ python, redisUrl: redis.url }, WORKERS);
        try {
          all.push(await cutAndReturn(fleet, pages, options));
        } finally {
          await fleet.stop();
        }
      } finally {
        await redis.stop();
      }
    }
    return summarize(all, pages);
  },
};

async function cutAndReturn(fleet: Fleet, pages: number, { say, quick }: BenchOptions): Promise<Series> {
  const crowd = new Tabs();
  const others = new Tabs();
  try {
    await others.open(fleet.port, `${fleet.name}-other`, OTHERS);
    say(`${fleet.name}: opening ${pages} pages`);
    await crowd.open(fleet.port, `${fleet.name}-crowd`, pages, 16);
    await others.send(PER_SECOND);
    await delay(quick ? 5_000 : 15_000);
    say(`${fleet.name}: cut`);
    const cutAt = now();
    await crowd.cut();
    const end = cutAt + PATIENCE * pages;
    let hydrated = 0;
    while (hydrated < pages && now() < end) {
      await delay(200);
      ({ hydrated } = await crowd.status());
    }
    say(`${fleet.name}: ${hydrated} of ${pages} are back after ${Math.round((now() - cutAt) / 100) / 10} s`);
    const took = now() - cutAt;
    await others.silence();
    const tail = now() + 30_000;
    while ((await others.status()).pending > 0 && now() < tail) await delay(200);
    const reports = { crowd: await crowd.close(), others: await others.close() };
    return { name: fleet.name, took, missing: pages - hydrated, cutAt, ...reports };
  } finally {
    crowd.stop();
    others.stop();
  }
}

/** Sorted milliseconds from act to answer of the others: before the cut, or while the crowd comes back. */
function waits({ others, cutAt, took }: Series, when: 'before' | 'meanwhile'): number[] {
  const isIn = (at: number): boolean => (when === 'before' ? at < cutAt : at >= cutAt && at <= cutAt + took);
  return others.events
    .filter(({ at }) => isIn(at))
    .map(({ at, answered }) => (answered ?? Infinity) - at)
    .toSorted((a, b) => a - b);
}

function summarize(all: readonly Series[], pages: number): BenchResult {
  const figures: Record<string, number> = { pages, others: OTHERS };
  const table = all.map((series) => {
    const { name, took, missing, crowd, others } = series;
    const back = crowd.cuts.map(({ at, hydrated }) => (hydrated ?? Infinity) - at).toSorted((a, b) => a - b);
    const row = {
      'all back s': took / 1000,
      'half back s': percentile(back, 0.5) / 1000,
      missing,
      new_token: crowd.newTokens.length,
      'others p50 ms before': percentile(waits(series, 'before'), 0.5),
      'p99 before': percentile(waits(series, 'before'), 0.99),
      'p50 meanwhile': percentile(waits(series, 'meanwhile'), 0.5),
      'p99 meanwhile': percentile(waits(series, 'meanwhile'), 0.99),
    };
    figures[`${name}_all_back_seconds`] = rounded(took / 1000);
    figures[`${name}_missing`] = missing;
    figures[`${name}_new_tokens`] = crowd.newTokens.length;
    figures[`${name}_others_p99_before_ms`] = rounded(row['p99 before']);
    figures[`${name}_others_p50_ms`] = rounded(row['p50 meanwhile']);
    figures[`${name}_others_p99_ms`] = rounded(row['p99 meanwhile']);
    figures[`${name}_others_cut`] = others.cuts.length;
    return { 'three workers behind': name, ...row };
  });
  const [nginx, ours] = all as readonly [Series, Series];
  const p99 = (series: Series): number => percentile(waits(series, 'meanwhile'), 0.99);
  return {
    figures,
    table,
    targets: {
      missing: atMost(ours.missing, 0),
      new_tokens: atMost(ours.crowd.newTokens.length + ours.others.newTokens.length, 0),
      others_cut: atMost(ours.others.cuts.length, 0),
      others_lost: atMost(ours.others.events.filter(({ answered, told }) => answered === null && !told).length, 0),
      others_p99_to_nginx: atMost(p99(ours) / p99(nginx), 1),
    },
    notes: pages < WANTED ? [`${pages} pages, not ${WANTED}: --quick, or more sockets than ulimit -n allows.`] : [],
  };
}
