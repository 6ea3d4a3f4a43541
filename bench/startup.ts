import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkout } from '../tools/checkout.ts';
import { atMost, rounded, type Bench, type BenchResult } from './lib/bench.ts';
import { startTrivialUpstream } from './lib/peers.ts';
import { median } from './lib/statistics.ts';

const TOO_LONG_MS = 30_000;

interface Start {
  readonly name: string;
  readonly key: string;
  readonly args: readonly string[];
  readonly seconds: number[];
}

export const startup: Bench = {
  name: 'startup',
  summary: 'from starting the process to its ready line, with a JSON and a TypeScript configuration',
  async run({ quick, say }): Promise<BenchResult> {
    const rounds = quick ? 5 : 15;
    const folder = await mkdtemp(join(tmpdir(), 'bridgehead-bench-'));
    const upstream = await startTrivialUpstream();
    try {
      const backends = `http://127.0.0.1:${upstream.port}`;
      const json = join(folder, 'bridgehead.config.json');
      const plain = join(folder, 'plain.ts');
      await writeFile(json, JSON.stringify({ backends: [backends] }));
      await writeFile(plain, "const word: string = 'ready';\nprocess.stdout.write(word);\n");
      const serve = [join(checkout, 'sidecar', 'cli.ts'), 'serve', '--config'];
      const example = join(checkout, 'config', 'bridgehead.config.ts');
      const starts: Start[] = [
        { name: 'node alone', key: 'node', args: [plain], seconds: [] },
        { name: 'serve, JSON configuration', key: 'json', args: [...serve, json], seconds: [] },
        {
          name: 'serve, the commented example in TypeScript',
          key: 'typescript',
          args: [...serve, example],
          seconds: [],
        },
      ];
      const env = environment(backends);
      for (let round = 0; round < rounds; round++) {
        say(`round ${round + 1} of ${rounds}`);
        for (const start of starts) start.seconds.push(await secondsToReady(start.args, folder, env));
      }
      return report(starts);
    } finally {
      await upstream.stop();
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/** Free ports and a secret over whatever the file says; nothing of the caller's own Bridgehead. */
function environment(backends: string): NodeJS.ProcessEnv {
  const foreign = /^(BRIDGEHEAD_|REDIS_URL$|DATABASE_|LOG_LEVEL$)/;
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name))),
    BRIDGEHEAD_LISTEN: '127.0.0.1:0',
    BRIDGEHEAD_ADMIN_LISTEN: '127.0.0.1:0',
    BRIDGEHEAD_LINK_LISTEN: '127.0.0.1:0',
    BRIDGEHEAD_BACKENDS: backends,
    BRIDGEHEAD_SECRET: 'a secret for the bench, long enough to be taken',
  };
}

function secondsToReady(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const child = spawn(process.execPath, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    const timer = setTimeout(() => child.kill('SIGKILL'), TOO_LONG_MS);
    let seconds: number | undefined;
    let output = '';
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (seconds !== undefined || !/\bready\b/.test(output)) return;
      seconds = (performance.now() - began) / 1000;
      child.kill('SIGTERM');
    });
    child.on('error', reject);
    child.on('close', () => {
      clearTimeout(timer);
      if (seconds === undefined) reject(new Error(`not ready: ${args.join(' ')}\n${output}${errors}`));
      else resolve(seconds);
    });
  });
}

function report(starts: readonly Start[]): BenchResult {
  const figures: Record<string, number> = {};
  for (const { key, seconds } of starts) figures[`${key}_p50_seconds`] = rounded(median(seconds));
  const slowest = Math.max(...starts.map(({ seconds }) => median(seconds)));
  return {
    figures,
    table: starts.map(({ name, seconds }) => ({
      start: name,
      'p50 s': median(seconds),
      'lowest-highest': `${Math.min(...seconds).toFixed(2)}-${Math.max(...seconds).toFixed(2)}`,
    })),
    targets: { ready_p50_seconds: atMost(slowest, 1.5) },
  };
}
