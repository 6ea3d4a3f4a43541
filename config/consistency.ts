import { showValue, type Fault } from './faults.ts';
import { valueAt } from './keys.ts';
import { address, ANY_HOST } from './values.ts';

type SourceOf = (path: readonly PropertyKey[]) => string;

/**
 * Faults between keys. It reads the merged, unchecked values, so that these faults are told together with those of
 * single keys; what is not of its type is left to the schema.
 */
export function consistencyFaults(tree: unknown, sourceOf: SourceOf): Fault[] {
  const at = (path: string): unknown => valueAt(tree, path.split('.'));
  const faults: Fault[] = [];
  const fault = (path: string, problem: string, remedy: string): void => {
    const parts = path.split('.');
    const value = showValue(parts, at(path));
    faults.push({ path, source: sourceOf(parts), problem, remedy, ...(value !== undefined && { value }) });
  };

  const listeners = ['listen', 'admin.listen', ...(at('secret') === undefined ? [] : ['link.listen'])];
  listeners.forEach((path, index) => {
    const other = listeners.slice(0, index).find((earlier) => clash(at(earlier), at(path)));
    if (other !== undefined) fault(path, `is taken by ${other}`, 'Give each listener a port of its own.');
  });

  const backends = at('backends');
  if (Array.isArray(backends)) {
    const index = backends.findIndex((url) => leadsTo(url, at('listen')));
    if (index >= 0) fault(`backends.${index}`, "is Bridgehead's own listener", "Name the Python worker's address.");
  }
  if (at('eventPath') !== undefined && at('eventPath') === at('uploadPath')) {
    fault('uploadPath', 'is the same as eventPath', 'Give the two paths different values.');
  }
  if (at('tiers.resolver') !== undefined && at('tiers.resolve') !== undefined) {
    fault('tiers.resolver', 'stands beside tiers.resolve', 'Keep one of the two.');
  }
  const [total, payload] = [at('limits.totalQueueBytes'), at('limits.payloadBytes')];
  if (typeof total === 'number' && typeof payload === 'number' && total > 0 && total < payload) {
    fault(
      'limits.totalQueueBytes',
      'is less than one message of limits.payloadBytes',
      'Raise it, or lower limits.payloadBytes.',
    );
  }
  const previous = at('previousSecrets');
  if (Array.isArray(previous) && previous.length > 0 && at('secret') === undefined) {
    fault('previousSecrets', 'stands without a secret', 'Set secret to the new one.');
  }
  if (at('auth.source') === 'django-db' && at('database.url') === undefined) {
    fault('auth.source', 'needs a database', 'Set database.url or DATABASE_URL.');
  }
  const bus = at('live.bus');
  if ((bus === 'redis' || bus === 'redis-streams') && at('redis.url') === undefined) {
    fault('live.bus', 'needs Redis', 'Set redis.url or REDIS_URL.');
  }
  if (at('live.outbox') === true && at('database.url') === undefined) {
    fault('live.outbox', 'needs a database', 'Set database.url or DATABASE_URL, or leave it at auto.');
  }
  if (bus === 'postgres' && at('database.url') === undefined) {
    fault('live.bus', 'needs a database', 'Set database.url or DATABASE_URL.');
  }
  return faults;
}

const loopback = (host: string) => (host === 'localhost' ? '127.0.0.1' : host);

function clash(left: unknown, right: unknown): boolean {
  const [a, b] = [address.safeParse(left).data, address.safeParse(right).data];
  if (a === undefined || b === undefined) return false;
  if ('path' in a || 'path' in b) return 'path' in a && 'path' in b && a.path === b.path;
  if (a.port !== b.port || a.port === 0) return false;
  return loopback(a.host) === loopback(b.host) || ANY_HOST.has(a.host) || ANY_HOST.has(b.host);
}

/** Whether a backend's URL leads back to a listener: every request would then go round until something breaks. */
function leadsTo(url: unknown, listener: unknown): boolean {
  const target = typeof url === 'string' ? URL.parse(url) : null;
  if (target === null) return false;
  const port = target.port === '' ? (target.protocol === 'https:' ? 443 : 80) : Number(target.port);
  const parsed = typeof listener === 'string' ? address.safeParse(listener) : undefined;
  if (parsed?.success !== true || 'path' in parsed.data || parsed.data.port !== port) return false;
  const { host } = parsed.data;
  const loopback = /^(localhost|127(\.\d+){3}|\[?::1\]?)$/;
  const isHere = loopback.test(target.hostname);
  return target.hostname === host || (isHere && (loopback.test(host) || host === '0.0.0.0' || host === '::'));
}
