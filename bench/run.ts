import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { stopAllOnSignals } from '../tools/process.ts';
import type { Bench } from './lib/bench.ts';
import { renderTable } from './lib/table.ts';

/** Loaded when run, so that one bench does not need what another imports. */
const BENCHES: Readonly<Record<string, () => Promise<Bench>>> = {
  relay: async () => (await import('./relay.ts')).relay,
  memory: async () => (await import('./memory.ts')).memory,
  upload: async () => (await import('./upload.ts')).upload,
  resolver: async () => (await import('./resolver.ts')).resolver,
  tiers: async () => (await import('./tiers.ts')).tiers,
  restart: async () => (await import('./restart.ts')).restart,
  storm: async () => (await import('./storm.ts')).storm,
  fanout: async () => (await import('./fanout.ts')).fanout,
  startup: async () => (await import('./startup.ts')).startup,
};

const USAGE = `npm run bench -- ${Object.keys(BENCHES).join('|')} [--quick] [--link] [--json FILE]

  --quick      shorter rounds and less data, same targets
  --link       relay: over a link and direct, side by side
  --json FILE  also writes the last line to FILE

Exit code: 0 if every target is met, 1 if not, 2 for a wrong call. See bench/README.md.
`;

async function main(): Promise<number> {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        quick: { type: 'boolean' },
        link: { type: 'boolean' },
        json: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  const { values, positionals } = parsed;
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  const load = positionals.length === 1 ? BENCHES[positionals[0] ?? ''] : undefined;
  if (load === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  stopAllOnSignals();
  const bench = await load();
  const say = (text: string): void => void process.stderr.write(`${bench.name}: ${text}\n`);
  const {
    figures,
    targets,
    table,
    notes = [],
  } = await bench.run({ quick: values.quick === true, link: values.link === true, say });
  const met = Object.values(targets).every((target) => target.met);
  process.stdout.write(`\n${renderTable(table)}\n\n`);
  const rows = Object.entries(targets).map(([target, { value, atMost, atLeast, met: reached }]) => ({
    target,
    value,
    wanted: atMost === undefined ? `>= ${atLeast}` : `<= ${atMost}`,
    met: reached ? 'yes' : 'NO',
  }));
  process.stdout.write(`${renderTable(rows)}\n\n`);
  for (const note of notes) process.stdout.write(`${note}\n`);
  const line = JSON.stringify({ bench: bench.name, figures, targets, met });
  if (values.json !== undefined) await writeFile(values.json, `${line}\n`);
  process.stdout.write(`${line}\n`);
  return met ? 0 : 1;
}

process.exitCode = await main();
