import { userKey, type AuthAnswer, type Invalidation, type SharedUserCache } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Keyring } from '../../protocol/keys.ts';
import { readAuthAnswer } from '../shared/auth-answer.ts';
import { Breaker } from '../shared/breaker.ts';
import { Epochs, type Under } from './epochs.ts';
import { PendingInvalidations } from './pending-invalidations.ts';
import type { RedisClient } from './redis-client.ts';
import { readSigned, signText } from './signed-text.ts';

export interface RedisUserCacheOptions {
  readonly client: RedisClient;
  /** The deployment's. */
  readonly name: string;
  /** The longest life of an answer. Milliseconds. */
  readonly ttl: number;
  /** For the purpose `cache`. */
  readonly keys: Keyring;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Redis has so long to answer, and is left alone for so long where it did not. Milliseconds. */
const TIMEOUT = 50;
const PAUSE = 1_000;
/** An epoch lives so much longer than what was made under it: a source takes its time. Milliseconds. */
const MORE = 10_000;

/**
 * Answers under `bridgehead:<name>:auth:<session hash>`, signed and bound to that session: a writer to Redis can neither make a user
 * nor move one to another session. The signed part says which epochs it was made under (`Epochs`): a value of others is a miss.
 * A writer who puts back a value together with its epochs is met by the resolver, which heeds what it heard itself.
 *
 * An invalidation that Redis did not confirm is remembered here, heeded by `get`, and sent again until it is confirmed.
 */
export function redisUserCache({ client, name, ttl, keys, clock, logger }: RedisUserCacheOptions): SharedUserCache {
  const epochs = new Epochs(client, name, ttl + MORE);
  const breaker = new Breaker({ timeout: TIMEOUT, pause: PAUSE, clock });
  const pending = new PendingInvalidations({
    send: async (what) => (await breaker.run(() => epochs.raise(what))) !== undefined,
    clock,
    retryDelay: PAUSE,
  });
  let toldForged = false;

  const contextOf = (session: string): string => `user\n${name}\n${session}`;

  function verified(text: string, session: string): Readonly<Record<string, unknown>> {
    const body = readSigned(text, keys, contextOf(session));
    if (body === undefined && !toldForged) {
      toldForged = true;
      logger.warn(
        {},
        'a cached user in Redis was not signed with a secret of this deployment; such values are ignored',
      );
    }
    return body ?? {};
  }

  async function read(session: string): Promise<AuthAnswer | undefined> {
    const value = await epochs.read(session);
    if (value === undefined) return undefined;
    const { under, at, until, answer } = verified(value.text, session);
    if (!Array.isArray(under) || typeof at !== 'number' || typeof until !== 'number') return undefined;
    if (clock.now() >= until || value.under.some((epoch, scope) => under[scope] !== epoch)) return undefined;
    const found = readAuthAnswer(answer, at);
    if (found?.kind !== 'user') return found;
    const user = userKey(found.user);
    const ofUser = await epochs.ofUser(user);
    return ofUser === undefined || ofUser !== under[2] || pending.has(session, user) ? undefined : found;
  }

  return {
    async get(session) {
      if (pending.has(session, undefined)) return undefined;
      return (await breaker.run(() => read(session)))?.value;
    },

    async mark(session) {
      return (await breaker.run(() => epochs.begin(session)))?.value ?? '';
    },

    async set(session, answer, mark, life) {
      const ends = answer.kind === 'user' ? (answer.expires ?? Infinity) : Infinity;
      const until = Math.min(answer.at + life, ends);
      const left = Math.floor(until - clock.now());
      // An answer of the future is a wrong clock, not a longer life.
      if (mark === '' || left <= 0 || left > life) return;
      const user = answer.kind === 'user' ? userKey(answer.user) : undefined;
      const text = (under: Under): string =>
        signText({ under, at: answer.at, until, answer }, keys, contextOf(session));
      await breaker.run(() => epochs.store({ session, user, mark }, left, text));
    },

    async invalidate(what: Invalidation) {
      await pending.add(what);
    },
  };
}
