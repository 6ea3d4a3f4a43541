import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, checkout, pathWithPinnedNode } from './checkout.ts';
import { builtFrontend, shopFolder } from './frontend.ts';
import { run } from './process.ts';
import { findPythons, pythonEnv } from './python-env.ts';
import type { PythonEnv, ReflexVersion } from './python-env.ts';
import {
  chromiumProgram,
  haproxyProgram,
  nginxProgram,
  pgBouncerProgram,
  postgresProgram,
  redisProgram,
  requireProgram,
} from './services/index.ts';
import { uwsNode } from './uws.ts';
import { pytestCounts, vitestCounts } from './test-results.ts';
import type { Counts } from './test-results.ts';

interface Part {
  about: string;
  /** Throws if it fails as a whole; counts if it knows them. */
  work: () => Promise<Counts | undefined>;
}

const results = join(cacheFolder, 'test-results');
/** What this machine cannot run, said once more at the end. */
const notRun: string[] = [];
const onePassed: Counts = { passed: 1, failed: 0, skipped: 0 };

const parts: Readonly<Record<string, Part>> = {
  prepare: { about: 'services, Python environments, frontend', work: prepare },
  check: { about: 'types, lint, format, unused code', work: check },
  unit: { about: 'unit and conformance tests', work: () => vitest('unit', 15) },
  'python-check': { about: "the companion's types and style", work: pythonCheck },
  'python-0.9': { about: "the companion's tests on reflex 0.9", work: () => pytest('0.9') },
  'python-0.10': { about: "the companion's tests on reflex 0.10", work: () => pytest('0.10') },
  uws: { about: 'the conformance suite of servers over uWebSockets.js', work: uws },
  real: { about: 'integration, browser and fault tests with real services', work: () => vitest('real', 45) },
};

const usage = `npm test [-- PART…]

Runs all parts, or those that are named, in this order:
${Object.entries(parts)
  .map(([name, { about }]) => `  ${name.padEnd(13)} ${about}`)
  .join('\n')}

Missing services are installed with apt-get where that is possible. The last line is "N passed, N failed"; a part that
could not run counts as one failure.`;

function onProgress(text: string): void {
  console.log(`${text} …`);
}

async function prepare(): Promise<undefined> {
  for (const program of [
    redisProgram,
    postgresProgram,
    pgBouncerProgram,
    nginxProgram,
    haproxyProgram,
    chromiumProgram,
  ]) {
    console.log(`${program.name.padEnd(14)} ${await requireProgram(program)}`);
  }
  for (const { version, path } of findPythons()) console.log(`${`python ${version}`.padEnd(14)} ${path}`);
  const python = await pythonEnv({ reflex: '0.10', exact: true, onProgress });
  const older = await pythonEnv({ reflex: '0.9', exact: true, onProgress });
  for (const { reflex, version } of [python, older]) console.log(`reflex ${reflex} runs on Python ${version}`);
  await builtFrontend(python, { onProgress });
  return undefined;
}

async function check(): Promise<Counts> {
  await show('npm', ['run', '--silent', 'check'], 10);
  return onePassed;
}

async function pythonCheck(): Promise<Counts> {
  const python = await pythonEnv({ exact: true });
  console.log(`Python ${python.version}`);
  const folder = join(checkout, 'python');
  const apps = [shopFolder, join(checkout, 'bench', 'app')];
  await show(join(python.bin, 'ruff'), ['check', '--no-cache', folder, ...apps], 1);
  await show(join(python.bin, 'ruff'), ['format', '--no-cache', '--check', '--exclude', '*.md', folder, ...apps], 1);
  await show(join(python.bin, 'mypy'), [], 5, folder);
  return onePassed;
}

