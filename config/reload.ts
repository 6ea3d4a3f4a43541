import { allKeys, valueAt } from './keys.ts';
import { deepFreeze, merge } from './layers.ts';
import type { Config } from './schema.ts';

export interface Reloaded {
  /** The running configuration with what may change taken from the other one. */
  readonly config: Config;
  /** Paths that changed and are now in force. */
  readonly applied: readonly string[];
  /** Paths that changed and wait for a restart. */
  readonly restart: readonly string[];
}

/** Splits the difference of two configurations by what a running process can take up. */
export function reloaded(running: Config, next: Config): Reloaded {
  const [applied, restart]: [string[], string[]] = [[], []];
  let config: unknown = running;
  for (const path of comparable()) {
    const parts = path.split('.');
    const [before, after] = [valueAt(running, parts), valueAt(next, parts)];
    if (same(before, after)) continue;
    if (!reloads(path)) {
      restart.push(path);
      continue;
    }
    applied.push(path);
    config = place(config, parts, after);
  }
  return { config: deepFreeze(config as Config), applied, restart };
}

/** Keys, without those inside another key's value. */
function comparable(): string[] {
  const keys = allKeys().filter((key) => key.about !== undefined && !key.path.includes('[]'));
  return keys.map((key) => key.path).filter((path) => !keys.some((key) => path.startsWith(`${key.path}.`)));
}

function reloads(path: string): boolean {
  return allKeys().some((key) => key.path === path && key.about?.reload === true);
}

/** Functions are the same only if they are identical: a reload reads modules anew. */
function same(a: unknown, b: unknown): boolean {
  if (typeof a === 'function' || typeof b === 'function') return a === b;
  return JSON.stringify(a) === JSON.stringify(b);
}

/** A copy with one value replaced; `undefined` removes it. */
function place(tree: unknown, [name = '', ...rest]: readonly string[], value: unknown): unknown {
  const { [name]: before, ...others } = tree as Record<string, unknown>;
  const after = rest.length === 0 ? value : place(before ?? {}, rest, value);
  return merge(others, { [name]: after });
}
