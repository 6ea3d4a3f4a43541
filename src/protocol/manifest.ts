/** What a worker says of itself (docs/PROTOCOL.md, "Manifest"), read with suspicion and bounds. */
import { MAX_FRAME } from './link.ts';
import { isTier, type Tier } from './tier.ts';

export interface ManifestState {
  /** The dotted `module.Class`. */
  readonly class: string;
  /** The class's own `_rx_bridge`. */
  readonly tier: Tier | null;
  /** What mode `smart` gives it. */
  readonly smart: Tier;
  readonly handlers: readonly string[];
}

export type AppMode = 'full' | 'smart' | 'none';

export interface Manifest {
  readonly name: string | undefined;
  readonly instance: string;
  readonly pid: number;
  readonly host: string;
  /** Where its server listens, which several workers may share; null: not known. */
  readonly port: number | null;
  readonly versions: Readonly<Record<string, string | null>>;
  /** The same for every worker that runs the same code. */
  readonly build: string;
  readonly mode: AppMode;
  /** Whether the app has a tier resolver of its own, which runs in the worker. */
  readonly resolver: boolean;
  readonly states: ReadonlyMap<string, ManifestState>;
  readonly cookie: string | null;
  readonly loginUrl: string | null;
  readonly corsOrigins: readonly string[];
  /** Events it is given at a time; 0: the sidecar's choice. */
  readonly capacity: number;
  /** Whether the worker takes virtual sessions (docs/PROTOCOL.md, "Sessions on a link"). */
  readonly sessions: boolean;
  /** Largest text it takes and a link carries, in code points. */
  readonly maxPayload: number;
  /** The id under which Reflex's token records name it; null without Redis state. */
  readonly tokens: string | null;
  /** Whether state outlives the worker. */
  readonly persistent: boolean;
  /** The hash of its state tree, with which pages made for it connect; null where Reflex has none. */
  readonly schema: string | null;
  /** Whether the worker can be asked who a session belongs to. */
  readonly auth: boolean;
  /** undefined: the worker does not tell. */
  readonly user: UserModelFacts | undefined;
  /** Whether models are registered, so that it publishes what it commits. */
  readonly publishes: boolean;
  /** What the app's settings lack. */
  readonly checks: readonly ManifestCheck[];
}

/** What a worker knows of its user model. */
export interface UserModelFacts {
  /** The label, `auth.user`. */
  readonly model: string;
  /** What the model does of its own, and its table does not show: `is_active`, `manager.get_queryset`. */
  readonly own: readonly string[];
}

/** Something that the app's settings lack, as `manage.py check` says it. */
export interface ManifestCheck {
  readonly id: string;
  readonly message: string;
  readonly hint: string;
}

export class ManifestError extends Error {
  override readonly name = 'ManifestError';
}

const MAX_STATES = 20_000;
const MAX_HANDLERS = 2_000;
const MAX_CHECKS = 100;
const MAX_OWN = 100;
const MAX_TEXT = 1_024;
/** What Reflex announces by itself. */
const DEFAULT_MAX_PAYLOAD = 1_000_000;
/** Of more code points, at four bytes each, a CLIENT frame cannot hold a text. */
const LONGEST_TEXT = Math.floor((MAX_FRAME - 10) / 4);

function fail(path: string, expected: string): never {
  throw new ManifestError(`${path}: expected ${expected}`);
}

function asObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(path, 'an object');
  return value as Record<string, unknown>;
}

function asText(value: unknown, path: string): string {
  if (typeof value !== 'string' || value.length > MAX_TEXT) fail(path, `a string of at most ${MAX_TEXT} characters`);
  return value;
}

function asTexts(value: unknown, path: string, max: number): string[] {
  if (!Array.isArray(value) || value.length > max) fail(path, `a list of at most ${max} strings`);
  return value.map((item, index) => asText(item, `${path}[${index}]`));
}

function asNumber(value: unknown, path: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) fail(path, 'a number of at least 0');
  return value;
}

function asPositive(value: unknown, path: string): number {
  if (asNumber(value, path) === 0) fail(path, 'a number above 0');
  return value as number;
}

function orNull(value: unknown, path: string): string | null {
  return value === null || value === undefined ? null : asText(value, path);
}

function asState(value: unknown, path: string): ManifestState {
  const state = asObject(value, path);
  const { tier, smart } = state;
  if (tier !== null && tier !== undefined && !isTier(tier)) fail(`${path}.tier`, 'a tier or null');
  if (!isTier(smart)) fail(`${path}.smart`, 'a tier');
  return {
    class: asText(state['class'], `${path}.class`),
    tier: tier ?? null,
    smart,
    handlers: asTexts(state['handlers'], `${path}.handlers`, MAX_HANDLERS),
  };
}

function asChecks(value: unknown): ManifestCheck[] {
  if (!Array.isArray(value) || value.length > MAX_CHECKS) fail('checks', `a list of at most ${MAX_CHECKS} checks`);
  return value.map((item: unknown, index) => {
    const path = `checks[${index}]`;
    const { id, message, hint } = asObject(item, path);
    return {
      id: asText(id, `${path}.id`),
      message: asText(message, `${path}.message`),
      hint: asText(hint, `${path}.hint`),
    };
  });
}

function asUser(value: unknown): UserModelFacts | undefined {
  if (value === undefined) return undefined;
  const { model, own } = asObject(value, 'user');
  return { model: asText(model, 'user.model'), own: asTexts(own, 'user.own', MAX_OWN) };
}

/** Throws ManifestError, which names the field, never its value. */
export function readManifest(value: unknown): Manifest {
  const raw = asObject(value, 'manifest');
  const states = Object.entries(asObject(raw['states'], 'states'));
  if (states.length > MAX_STATES) fail('states', `at most ${MAX_STATES} states`);
  const { mode } = raw;
  if (mode !== 'full' && mode !== 'smart' && mode !== 'none') fail('mode', 'full, smart or none');
  const versions = Object.entries(asObject(raw['versions'], 'versions'));
  return {
    name: raw['name'] === undefined || raw['name'] === null ? undefined : asText(raw['name'], 'name'),
    instance: asText(raw['instance'], 'instance'),
    pid: asNumber(raw['pid'], 'pid'),
    host: asText(raw['host'], 'host'),
    port: raw['port'] === undefined || raw['port'] === null ? null : asNumber(raw['port'], 'port'),
    versions: Object.fromEntries(versions.map(([key, text]) => [key, orNull(text, `versions.${key}`)])),
    build: asText(raw['build'], 'build'),
    mode,
    resolver: raw['resolver'] === true,
    states: new Map(states.map(([name, state]) => [name, asState(state, `states.${name}`)])),
    cookie: orNull(raw['cookie'], 'cookie'),
    loginUrl: orNull(raw['loginUrl'], 'loginUrl'),
    corsOrigins: asTexts(raw['corsOrigins'] ?? [], 'corsOrigins', 1_000),
    capacity: asNumber(raw['capacity'] ?? 0, 'capacity'),
    sessions: raw['sessions'] === true,
    maxPayload: Math.min(asPositive(raw['maxPayload'] ?? DEFAULT_MAX_PAYLOAD, 'maxPayload'), LONGEST_TEXT),
    tokens: orNull(raw['tokens'], 'tokens'),
    persistent: raw['persistent'] === true,
    schema: orNull(raw['schema'], 'schema'),
    auth: raw['auth'] === true,
    user: asUser(raw['user'] ?? undefined),
    publishes: raw['publishes'] === true,
    checks: asChecks(raw['checks'] ?? []),
  };
}
