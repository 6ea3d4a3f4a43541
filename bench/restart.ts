import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { pythonEnv } from '../tools/python-env.ts';
import { startRedis } from '../tools/services/index.ts';
import { atMost, rounded, type Bench, type BenchOptions, type BenchResult } from './lib/bench.ts';
import { percentile } from './lib/statistics.ts';
import { startLinkedFleet, startNginxFleet, type Fleet } from './lib/tally-fleet.ts';
import { now } from './lib/tab.ts';
import { Tabs, type SentEvent, type TabsReport } from './lib/tabs.ts';

const CLIENTS = 500;
const WORKERS = 3;
const WANTED_RATE = 2;
/** Of what the slower of both carries with all workers: restarts cost processor time of their own, and a worker is missing. */
const SHARE = 0.35;
/** How long the last events may take. Milliseconds. */
const TAIL = 30_000;

/** An event that was sent so long before a signal may be under way when it comes. Milliseconds. */
const UNDER_WAY = 1_000;

type Phase = 'steady' | 'draining' | 'starting' | 'crash';

interface Span {
  readonly phase: Phase;
  readonly from: number;
  readonly to: number;
}

interface Series {
  readonly name: Fleet['name'];
  readonly spans: Span[];
  readonly report: TabsReport;
  /** Runs of each event, as the handlers counted them: `tab:number`. */
  readonly runs: ReadonlyMap<string, number>;
}

export const restart: Bench = {
  name: 'restart',
  summary: 'a rolling restart and a crash of three real workers under load: behind nginx, behind Bridgehead',
  async run(options): Promise<BenchResult> {
    const python = await pythonEnv({ onProgress: options.say });
    const redis = await startRedis();
    const services = { python, redisUrl: redis.url };
    const fleets: Fleet[] = [];
    const tabs = new Map<Fleet, Tabs>();
    try {
      options.say(`starting twice ${WORKERS} workers`);
      fleets.push(await startNginxFleet(services, WORKERS), await startLinkedFleet(services, WORKERS));
      for (const fleet of fleets) {
        const pages = new Tabs();
        tabs.set(fleet, pages);
        options.say(`${fleet.name}: opening ${CLIENTS} pages`);
        await pages.open(fleet.port, fleet.name, CLIENTS);
        // All workers compile their hot code first.
        await pages.load(4_000);
      }
      const carried: number[] = [];
      for (const pages of tabs.values()) carried.push(await pages.load(options.quick ? 4_000 : 8_000));
      const perSecond = Math.min(WANTED_RATE, (Math.min(...carried) * SHARE) / CLIENTS);
      options.say(`nginx carries ${carried.map((rate) => Math.round(rate)).join(' events/s, bridgehead ')} events/s`);
      options.say(`${rounded(perSecond)} events/s of each of ${CLIENTS} clients`);
      const all: Series[] = [];
      for (const fleet of fleets) {
        const pages = tabs.get(fleet) as Tabs;
        const spans = await disturb(fleet, pages, perSecond, options);
        all.push({ name: fleet.name, spans, report: await pages.close(), runs: await countedRuns(redis.url) });
      }
      return summarize(all, perSecond, carried);
    } finally {
      for (const pages of tabs.values()) pages.stop();
      for (const fleet of fleets) await fleet.stop();
      await redis.stop();
    }
  },
};

/** Steady, then one worker after the other is stopped and started, then one is killed; all under load. */
async function disturb(fleet: Fleet, pages: Tabs, perSecond: number, { quick, say }: BenchOptions): Promise<Span[]> {
  const spans: Span[] = [];
  const during = async (phase: Phase, action: () => Promise<void>): Promise<void> => {
    const from = now();
    await action();
    spans.push({ phase, from, to: now() });
  };
  const settle = quick ? 3_000 : 8_000;
  await pages.send(perSecond);
  await during('steady', () => delay(quick ? 5_000 : 15_000).then(() => undefined));
  for (const [index, worker] of fleet.workers.entries()) {
    say(`${fleet.name}: SIGTERM to worker ${index + 1}`);
    await during('draining', () => worker.terminate());
    await during('starting', async () => {
      await worker.restart();
      await fleet.serving(WORKERS);
      await delay(settle);
    });
  }
  say(`${fleet.name}: SIGKILL to worker 1`);
  await during('crash', async () => {
    await fleet.workers[0]?.kill();
    await delay(quick ? 10_000 : 20_000);
  });
  await pages.silence();
  const end = Date.now() + TAIL;
  while (Date.now() < end) {
    const { hydrated, pending } = await pages.status();
    if (hydrated === CLIENTS && pending === 0) break;
    await delay(250);
  }
  return spans;
}

async function countedRuns(url: string): Promise<Map<string, number>> {
  const client = new Redis(url);
  const runs = await client.hgetall('tally');
  await client.quit();
  return new Map(Object.entries(runs).map(([event, count]) => [event, Number(count)]));
}

