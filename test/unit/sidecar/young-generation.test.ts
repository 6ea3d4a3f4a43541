import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const module = fileURLToPath(new URL('../../../sidecar/young-generation.ts', import.meta.url));

/** Megabytes of V8's young generation in a process that keeps 100 MB of small objects, made a few at a time. */
function youngGeneration(prepare: string): number {
  const script = `
    import { getHeapSpaceStatistics } from 'node:v8';
    ${prepare}
    const kept = [];
    for (let turn = 0; turn < 400; turn++) {
      for (let n = 0; n < 2_000; n++) kept.push({ a: n, b: [n, turn], c: { d: n } });
      await new Promise((resolve) => setImmediate(resolve));
    }
    const young = getHeapSpaceStatistics().find((space) => space.space_name === 'new_space');
    console.log(young.space_size / 1e6);`;
  return Number(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' }));
}

it('keeps the young generation small, however much of what is new stays', () => {
  const bounded = youngGeneration(
    `import { boundYoungGeneration } from ${JSON.stringify(module)}; boundYoungGeneration();`,
  );
  expect(bounded).toBeLessThan(40);
  expect(youngGeneration('')).toBeGreaterThan(bounded);
});
