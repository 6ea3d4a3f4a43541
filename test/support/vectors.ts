import { readFileSync } from 'node:fs';

/** A file of test/vectors, which the companion's tests read too. */
export function loadVectors(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8'));
}
