/** Parts (b) and (c) of the bench fanout: live lists in Python state, over two sidecars and four workers. */
import { setTimeout as delay } from 'node:timers/promises';
import type { PythonEnv } from '../../tools/python-env.ts';
import { sharedMicroseconds } from './fan.ts';
import { LiveStage, type Bus } from './live-stage.ts';
import { residentBytes } from './proc.ts';
import { Shelves, type Seen } from './shelf.ts';
import { median, percentile } from './statistics.ts';

const LISTS = 200;
const ACTORS = 40;
const ACTS_PER_SECOND = 2;
/** Of what one change after the other would allow: the workers have time for it. */
const SHARE_OF_CAPACITY = 0.35;
/** Rows that are no part of a version. */
const ASIDE = 1_000_000;
const BULK_ROWS = 10_000;
const ROWS_IN_LIST = 40;
const BULK_PREFIX = 'Bulk ';
const GIVE_UP = 60_000;
const MEBI = 1024 * 1024;

/** Milliseconds. */
export interface ListsResult {
  readonly bus: Bus;
  readonly changes: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  /** Lists that did not show the last change in the end. */
  readonly lost: number;
  readonly cut: number;
}

export interface BulkResult {
  /** From the commit until the last list was right. Seconds; Infinity where one never was. */
  readonly right: number;
  /** Of the users' events, milliseconds. */
  readonly p99Before: number;
  readonly p99Meanwhile: number;
  /** Of both sidecars, the worse one. MiB. */
  readonly growth: number;
  readonly cut: number;
}

export interface ListsOptions {
  readonly python: PythonEnv;
  readonly buses: readonly Bus[];
  readonly seconds: number;
  readonly bulkRounds: number;
  readonly say: (text: string) => void;
}

export async function measureLists(
  options: ListsOptions,
): Promise<{ readonly lists: ListsResult[]; readonly bulk: BulkResult[] }> {
  const { python, buses, say } = options;
  say('starting four workers of the shop');
  const stage = await LiveStage.start(python);
  try {
    const lists: ListsResult[] = [];
    for (const bus of buses) lists.push(await onBus(stage, bus, options));
    return { lists, bulk: await bulk(stage, options) };
  } finally {
    await stage.stop();
  }
}

async function onBus(stage: LiveStage, bus: Bus, { seconds, say }: ListsOptions): Promise<ListsResult> {
  await stage.open(bus);
  const { database } = stage;
  await database.query(
    'UPDATE shop_product SET stock = CASE id WHEN (SELECT min(id) FROM shop_product) THEN 0 ELSE $1::int END',
    [ASIDE],
  );
  const shelves = new Shelves();
  try {
    say(`${bus}: opening ${LISTS} lists`);
    await shelves.open(portsOf(stage), LISTS, 0);
    let version = 0;
    const change = async (): Promise<number> => {
      const at = sharedMicroseconds();
      await database.query('UPDATE shop_product SET stock = $1 WHERE id = (SELECT min(id) FROM shop_product)', [
        ++version,
      ]);
      return at;
    };
    const times: number[] = [];
    for (let turn = 0; turn < 4; turn++) {
      const began = performance.now();
      await change();
      await reached(shelves, version);
      // The first one warms up.
      if (turn > 0) times.push(performance.now() - began);
    }
    const period = median(times) / SHARE_OF_CAPACITY;
    const count = Math.max(8, Math.round((seconds * 1000) / period));
    say(
      `${bus}: a change reaches all after ${Math.round(median(times))} ms; ${count} changes, one each ${Math.round(period)} ms`,
    );
    await shelves.forget();
    const first = version + 1;
    const sent: number[] = [];
    for (let turn = 0; turn < count; turn++) {
      sent.push(await change());
      await delay(period);
    }
    const lost = await reached(shelves, version);
    const { seen, cut } = await shelves.report();
    const waits = seen.flatMap((one) => waitsOf(one, first, sent)).toSorted((a, b) => a - b);
    await shelves.close();
    return {
      bus,
      changes: count,
      perSecond: 1000 / period,
      p50: percentile(waits, 0.5),
      p99: percentile(waits, 0.99),
      lost,
      cut,
    };
  } finally {
    shelves.stop();
  }
}

