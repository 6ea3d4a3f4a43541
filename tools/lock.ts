import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { waitUntil } from './process.ts';

/** The locks of this process: a file with our own id that is not here is left over from a process that had the same id. */
const held = new Set<string>();

/** Runs `work` while no other process does so under the same file; a lock whose owner is dead is taken over. */
export async function withLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(file), { recursive: true });
  await waitUntil(() => tryLock(file), { timeoutMs: 20 * 60_000, intervalMs: 200, what: `the lock ${file}` });
  try {
    return await work();
  } finally {
    held.delete(file);
    rmSync(file, { force: true });
  }
}

function tryLock(file: string): boolean {
  try {
    const lock = openSync(file, 'wx');
    writeSync(lock, String(process.pid));
    closeSync(lock);
    held.add(file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  if (ownerIsDead(file)) rmSync(file, { force: true });
  return false;
}

function ownerIsDead(file: string): boolean {
  let owner = Number.NaN;
  try {
    owner = Number.parseInt(readFileSync(file, 'utf8'), 10);
    // Written right after it was made: an empty one belongs to a process that is about to write.
    if (Number.isNaN(owner)) return false;
    if (owner === process.pid) return !held.has(file);
    process.kill(owner, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH' && !Number.isNaN(owner);
  }
}
