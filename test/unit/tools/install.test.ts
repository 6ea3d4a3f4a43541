import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { findProgram } from '../../../tools/services/install.ts';

it('finds a program by its own name first, then by its other names', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-programs-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const make = async (name: string): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, '');
    await chmod(path, 0o755);
    return path;
  };
  const program = { name: 'browser-a', otherNames: ['browser-b', 'browser-c'], aptPackage: 'none', folders: [folder] };
  expect(findProgram(program)).toBeUndefined();
  const other = await make('browser-c');
  expect(findProgram(program)).toBe(other);
  const own = await make('browser-a');
  expect(findProgram(program)).toBe(own);
});
