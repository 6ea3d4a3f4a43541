import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { atLeast, atMost, rounded, type Bench, type BenchResult } from './lib/bench.ts';
import { startBridgeheadPeer, startNginxPeer, startTrivialUpstream, type Peer } from './lib/peers.ts';
import { residentBytes } from './lib/proc.ts';
import { median, medianRatio } from './lib/statistics.ts';

const MB = 1_000_000;
/** What buffers on the way may take, whatever the size of the upload. */
const FLAT_MB = 64;
const run = promisify(execFile);

interface Series {
  readonly peer: Peer;
  readonly speeds: number[];
  readonly growths: number[];
}

export const upload: Bench = {
  name: 'upload',
  summary: 'one large multipart upload: direct, behind nginx (unbuffered), behind Bridgehead',
  async run({ quick, say }): Promise<BenchResult> {
    const bytes = (quick ? 256 : 1000) * MB;
    const rounds = quick ? 3 : 5;
    const started: Peer[] = [];
    const keep = (peer: Peer): Peer => {
      started.push(peer);
      return peer;
    };
    try {
      const upstream = keep(await startTrivialUpstream());
      const peers = [upstream, keep(await startNginxPeer(upstream)), keep(await startBridgeheadPeer(upstream))];
      const all = peers.map((peer): Series => ({ peer, speeds: [], growths: [] }));
      say('warming up');
      for (const { peer } of all) await uploadOnce(peer, 32 * MB);
      for (let round = 0; round < rounds; round++) {
        say(`round ${round + 1} of ${rounds}, ${bytes / MB} MB each`);
        const order = round % 2 === 0 ? all : all.toReversed();
        for (const series of order) {
          const { speed, growth } = await uploadOnce(series.peer, bytes);
          series.speeds.push(speed);
          series.growths.push(growth);
        }
      }
      return report(all);
    } finally {
      for (const peer of started.toReversed()) await peer.stop();
    }
  },
};

/** MB/s, and by how many MB the peer grew at most while the upload ran. */
async function uploadOnce({ port, pid }: Peer, bytes: number): Promise<{ speed: number; growth: number }> {
  const before = residentBytes(pid);
  let most = before;
  const watch = setInterval(() => {
    most = Math.max(most, residentBytes(pid));
  }, 20);
  try {
    const script = fileURLToPath(new URL('./lib/upload-client.ts', import.meta.url));
    const { stdout } = await run(process.execPath, [script, String(port), String(bytes)], { timeout: 120_000 });
    return { speed: bytes / MB / Number(stdout), growth: (most - before) / MB };
  } finally {
    clearInterval(watch);
  }
}

function report(all: readonly Series[]): BenchResult {
  const figures: Record<string, number> = {};
  for (const { peer, speeds, growths } of all) {
    figures[`${peer.name}_megabytes_per_second`] = Math.round(median(speeds));
    figures[`${peer.name}_growth_megabytes`] = rounded(Math.max(...growths));
  }
  const [, nginx, ours] = all as readonly [Series, Series, Series];
  return {
    figures,
    table: all.map(({ peer, speeds, growths }) => ({
      path: peer.name,
      'MB/s': median(speeds),
      'lowest-highest': `${Math.round(Math.min(...speeds))}-${Math.round(Math.max(...speeds))}`,
      'most growth, MB': Math.max(...growths),
    })),
    targets: {
      speed_to_nginx: atLeast(medianRatio(ours.speeds, nginx.speeds), 0.9),
      growth_megabytes: atMost(Math.max(...ours.growths), FLAT_MB),
    },
  };
}
