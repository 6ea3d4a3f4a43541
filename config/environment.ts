import { type Fault, showValue } from './faults.ts';
import { allKeys, type Key } from './keys.ts';
import { nearest } from './nearest.ts';

/** A layer of values with where each came from. */
export interface TextLayer {
  readonly tree: Record<string, unknown>;
  /** Path of a key to the name of the variable or flag that set it. */
  readonly names: ReadonlyMap<string, string>;
  readonly faults: readonly Fault[];
  readonly notices: readonly string[];
}

export type Environment = Readonly<Record<string, string | undefined>>;

const PREFIX = 'BRIDGEHEAD_';

/** Short forms, and names that other programs set too. The long form wins. */
const SHORT_FORMS: Readonly<Record<string, string>> = {
  BRIDGEHEAD_API_KEY: 'admin.apiKey',
  REDIS_URL: 'redis.url',
  DATABASE_URL: 'database.url',
  DATABASE_REPLICA_URL: 'database.replicaUrl',
  DATABASE_LISTEN_URL: 'database.listenUrl',
  LOG_LEVEL: 'log.level',
};

/** Read by the companion in the worker alone, which often shares its environment with the sidecar: no mistake. */
const OF_THE_WORKER = new Set([
  'BRIDGEHEAD_LINK_URL',
  'BRIDGEHEAD_CAPACITY',
  'BRIDGEHEAD_DRAIN_SECONDS',
  'BRIDGEHEAD_API_URL',
]);

/** `limits.payloadBytes` -> `BRIDGEHEAD_LIMITS_PAYLOAD_BYTES` */
export function variableOf(path: string): string {
  return (
    PREFIX +
    path
      .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
      .replaceAll('.', '_')
      .toUpperCase()
  );
}

/** Short forms of a key, for the documentation. */
export function shortFormsOf(path: string): string[] {
  return Object.keys(SHORT_FORMS).filter((name) => SHORT_FORMS[name] === path);
}

/** Keys that text can set: not those inside lists, and no functions. */
function settable(): Key[] {
  return allKeys().filter((key) => key.notation !== 'none' && !key.path.includes('[]'));
}

export function readEnvironment(environment: Environment): TextLayer {
  const entries: [key: Key, name: string, text: string][] = [];
  const notices: string[] = [];
  const byName = new Map(settable().map((key) => [variableOf(key.path), key]));
  const byPath = new Map(settable().map((key) => [key.path, key]));
  for (const [name, path] of Object.entries(SHORT_FORMS)) {
    const text = environment[name];
    const key = byPath.get(path);
    if (text === undefined || text === '' || key === undefined) continue;
    if (path.startsWith('database.') && !/^postgres(ql)?:\/\//i.test(text)) {
      notices.push(`${name} is not a PostgreSQL URL and is ignored`);
    } else {
      entries.push([key, name, path === 'log.level' ? logLevel(text) : text]);
    }
  }
  for (const [name, text] of Object.entries(environment)) {
    if (!name.startsWith(PREFIX) || text === undefined || text === '' || name in SHORT_FORMS) continue;
    const key = byName.get(name);
    if (key !== undefined) entries.push([key, name, text]);
    else if (!OF_THE_WORKER.has(name)) {
      const meant = nearest(
        name.slice(PREFIX.length),
        [...byName.keys()].map((known) => known.slice(PREFIX.length)),
      );
      notices.push(`${name} is not a known variable${meant === undefined ? '' : `; did you mean ${PREFIX}${meant}?`}`);
    }
  }
  return readTexts(entries, notices);
}

/** Flags as `path -> text`; written as in the environment. */
export function readFlags(
  flags: Readonly<Record<string, string | undefined>>,
  nameOf: (path: string) => string,
): TextLayer {
  const entries: [Key, string, string][] = [];
  for (const [path, text] of Object.entries(flags)) {
    const key = settable().find((known) => known.path === path);
    if (key === undefined) throw new TypeError(`no flag can set ${path}`);
    if (text !== undefined) entries.push([key, nameOf(path), text]);
  }
  return readTexts(entries, []);
}

function readTexts(entries: [Key, string, string][], notices: readonly string[]): TextLayer {
  const tree: Record<string, unknown> = {};
  const names = new Map<string, string>();
  const faults: Fault[] = [];
  // Sections come before their keys, so that a key wins over its section's JSON.
  for (const [key, name, text] of entries.toSorted(([a], [b]) => depth(a) - depth(b))) {
    const value = parse(key, text);
    if (value === undefined) {
      const shown = showValue(key.path.split('.'), text);
      faults.push({
        path: key.path,
        source: name,
        problem: 'is not JSON',
        remedy: `Write JSON: ${key.accepts}.`,
        ...(shown !== undefined && { value: shown }),
      });
      continue;
    }
    names.set(key.path, name);
    place(tree, key.path.split('.'), value);
  }
  return { tree, names, faults, notices };
}

const depth = (key: Key) => key.path.split('.').length;

/** Python's names are common in a shared LOG_LEVEL. */
function logLevel(text: string): string {
  const level = text.toLowerCase();
  return { warning: 'warn', critical: 'fatal', notset: 'trace' }[level] ?? level;
}

/** Undefined where JSON is needed and is broken. Anything else wrong is left to the schema. */
function parse(key: Key, text: string): unknown {
  switch (key.notation) {
    case 'number':
      return /^\s*-?\d[\d_]*(\.\d+)?\s*$/.test(text) ? Number(text.replaceAll('_', '')) : text;
    case 'boolean':
    case 'boolean-or-text':
      return { true: true, '1': true, false: false, '0': false }[text.trim().toLowerCase()] ?? text;
    case 'list':
      return text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '');
    case 'json':
      try {
        return JSON.parse(text) as unknown;
      } catch {
        return undefined;
      }
    case 'text':
    case 'none':
      return text;
  }
}

function place(tree: Record<string, unknown>, path: readonly string[], value: unknown): void {
  let node = tree;
  for (const part of path.slice(0, -1)) {
    const next = node[part];
    if (typeof next === 'object' && next !== null && !Array.isArray(next)) node = next as Record<string, unknown>;
    else node = node[part] = {} as Record<string, unknown>;
  }
  node[path.at(-1) ?? ''] = value;
}