interface Counts {
  readonly disconnects: number;
  readonly newTokens: number;
  /** Neither answered nor told. */
  readonly lost: number;
  readonly told: number;
  readonly twice: number;
  readonly outOfOrder: number;
}

function countsOf({ report, runs }: Series): Counts {
  const { events, cuts, newTokens, outOfOrder } = report;
  return {
    disconnects: cuts.length,
    newTokens: newTokens.length,
    lost: events.filter(({ answered, told }) => answered === null && !told).length,
    told: events.filter(({ answered, told }) => answered === null && told).length,
    twice: events.filter(({ tab, number }) => (runs.get(`${tab}:${number}`) ?? 0) > 1).length,
    outOfOrder,
  };
}

/** Told in place of an answer, though the worker was asked to stop: it had time to finish. Those under way at the signal are among them. */
function toldWhileDraining({ spans, report }: Series): number {
  const draining = spans.filter(({ phase }) => phase === 'draining');
  const isIn = ({ at }: SentEvent): boolean => draining.some(({ from, to }) => at >= from - UNDER_WAY && at <= to);
  return report.events.filter((event) => event.answered === null && event.told && isIn(event)).length;
}

/** Milliseconds from act to answer, sorted; unanswered ones are not in it. */
function waits({ spans, report }: Series, phase: Phase): number[] {
  const own = spans.filter((span) => span.phase === phase);
  const isIn = ({ at }: SentEvent): boolean => own.some(({ from, to }) => at >= from && at <= to);
  return report.events
    .filter(isIn)
    .flatMap(({ at, answered }) => (answered === null ? [] : [answered - at]))
    .toSorted((a, b) => a - b);
}

const PHASES: readonly Phase[] = ['steady', 'draining', 'starting', 'crash'];

function summarize(all: readonly Series[], perSecond: number, carried: readonly number[]): BenchResult {
  const figures: Record<string, number> = {
    clients: CLIENTS,
    events_per_second_of_each: rounded(perSecond),
    nginx_closed_loop_events_per_second: Math.round(carried[0] ?? Number.NaN),
    bridgehead_closed_loop_events_per_second: Math.round(carried[1] ?? Number.NaN),
  };
  const table = all.map((series) => {
    const { name, report } = series;
    const counts = countsOf(series);
    figures[`${name}_events`] = report.events.length;
    figures[`${name}_disconnects`] = counts.disconnects;
    figures[`${name}_new_tokens`] = counts.newTokens;
    figures[`${name}_lost`] = counts.lost;
    figures[`${name}_told`] = counts.told;
    figures[`${name}_told_while_draining`] = toldWhileDraining(series);
    figures[`${name}_twice`] = counts.twice;
    for (const phase of PHASES) {
      const sorted = waits(series, phase);
      figures[`${name}_${phase}_p50_ms`] = rounded(percentile(sorted, 0.5));
      figures[`${name}_${phase}_p99_ms`] = rounded(percentile(sorted, 0.99));
    }
    const p99 = (phase: Phase): number => percentile(waits(series, phase), 0.99);
    return {
      'three workers behind': name,
      events: report.events.length,
      disconnects: counts.disconnects,
      new_token: counts.newTokens,
      lost: counts.lost,
      told: counts.told,
      twice: counts.twice,
      'p99 ms steady': p99('steady'),
      draining: p99('draining'),
      starting: p99('starting'),
      crash: p99('crash'),
    };
  });
  const ours = all.find(({ name }) => name === 'bridgehead') as Series;
  const counts = countsOf(ours);
  return {
    figures,
    table,
    targets: {
      disconnects: atMost(counts.disconnects, 0),
      neither_answered_nor_told: atMost(counts.lost, 0),
      told_while_draining: atMost(toldWhileDraining(ours), 0),
      run_twice: atMost(counts.twice, 0),
      new_tokens: atMost(counts.newTokens, 0),
      out_of_order: atMost(counts.outOfOrder, 0),
      draining_p99_ms: atMost(percentile(waits(ours, 'draining'), 0.99), 1_000),
    },
    notes: [
      'draining: events sent between SIGTERM and the worker’s exit; starting: until it serves again and some seconds more.',
      ...(perSecond < WANTED_RATE
        ? [
            `${rounded(perSecond)} events/s of each client, not ${WANTED_RATE}: this machine carries ` +
              `${carried.map((rate) => Math.round(rate)).join(' (nginx) and ')} (bridgehead) events/s with ${WORKERS} workers, ` +
              `and ${SHARE * 100} % of the lesser is sent.`,
          ]
        : []),
      ...all.flatMap(({ name, report }) => report.toasts.map((toast) => `${name} showed ${toast}`)).slice(0, 6),
    ],
  };
}
