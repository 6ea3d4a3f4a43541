import { createHash } from 'node:crypto';
import { Cluster } from 'ioredis';
import type { Invalidation } from '../../ports/auth.ts';
import type { RedisClient } from './redis-client.ts';

/** The counter's life. Should Redis lose it, the new one is ahead of every number given before. Milliseconds. */
const COUNTER_TTL = 25 * 3_600_000;

/** The deployment's counter of epochs, which begins at the server's time in microseconds. KEYS[1]; ARGV[1]: its life. */
const COUNTER = `
if redis.call('EXISTS', KEYS[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[1], time[1] .. string.format('%06d', time[2]), 'PX', ARGV[1])
end
local function next() return string.format('%.0f', redis.call('INCR', KEYS[1])) end
`;

/** KEYS[2...]: epochs; ARGV[2]: their life. One that is missing begins anew, so that nothing made under an older one counts. */
const BEGIN = `${COUNTER}
local found = {}
for i = 2, #KEYS do
  local epoch = redis.call('GET', KEYS[i])
  if epoch then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  else
    epoch = next()
    redis.call('SET', KEYS[i], epoch, 'PX', ARGV[2])
    found[#found + 1] = 'new'
  end
  found[#found + 1] = epoch
end
found[#found + 1] = redis.call('GET', KEYS[1])
return found`;

/** KEYS[2]: the epoch; KEYS[3]: what is to go at once. */
const RAISE = `${COUNTER}
redis.call('SET', KEYS[2], next(), 'PX', ARGV[2])
if KEYS[3] then redis.call('DEL', KEYS[3]) end
return 1`;

/** Fills KEYS[1] with ARGV[1] for ARGV[2] milliseconds if the epochs KEYS[2...] still are ARGV[3...]. */
const FILL = `
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[i + 1] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

/** What a session's value was made under: the epochs of everything, the session, and its user where there is one. */
export type Under = readonly string[];

/**
 * Numbers that stand for a time between two invalidations: of everything, of a session, of a user. A value holds while they are what
 * they were when it was made. One that is missing (evicted, expired, deleted) is known to nobody: no value holds.
 *
 * In a cluster all keys lie in one slot, since a fill compares them in one step.
 */
export class Epochs {
  readonly #client: RedisClient;
  readonly #prefix: string;
  readonly #counter: string;
  /** No value lives longer than its epochs. Milliseconds. */
  readonly #life: number;

  constructor(client: RedisClient, name: string, life: number) {
    this.#client = client;
    const prefix = `bridgehead:${name}:auth`;
    this.#prefix = client instanceof Cluster ? `{${prefix}}` : prefix;
    this.#counter = `${this.#prefix}-epoch`;
    this.#life = life;
  }

  /** Where a session's value lies. */
  valueKey(session: string): string {
    return `${this.#prefix}:${session}`;
  }

  /** Before a source is asked: what an answer for this session is made under, and where the counter stands. */
  async begin(session: string): Promise<string> {
    const found = await this.#begin([{ all: true }, { session }]);
    return found.filter((text) => text !== 'new').join(' ');
  }

  /**
   * Stores as the session's value what `text` makes of the epochs, unless everything, the session or the user was invalidated
   * since `begin` gave `mark`.
   */
  async store(
    about: { readonly session: string; readonly user: string | undefined; readonly mark: string },
    life: number,
    text: (under: Under) => string,
  ): Promise<void> {
    const { session, user, mark } = about;
    const [all = '', ofSession = '', counter] = mark.split(' ');
    const scopes: Invalidation[] = [{ all: true }, { session }];
    const under = [all, ofSession];
    if (user !== undefined) {
      const [first = '', second = ''] = await this.#begin([{ user }]);
      const isNew = first === 'new';
      // The user was invalidated while the source was asked.
      if (!isNew && Number(first) > Number(counter)) return;
      scopes.push({ user });
      under.push(isNew ? second : first);
    }
    const keys = [this.valueKey(session), ...scopes.map((scope) => this.#key(scope))];
    await this.#client.eval(FILL, keys.length, ...keys, text(under), life, ...under);
  }

  /** The session's value, and what it must have been made under as far as that is known without its user. */
  async read(session: string): Promise<{ readonly text: string; readonly under: Under } | undefined> {
    const keys = [this.valueKey(session), this.#key({ all: true }), this.#key({ session })];
    const [text, all, ofSession] = await this.#client.mget(keys);
    if (typeof text !== 'string' || typeof all !== 'string' || typeof ofSession !== 'string') return undefined;
    return { text, under: [all, ofSession] };
  }

  async ofUser(user: string): Promise<string | undefined> {
    return (await this.#client.get(this.#key({ user }))) ?? undefined;
  }

  async raise(what: Invalidation): Promise<void> {
    const keys = [this.#counter, this.#key(what)];
    if ('session' in what) keys.push(this.valueKey(what.session));
    await this.#client.eval(RAISE, keys.length, ...keys, COUNTER_TTL, this.#life);
  }

  async #begin(scopes: readonly Invalidation[]): Promise<string[]> {
    const keys = [this.#counter, ...scopes.map((scope) => this.#key(scope))];
    return (await this.#client.eval(BEGIN, keys.length, ...keys, COUNTER_TTL, this.#life)) as string[];
  }

  #key(what: Invalidation): string {
    if ('all' in what) return `${this.#counter}:all`;
    if ('session' in what) return `${this.#counter}:s:${what.session}`;
    // Primary keys may be addresses: Redis gets none of them.
    const user = createHash('sha256').update(what.user).digest().subarray(0, 16).toString('base64url');
    return `${this.#counter}:u:${user}`;
  }
}