/** Milliseconds from each change to the moment at which the list showed it, or one after it. */
function waitsOf(seen: readonly Seen[], first: number, sent: readonly number[]): number[] {
  return sent.map((at, index) => {
    const shown = seen.find((one) => one.version >= first + index);
    return shown === undefined ? Infinity : (shown.at - at) / 1000;
  });
}

/** Until every list shows it; how many never do. */
async function reached(shelves: Shelves, version: number): Promise<number> {
  const end = performance.now() + GIVE_UP;
  for (;;) {
    const { behind } = await shelves.status(version);
    if (behind === 0 || performance.now() > end) return behind;
    await delay(20);
  }
}

async function bulk(stage: LiveStage, { bulkRounds, say }: ListsOptions): Promise<BulkResult[]> {
  const { database } = stage;
  await database.query(
    `INSERT INTO shop_product (slug, name, category, description, price, stock)
     SELECT 'bulk-' || n, 'Item ' || n, $1::text || (n % $2::int), 'One of many', 9.90, 0 FROM generate_series(0, $3::int - 1) n`,
    [BULK_PREFIX, BULK_ROWS / ROWS_IN_LIST, BULK_ROWS],
  );
  await stage.open('redis');
  const shelves = new Shelves();
  const results: BulkResult[] = [];
  try {
    say(`bulk: opening ${LISTS} lists and ${ACTORS} other pages`);
    await shelves.open(portsOf(stage), LISTS, ACTORS);
    await shelves.choose(BULK_PREFIX, ROWS_IN_LIST);
    await shelves.act(ACTS_PER_SECOND);
    for (let round = 1; round <= bulkRounds; round++) {
      await delay(10_000);
      say(`bulk: ${BULK_ROWS} rows at once, round ${round}`);
      results.push(await bulkRound(stage, shelves, round));
    }
    await shelves.rest();
    await shelves.close();
  } finally {
    shelves.stop();
  }
  return results;
}

async function bulkRound(stage: LiveStage, shelves: Shelves, version: number): Promise<BulkResult> {
  const pids = stage.sidecars.map(({ process }) => process.pid);
  const memory = pids.map((pid) => residentBytes(pid));
  const peaks = [...memory];
  const before = await shelves.report();
  await shelves.forget();
  const from = sharedMicroseconds();
  await stage.database.query('UPDATE shop_product SET stock = $1 WHERE category LIKE $2', [version, `${BULK_PREFIX}%`]);
  const committed = performance.now();
  let right = Infinity;
  // The users' events are watched for as long as the lists should take, or do.
  while (performance.now() < committed + (right === Infinity ? GIVE_UP : 5_000)) {
    for (const [index, pid] of pids.entries()) peaks[index] = Math.max(peaks[index] as number, residentBytes(pid));
    if (right === Infinity && (await shelves.status(version)).behind === 0)
      right = (performance.now() - committed) / 1000;
    await delay(50);
  }
  const end = performance.now() + 10_000;
  while ((await shelves.status(version)).pending > ACTORS && performance.now() < end) await delay(100);
  const meanwhile = await shelves.report();
  await shelves.forget();
  return {
    right,
    p99Before: p99(before.waits),
    p99Meanwhile: p99(meanwhile.waits.filter(({ at }) => at >= from)),
    growth: Math.max(...peaks.map((peak, index) => peak - (memory[index] as number))) / MEBI,
    cut: meanwhile.cut,
  };
}

function p99(waits: readonly { readonly took: number }[]): number {
  return percentile(
    waits.map(({ took }) => took).toSorted((a, b) => a - b),
    0.99,
  );
}

function portsOf(stage: LiveStage): number[] {
  return stage.sidecars.map(({ port }) => port);
}
