import { showValue } from './faults.ts';
import { allKeys, type Key, valueAt } from './keys.ts';
import type { LoadedConfig } from './load.ts';
import type { Config } from './schema.ts';
import { announcedUrl, formatAddress, isLoopback } from './values.ts';

/** One key as `check` shows it. No field holds a secret. */
export interface ShownKey {
  readonly path: string;
  readonly value: unknown;
  readonly source: string;
}

function ownKeys(): Key[] {
  return allKeys().filter((key) => key.about !== undefined && !key.path.includes('[]'));
}

/** The configuration in force, key by key; keys without a value are left out. */
export function shownKeys({ config, sources }: LoadedConfig): ShownKey[] {
  const leaves = ownKeys().filter(
    (key, _, all) => !all.some((other) => other.path.startsWith(`${key.path}.`) && isObject(config, key)),
  );
  return leaves.flatMap(({ path }) => {
    const value = valueAt(config, path.split('.'));
    if (value === undefined) return [];
    return [{ path, value: shown(path, value), source: sources[path] ?? 'default' }];
  });
}

function isObject(config: Config, key: Key): boolean {
  const value = valueAt(config, key.path.split('.'));
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !('port' in value) && !('path' in value)
  );
}

function shown(path: string, value: unknown): unknown {
  if (showValue(path.split('.'), value) === '(hidden)')
    return Array.isArray(value) && value.length === 0 ? [] : '(hidden)';
  if (typeof value === 'function') return '(function)';
  if (typeof value === 'object' && value !== null && ('port' in value || 'path' in value)) {
    return formatAddress(value as Parameters<typeof formatAddress>[0]);
  }
  return value;
}

/** What works otherwise than one may expect: keys without an effect, and consequences that a file does not show. */
export function explain({ config }: LoadedConfig): string[] {
  const notices: string[] = [];
  const guarded = config.tiers.rules.findIndex((rule) => rule.login !== undefined);
  if (guarded >= 0 && (config.auth.source === 'none' || config.secret === undefined)) {
    notices.push(
      `tiers.rules[${guarded}].login refuses every event: without a secret and an auth.source nobody can say who a user is`,
    );
  }
  if (config.tiers.shadow) {
    notices.push(
      'tiers.shadow is on: rules decide nothing and refuse nobody; bridgehead doctor tells what they would do',
    );
  }
  if (config.tiers.resolve !== undefined) {
    notices.push(
      'tiers.resolve runs in the sidecar alone: events born in Python (on_load, chained handlers) get tier full',
    );
  }
  if (config.tiers.rules.some((rule) => rule.path !== undefined)) {
    notices.push('rules with a path only raise a tier, and do not apply to events born in Python');
  }
  if (config.redis.url !== undefined && config.secret !== undefined && announcedUrl(config) === undefined) {
    notices.push(
      'listen is on every address, and other sidecars do not know which of them to use: with several sidecars, polling clients need peerUrl, or a balancer that keeps each at one of them',
    );
  }
  if (config.admin.apiKey === undefined && !isLoopback(config.admin.listen.host)) {
    notices.push('admin.listen is off loopback and there is no admin.apiKey: it serves health alone');
  }
  if (config.live.push.length > 0 && (config.secret === undefined || !config.link.sessions)) {
    notices.push(
      'live.push has no effect: handlers are started in sessions that come over a link, which needs a secret and link.sessions',
    );
  }
  if (config.live.push.some((pattern) => /^[*.]*$/.test(pattern))) {
    notices.push('live.push allows every handler of the app to whoever has admin.apiKey or can write to the bus');
  }
  if (config.live.scripts) {
    notices.push(
      'live.scripts is true: whoever has admin.apiKey or can write to the bus runs JavaScript in every browser',
    );
  }
  if (config.origins.includes('*'))
    notices.push('origins holds *: any website may open sessions with its visitors’ cookies');
  if (config.limits.queueBytes === 0 || config.limits.totalQueueBytes === 0) {
    notices.push('limits.queueBytes or limits.totalQueueBytes is 0: memory is not bounded');
  }
  return notices;
}

/** What is off for want of a secret. */
export function secretNotice({ config }: LoadedConfig): string[] {
  return config.secret === undefined
    ? ['no secret: workers cannot link and events are not annotated; set BRIDGEHEAD_SECRET here and in the workers']
    : [];
}
