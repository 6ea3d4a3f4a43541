import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { checkout } from '../../../tools/checkout.ts';

const adapters = (await readdir(join(checkout, 'src', 'adapters'), { withFileTypes: true }))
  .filter((entry) => entry.isDirectory() && entry.name !== 'shared')
  .map(({ name }) => name);

const across = adapters.flatMap((to): [file: string, source: string][] => {
  const from = adapters.find((name) => name !== to) ?? '';
  return [[`src/adapters/${from}/to-${to}.ts`, `export * from '../${to}/x.ts';`]];
});

const wrong: [file: string, source: string][] = [
  ...across,
  ['src/adapters/bus/core.ts', `export * from '../../core/x.ts';`],
  ['src/core/relay/adapter.ts', `export * from '../../adapters/bus/x.ts';`],
  ['src/protocol/ports.ts', `export * from '../ports/x.ts';`],
  ['src/top-config.ts', `export * from '../config/x.ts';`],
  ['src/top-sidecar.ts', `export * from '../sidecar/x.ts';`],
  ['src/top-environment.ts', `export const home = process.env['HOME'];`],
  ['src/top-exit.ts', `process.exit(1);`],
  ['config/sidecar.ts', `export * from '../sidecar/x.ts';`],
];

const right: [file: string, source: string][] = [
  ['src/adapters/bus/shared.ts', `export * from '../shared/x.ts';`],
  ['src/adapters/bus/port.ts', `export * from '../../ports/x.ts';`],
  ['src/top-parts.ts', `export * from './core/x.ts';\nexport * from './adapters/bus/y.ts';`],
];

it('the linter refuses imports that go the wrong way, and what a library must not do', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-lint-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(join(checkout, '.oxlintrc.json'), join(folder, '.oxlintrc.json'));
  for (const [file, source] of [...wrong, ...right]) {
    await mkdir(dirname(join(folder, file)), { recursive: true });
    await writeFile(join(folder, file), `${source}\n`);
  }
  const oxlint = join(checkout, 'node_modules', '.bin', 'oxlint');
  const { stdout } = spawnSync(oxlint, ['--format', 'unix'], { cwd: folder, encoding: 'utf8' });
  const found = new Set([...stdout.matchAll(/^(\S+?):\d+:\d+:/gm)].map(([, file]) => file));
  expect(found).toEqual(new Set(wrong.map(([file]) => file)));
});
