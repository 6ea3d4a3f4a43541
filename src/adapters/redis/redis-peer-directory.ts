import { LRUCache } from 'lru-cache';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { PeerDirectory } from '../../ports/peer-directory.ts';
import type { Keyring } from '../../protocol/keys.ts';
import { Breaker } from '../shared/breaker.ts';
import type { RedisClient } from './redis-client.ts';
import { readSigned, signText } from './signed-text.ts';

export interface RedisPeerDirectoryOptions {
  readonly client: RedisClient;
  /** The deployment's. */
  readonly name: string;
  /** For the purpose `peer`. */
  readonly keys: Keyring;
  /** The name of this machine: a loopback address means something on it alone. */
  readonly host: string;
  readonly clock: Clock;
}

export interface RedisPeerDirectory extends PeerDirectory {
  /** Says from now on that the sidecar with this prefix is at this address. Resolves after the first try, however it went. */
  announce(prefix: string, url: string): Promise<void>;
  /** Takes that back. */
  close(): Promise<void>;
}

/** Redis has so long to answer, and is left alone for so long where it did not. Milliseconds. */
const TIMEOUT = 250;
const PAUSE = 1_000;
/** Between two announcements, and how long one holds: several may be lost. Milliseconds. */
const BEAT = 3_000;
const LIFE = 15_000;
/** A value that is played back later than this says nothing; it covers clocks that are apart. Milliseconds. */
const VALID = 60_000;
/** An answer is asked for anew after this; while Redis is away, it holds on. Milliseconds. */
const FRESH = 10_000;
const MAX_KNOWN = 1_000;

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

interface Known {
  readonly url: string;
  readonly at: number;
}

/**
 * Addresses under `bridgehead:<name>:peer:<prefix>`, signed and bound to the prefix (docs/PROTOCOL.md, "Between sidecars"): a writer to
 * Redis cannot send clients' requests anywhere.
 */
export function redisPeerDirectory(options: RedisPeerDirectoryOptions): RedisPeerDirectory {
  const { client, name, keys, host, clock } = options;
  const breaker = new Breaker({ timeout: TIMEOUT, pause: PAUSE, clock });
  const known = new LRUCache<string, Known>({ max: MAX_KNOWN });
  const asking = new Map<string, Promise<string | undefined>>();
  let timer: Timer | undefined;
  let announced: string | undefined;

  const keyOf = (prefix: string): string => `bridgehead:${name}:peer:${prefix}`;
  const contextOf = (prefix: string): string => `peer\n${name}\n${prefix}`;

  async function write(prefix: string, url: string): Promise<void> {
    const text = signText({ url, host, until: clock.now() + VALID }, keys, contextOf(prefix));
    await breaker.run(() => client.set(keyOf(prefix), text, 'PX', LIFE));
  }

  async function ask(prefix: string): Promise<string | undefined> {
    const answer = await breaker.run(() => client.get(keyOf(prefix)));
    if (answer === undefined) return known.get(prefix)?.url;
    const url = answer.value === null ? undefined : read(prefix, answer.value);
    if (url === undefined) known.delete(prefix);
    else known.set(prefix, { url, at: clock.monotonic() });
    return url;
  }

  function read(prefix: string, text: string): string | undefined {
    const body = readSigned(text, keys, contextOf(prefix)) ?? {};
    const { url, until } = body;
    if (typeof url !== 'string' || typeof until !== 'number' || clock.now() > until) return undefined;
    const address = URL.parse(url);
    if (address === null || (LOOPBACK.test(address.hostname) && body['host'] !== host)) return undefined;
    return address.origin;
  }

  return {
    async announce(prefix, url) {
      announced = prefix;
      timer = clock.setInterval(() => void write(prefix, url), BEAT);
      await write(prefix, url);
    },

    find(prefix) {
      const found = known.get(prefix);
      if (found !== undefined && clock.monotonic() - found.at < FRESH) return Promise.resolve(found.url);
      const under = asking.get(prefix);
      if (under !== undefined) return under;
      const asked = ask(prefix).finally(() => asking.delete(prefix));
      asking.set(prefix, asked);
      return asked;
    },

    async close() {
      timer?.cancel();
      const prefix = announced;
      if (prefix !== undefined) await breaker.run(() => client.del(keyOf(prefix)));
    },
  };
}
