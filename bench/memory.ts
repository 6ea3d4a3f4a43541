import { setTimeout as delay } from 'node:timers/promises';
import { atLeast, atMost, rounded, type Bench, type BenchOptions, type BenchResult } from './lib/bench.ts';
import { measureLinkedMemory, type LinkedMemory } from './lib/linked-memory.ts';
import { LoadClient } from './lib/load.ts';
import { startBareRelay, startBridgeheadPeer, startNginxPeer, startTrivialUpstream, type Peer } from './lib/peers.ts';
import { openFilesLimit, residentBytes } from './lib/proc.ts';

const WANTED = 10_000;
/** Sessions that are opened and closed before, so that code and pools are not charged to the measured ones. */
const WARM_UP = 200;
/** Files a relay opens besides two sockets for each session. */
const OTHER_FILES = 100;

interface Row {
  readonly name: string;
  readonly kilobytes: number;
}

export const memory: Bench = {
  name: 'memory',
  summary:
    'resident memory for each idle session: of relays to a trivial upstream, of a real Python worker direct and linked',
  async run(options): Promise<BenchResult> {
    const sessions = Math.min(options.quick ? 2_500 : WANTED, Math.floor((openFilesLimit() - OTHER_FILES) / 2));
    const upstream = await startTrivialUpstream();
    const rows: Row[] = [];
    try {
      for (const start of [startNginxPeer, startBareRelay, startBridgeheadPeer]) {
        const peer = await start(upstream);
        try {
          rows.push({ name: peer.name, kilobytes: await perSession(peer, sessions, options) });
        } finally {
          await peer.stop();
        }
      }
    } finally {
      await upstream.stop();
    }
    const wanted = options.quick ? 1_000 : WANTED;
    const real = Math.min(wanted, openFilesLimit() - OTHER_FILES);
    return report(rows, sessions, await measureLinkedMemory(real, options), real, options.quick);
  },
};

/** kB (1,000 bytes) of resident memory that each idle session adds. */
async function perSession(peer: Peer, sessions: number, { quick, say }: BenchOptions): Promise<number> {
  const client = new LoadClient();
  try {
    await client.open(peer.port, WARM_UP);
    await client.measure(500);
    await client.close();
    await delay(1_000);
    const before = residentBytes(peer.pid);
    say(`${peer.name}: opening ${sessions} sessions`);
    await client.open(peer.port, sessions);
    const idle = await settled(peer.pid, quick ? 5_000 : 15_000);
    await client.close();
    return (idle - before) / sessions / 1000;
  } finally {
    client.stop();
  }
}

/** The last of the samples: the runtime gives memory back only some seconds after the work. */
async function settled(pid: number, milliseconds: number): Promise<number> {
  const end = Date.now() + milliseconds;
  let bytes = residentBytes(pid);
  while (Date.now() < end) {
    await delay(500);
    bytes = residentBytes(pid);
  }
  return bytes;
}

export function report(
  rows: readonly Row[],
  sessions: number,
  real: LinkedMemory,
  realSessions: number,
  quick: boolean,
): BenchResult {
  const figures: Record<string, number> = { sessions, real_sessions: realSessions };
  for (const { name, kilobytes } of rows)
    figures[`${name.replace(' ', '_')}_kilobytes_per_session`] = rounded(kilobytes);
  figures['python_direct_kilobytes_per_session'] = rounded(real.direct);
  figures['python_linked_kilobytes_per_session'] = rounded(real.linked);
  figures['bridgehead_linked_kilobytes_per_session'] = rounded(real.sidecar);
  const ours = rows.find(({ name }) => name === 'bridgehead')?.kilobytes ?? Number.NaN;
  const few = Math.min(sessions, realSessions);
  return {
    figures,
    table: [
      ...rows.map(({ name, kilobytes }) => ({ process: name, sessions, 'kB/session': kilobytes })),
      { process: 'Python worker, direct', sessions: realSessions, 'kB/session': real.direct },
      { process: 'Python worker, linked', sessions: realSessions, 'kB/session': real.linked },
      { process: 'bridgehead, linked', sessions: realSessions, 'kB/session': real.sidecar },
    ],
    targets: {
      // Figures of a few sessions say little; --quick asks for few.
      ...(!quick && { sessions: atLeast(few, WANTED) }),
      direct_kilobytes_per_session: atMost(ours, 30),
      python_linked_to_direct: atMost(real.linked / real.direct, 1 / 30),
      linked_kilobytes_per_session: atMost(real.sidecar, 15),
    },
    notes:
      few < WANTED
        ? [
            `${few} sessions, not ${WANTED}: ${quick ? '--quick' : `raise the hard limit of ulimit -n to ${WANTED * 2 + OTHER_FILES}`}.`,
          ]
        : [],
  };
}