async function vitest(project: string, minutes: number): Promise<Counts> {
  const file = join(results, `${project}.json`);
  return counted(file, vitestCounts, () =>
    show(
      join(checkout, 'node_modules', '.bin', 'vitest'),
      ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${file}`],
      minutes,
    ),
  );
}

async function uws(): Promise<Counts | undefined> {
  const node = await uwsNode().catch((cause: Error) => {
    throw new Error(`uWebSockets.js could not be fetched, so its suite did not run. ${cause.message}`, { cause });
  });
  if (typeof node === 'string') {
    notRun.push(`uws: ${node}`);
    return undefined;
  }
  const file = join(results, 'uws.json');
  const vitestMain = join(checkout, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const args = [...node.args, vitestMain, 'run', '--project', 'uws', ...reporters];
  return counted(file, vitestCounts, () =>
    show(node.command, args, 10, checkout, { BRIDGEHEAD_TEST_UWS: node.module }),
  );
}

async function pytest(reflex: ReflexVersion): Promise<Counts> {
  const python: PythonEnv = await pythonEnv({ reflex, exact: true });
  console.log(`Python ${python.version}`);
  const file = join(results, `python-${reflex}.xml`);
  return counted(file, pytestCounts, () =>
    show(
      python.python,
      ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', `--junitxml=${file}`],
      25,
      join(checkout, 'python'),
    ),
  );
}

/** A failing run still has counts; one that fails without a failed test (no tests, a crash) is a failure of its own. */
async function counted(file: string, read: (file: string) => Counts, work: () => Promise<void>): Promise<Counts> {
  await rm(file, { force: true });
  let failure: Error | undefined;
  try {
    await work();
  } catch (error) {
    failure = error as Error;
  }
  if (!existsSync(file)) throw failure ?? new Error(`${file} was not written`);
  const counts = read(file);
  if (failure !== undefined && counts.failed === 0) {
    console.error(failure.message);
    counts.failed = 1;
  }
  return counts;
}

async function show(
  command: string,
  args: readonly string[],
  minutes: number,
  cwd = checkout,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  await run({
    name: [command.split('/').at(-1), ...args].join(' '),
    command,
    args,
    cwd,
    env: { ...process.env, PATH: pathWithPinnedNode, ...env },
    logFile: 'inherit',
    timeoutMs: minutes * 60_000,
  });
}

async function main(names: readonly string[]): Promise<void> {
  await mkdir(results, { recursive: true });
  const sum: Counts = { passed: 0, failed: 0, skipped: 0 };
  const failures: string[] = [];
  for (const [name, part] of Object.entries(parts)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const began = Date.now();
    console.log(`\n=== ${name}: ${part.about} ===`);
    let counts: Counts | undefined;
    try {
      counts = await part.work();
    } catch (error) {
      console.error(error instanceof Error ? error.message : error);
      counts = { passed: 0, failed: 1, skipped: 0 };
    }
    const seconds = ((Date.now() - began) / 1000).toFixed(1);
    const { passed, failed, skipped } = counts ?? { passed: 0, failed: 0, skipped: 0 };
    sum.passed += passed;
    sum.failed += failed;
    const unable = notRun.some((text) => text.startsWith(`${name}:`)) ? 'not run' : 'done';
    const outcome = counts ? `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}` : unable;
    console.log(`--- ${name}: ${outcome} (${seconds} s)`);
    if (failed > 0) failures.push(`${name} (${failed})`);
  }
  if (notRun.length > 0) console.log(`\n=== NOT RUN: ${notRun.join('; ')} ===`);
  if (failures.length > 0) console.log(`\n=== FAILED: ${failures.join(', ')} ===`);
  console.log(`\n${sum.passed} passed, ${sum.failed} failed`);
  // Everything is done; what a failing test left behind must not hold the result back.
  process.exit(sum.failed > 0 ? 1 : 0);
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !Object.hasOwn(parts, name));
if (names.includes('--help') || names.includes('-h')) {
  console.log(usage);
} else if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(', ')}\n\n${usage}`);
  process.exitCode = 2;
} else {
  await main(names);
}
