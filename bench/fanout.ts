import { pythonEnv } from '../tools/python-env.ts';
import { atMost, rounded, type Bench, type BenchResult, type Target } from './lib/bench.ts';
import { measureLists, type BulkResult, type ListsResult } from './lib/fan-lists.ts';
import { LOADS, measurePushes, type Load, type PushRound } from './lib/fan-push.ts';
import { median } from './lib/statistics.ts';
import type { TableRow } from './lib/table.ts';

/** Rounds of one run differ by so much with the same program on both sides. */
const NOISE = 1.05;

export const fanout: Bench = {
  name: 'fanout',
  summary:
    'pushes to browsers beside AnyCable and Centrifugo’s engine; live lists through Python state; one bulk write',
  async run({ quick, say }): Promise<BenchResult> {
    const python = await pythonEnv({ onProgress: say });
    const pushes = await measurePushes({ rounds: quick ? 1 : 3, seconds: quick ? 4 : 10, say });
    const { lists, bulk } = await measureLists({
      python,
      buses: quick ? ['redis'] : ['memory', 'redis', 'redis-streams', 'postgres'],
      seconds: quick ? 10 : 30,
      bulkRounds: quick ? 1 : 3,
      say,
    });
    return summarize(pushes, lists, bulk);
  },
};

function summarize(
  pushes: readonly PushRound[],
  lists: readonly ListsResult[],
  bulk: readonly BulkResult[],
): BenchResult {
  const figures: Record<string, number> = {};
  const targets: Record<string, Target> = {};
  const table: TableRow[] = [];
  const peers = [...new Set(pushes.map(({ peer }) => peer))];
  for (const load of LOADS) {
    const name = `push_${load.clients}x${load.perSecond}`;
    for (const peer of peers) {
      const rounds = pushes.filter((one) => one.peer === peer && one.load === load);
      const p99 = median(rounds.map((one) => one.p99));
      figures[`${name}_${peer}_p99_ms`] = rounded(p99);
      figures[`${name}_${peer}_cpu_us`] = rounded(median(rounds.map(({ cpu }) => cpu)));
      table.push({
        what: `push, ${load.clients} clients, ${load.perSecond}/s`,
        who: peer,
        'p50 ms': median(rounds.map((one) => one.p50)),
        'p99 ms': p99,
        lost: missing(rounds),
        'cpu us/message': median(rounds.map(({ cpu }) => cpu)),
      });
    }
    targets[`${name}_p99_to_better_peer`] = atMost(toBetterPeer(pushes, load), NOISE);
    targets[`${name}_lost`] = atMost(
      missing(pushes.filter((one) => one.peer === 'bridgehead' && one.load === load)),
      0,
    );
  }
  for (const { bus, p50, p99, lost, cut, perSecond } of lists) {
    table.push({
      what: `200 live lists, ${rounded(perSecond)} changes/s`,
      who: bus,
      'p50 ms': p50,
      'p99 ms': p99,
      lost,
      'cpu us/message': Number.NaN,
    });
    figures[`lists_${bus}_p50_ms`] = rounded(p50);
    figures[`lists_${bus}_p99_ms`] = rounded(p99);
    targets[`lists_${bus}_lost_or_cut`] = atMost(lost + cut, 0);
  }
  table.push({
    what: '10,000 rows in one write, events of users',
    who: 'before',
    'p50 ms': Number.NaN,
    'p99 ms': median(bulk.map(({ p99Before }) => p99Before)),
    lost: 0,
    'cpu us/message': Number.NaN,
  });
  table.push({
    what: '10,000 rows in one write, events of users',
    who: 'meanwhile',
    'p50 ms': Number.NaN,
    'p99 ms': median(bulk.map(({ p99Meanwhile }) => p99Meanwhile)),
    lost: 0,
    'cpu us/message': Number.NaN,
  });
  targets['bulk_lists_right_seconds'] = atMost(median(bulk.map(({ right }) => right)), 5);
  targets['bulk_user_p99_ratio'] = atMost(
    median(bulk.map(({ p99Before, p99Meanwhile }) => p99Meanwhile / p99Before)),
    2,
  );
  targets['bulk_memory_growth_mib'] = atMost(Math.max(...bulk.map(({ growth }) => growth)), 32);
  targets['bulk_cut'] = atMost(Math.max(...bulk.map(({ cut }) => cut)), 0);
  return { figures, targets, table };
}

function missing(rounds: readonly PushRound[]): number {
  return rounds.reduce((sum, { expected, received }) => sum + expected - received, 0);
}

/** The median over the rounds of our p99 to that of whichever peer was better in that round. */
function toBetterPeer(pushes: readonly PushRound[], load: Load): number {
  const of = (who: (peer: string) => boolean): PushRound[] =>
    pushes.filter((one) => one.load === load && who(one.peer));
  const ours = of((peer) => peer === 'bridgehead');
  const theirs = of((peer) => peer !== 'bridgehead');
  const each = theirs.length / ours.length;
  return median(
    ours.map(
      ({ p99 }, round) => p99 / Math.min(...theirs.slice(round * each, (round + 1) * each).map((one) => one.p99)),
    ),
  );
}
