import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pythonEnv } from '../../tools/python-env.ts';
import { startPostgres, type Postgres } from '../../tools/services/index.ts';
import { prepareShop } from '../../tools/shop.ts';
import { startDjangoConsole } from '../support/django-console.ts';
import { AUTH_TIERS, DjangoStack, SOURCES } from '../support/django-stack.ts';

const KEYS = { new: 'the SECRET_KEY of today', old: 'the one until yesterday', older: 'the one before that' } as const;
type When = keyof typeof KEYS;

let postgres: Postgres;
const cookies: Record<When, string> = { new: '', old: '', older: '' };

beforeAll(async () => {
  const python = await pythonEnv();
  postgres = await startPostgres();
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-keys-'));
  await prepareShop({ python, folder, databaseUrl: postgres.url });
  await rm(folder, { recursive: true, force: true });
  for (const when of ['new', 'old', 'older'] as const) {
    const django = startDjangoConsole(python, { DATABASE_URL: postgres.url, SECRET_KEY: KEYS[when] });
    await django.run('make_user', { username: when });
    cookies[when] = await django.run<string>('log_in', { username: when });
    expect(await django.run('whoami', { cookie: cookies[when] })).toBe(when);
    await django.stop();
  }
});
afterAll(() => postgres?.stop());

const ROTATIONS: readonly {
  readonly what: string;
  readonly fallbacks: readonly When[];
  readonly known: readonly When[];
}[] = [
  { what: 'without fallbacks', fallbacks: [], known: ['new'] },
  { what: 'with the last key as a fallback', fallbacks: ['old'], known: ['new', 'old'] },
  { what: 'with two fallbacks', fallbacks: ['old', 'older'], known: ['new', 'old', 'older'] },
];

describe.each(SOURCES)('after SECRET_KEY was rotated, by the source %s', (source) => {
  describe.each(ROTATIONS)('$what', ({ fallbacks, known }) => {
    let stack: DjangoStack;
    beforeAll(async () => {
      stack = await DjangoStack.start({
        source,
        databaseUrl: postgres.url,
        prepare: false,
        secretKey: KEYS.new,
        secretKeyFallbacks: fallbacks.map((when) => KEYS[when]),
      });
    });
    afterAll(() => stack?.stop());

    it.each(['new', 'old', 'older'] as const)('a session made with the %s key is whom Django says', async (when) => {
      const expected = known.includes(when) ? when : 'anonymous';
      expect(await stack.says(cookies[when])).toBe(expected);
      for (const tier of AUTH_TIERS) {
        const client = await stack.connect(cookies[when]);
        for (const where of ['from the source', 'from memory']) {
          const { user, annotation } = await stack.ask(client, { tier });
          expect([user, annotation], where).toEqual([expected, 'valid']);
        }
        // Nobody's look has renewed or flushed the session.
        expect(await stack.says(cookies[when])).toBe(expected);
      }
    });
  });
});
