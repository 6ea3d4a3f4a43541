import { userKey, type AuthAnswer, type Invalidation, type SharedUserCache } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Keyring } from '../../protocol/keys.ts';
import { readAuthAnswer } from '../shared/auth-answer.ts';
import { Breaker } from '../shared/breaker.ts';
import { Epochs } from './epochs.ts';
import { PendingInvalidations } from './pending-invalidations.ts';
import type { RedisClient } from './redis-client.ts';
import { readSigned, signText } from './signed-text.ts';

export interface RedisUserCacheOptions {
  readonly client: RedisClient;
  /** The deployment's. */
  readonly name: string;
  /** For the purpose `cache`. */
  readonly keys: Keyring;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Redis has so long to answer, and is left alone for so long where it did not. Milliseconds. */
const TIMEOUT = 50;
const PAUSE = 1_000;

/**
 * Answers under `bridgehead:<name>:auth:<session hash>`, signed and bound to that session: a writer to Redis can neither make a user
 * nor move one to another session. Each carries its mark (`Epochs`): what was invalidated since is a miss, whoever wrote it.
 *
 * An invalidation that Redis did not confirm is remembered here, heeded by `get`, and sent again until it is confirmed.
 */
export function redisUserCache({ client, name, keys, clock, logger }: RedisUserCacheOptions): SharedUserCache {
  const epochs = new Epochs(client, name);
  const breaker = new Breaker({ timeout: TIMEOUT, pause: PAUSE, clock });
  const pending = new PendingInvalidations({
    send: async (what) => (await breaker.run(() => epochs.raise(what))) !== undefined,
    clock,
    retryDelay: PAUSE,
  });
  let toldForged = false;

  const keyOf = (session: string): string => `bridgehead:${name}:auth:${session}`;
  const contextOf = (session: string): string => `user\n${name}\n${session}`;

  async function read(session: string): Promise<AuthAnswer | undefined> {
    const [text, all, ofSession] = await Promise.all([
      client.get(keyOf(session)),
      epochs.of({ all: true }),
      epochs.of({ session }),
    ]);
    if (text === null) return undefined;
    const body = readSigned(text, keys, contextOf(session));
    if (body === undefined && !toldForged) {
      toldForged = true;
      logger.warn(
        {},
        'a cached user in Redis was not signed with a secret of this deployment; such values are ignored',
      );
    }
    const { mark, at, until, answer } = body ?? {};
    if (typeof mark !== 'number' || typeof at !== 'number' || typeof until !== 'number') return undefined;
    if (clock.now() >= until || all > mark || ofSession > mark) return undefined;
    const found = readAuthAnswer(answer, at);
    if (found?.kind !== 'user') return found;
    const user = userKey(found.user);
    return (await epochs.of({ user })) > mark || pending.has(session, user) ? undefined : found;
  }

  return {
    async get(session) {
      if (pending.has(session, undefined)) return undefined;
      return (await breaker.run(() => read(session)))?.value;
    },

    async mark() {
      return String((await breaker.run(() => epochs.now()))?.value ?? '');
    },

    async set(session, answer, mark, ttl) {
      const ends = answer.kind === 'user' ? (answer.expires ?? Infinity) : Infinity;
      const until = Math.min(answer.at + ttl, ends);
      const life = Math.floor(until - clock.now());
      // An answer of the future is a wrong clock, not a longer life.
      if (mark === '' || life <= 0 || life > ttl) return;
      const text = signText({ mark: Number(mark), at: answer.at, until, answer }, keys, contextOf(session));
      await breaker.run(() => client.set(keyOf(session), text, 'PX', life));
    },

    async invalidate(what: Invalidation) {
      await pending.add(what);
    },
  };
}
