import type { Socket } from 'socket.io-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { AUTH_TIERS, DjangoStack, SOURCES, type Person, type SourceName } from '../support/django-stack.ts';
import { expectedVerdicts, GUARDS, verdicts, type Verdicts } from '../support/access-verdicts.ts';
import { eventually } from '../support/eventually.ts';
import type { Rights } from '../support/shop-stack.ts';

const PERMISSION = 'shop.change_product';
/** Invalidations arrive within 100 ms; the rest is for the events that look. Milliseconds. */
const SOON = { timeout: 1_000 };

/** What stands before the first event, and what happens between it and the next; Django says who it is each time. */
interface Case {
  readonly what: string;
  readonly arrange: (world: DjangoStack) => Promise<{ cookie: string | undefined; name?: string }>;
  /** A source that cannot know the user: the worker decides what they may. */
  readonly unknownTo?: SourceName;
  readonly change?: (world: DjangoStack, made: Person) => Promise<string | undefined | void>;
}

const someone = (world: DjangoStack): Promise<Person> => world.user();
const op =
  (name: string, values: (made: Person) => object) =>
  async ({ django }: DjangoStack, made: Person): Promise<void> => {
    await django.run(name, values(made));
  };
const byCookie = ({ cookie }: { cookie: string }): object => ({ cookie });
const byName = ({ name }: { name: string }): object => ({ username: name });
/** A group of their own, which has the permission. */
function inGroup({ name }: Person): object {
  return { username: name, group: name, permission: PERMISSION };
}
const having =
  (name: string, values: (made: Person) => object) =>
  async (world: DjangoStack): Promise<Person> => {
    const made = await world.user();
    await world.django.run(name, values(made));
    return made;
  };

const CASES: readonly Case[] = [
  { what: 'no cookie', arrange: async () => ({ cookie: undefined }) },
  { what: 'an empty cookie', arrange: async () => ({ cookie: '' }) },
  { what: 'a logged-in user', arrange: someone },
  { what: 'a staff user', arrange: (world) => world.user({ is_staff: true }) },
  { what: 'a superuser', arrange: (world) => world.user({ is_superuser: true, is_staff: true }) },
  {
    what: 'a user with long and odd fields',
    arrange: (world) =>
      world.user({ first_name: 'Zoë "x" </script>', last_name: 'x'.repeat(150), email: 'a@b.example' }),
  },
  { what: 'a session that was never made', arrange: async () => ({ cookie: 'a'.repeat(32) }) },
  { what: 'a cookie of garbage', arrange: async () => ({ cookie: '%00%ff..//' }) },
  { what: 'a cookie of 3,000 characters', arrange: async () => ({ cookie: 'k'.repeat(3000) }) },
  { what: 'a cookie cut short', arrange: async (world) => ({ cookie: (await world.user()).cookie.slice(0, -1) }) },
  { what: 'a cookie in capitals', arrange: async (world) => ({ cookie: (await world.user()).cookie.toUpperCase() }) },
  {
    what: 'a session without a user',
    arrange: async ({ django }) => ({ cookie: await django.run<string>('anonymous_session') }),
  },
  {
    what: 'an inactive user from the start',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('sql', {
        text: 'UPDATE auth_user SET is_active = false WHERE username = %s',
        values: [made.name],
      });
      return made;
    },
  },
  {
    what: 'an expired session',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('expire', { cookie: made.cookie });
      return made;
    },
  },
  {
    what: 'a session of a deleted user',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('delete_user', { username: made.name });
      return made;
    },
  },
  {
    what: 'a session from before a change of password',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('save_user', { username: made.name, password: 'second' });
      return made;
    },
  },
  {
    what: 'a session whose auth hash was edited',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('edit_session', { cookie: made.cookie, _auth_user_hash: 'f'.repeat(64) });
      return made;
    },
  },
  {
    what: 'a session without an auth hash',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('edit_session', { cookie: made.cookie, remove: ['_auth_user_hash'] });
      return made;
    },
  },
  {
    what: 'a session that names another user',
    arrange: async (world) => {
      const made = await world.user();
      const other = await world.user({ is_superuser: true });
      const id = await world.django.run<number>('user_id', { username: other.name });
      await world.django.run('edit_session', { cookie: made.cookie, _auth_user_id: String(id) });
      return made;
    },
  },
  {
    what: 'a session of a user that never was',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('edit_session', { cookie: made.cookie, _auth_user_id: '999999999' });
      return made;
    },
  },
  {
    what: 'a session of a backend that is not configured',
    // Any class may be a backend; it knows what Django's own do.
    unknownTo: 'django-db',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('edit_session', { cookie: made.cookie, _auth_user_backend: 'other.Backend' });
      return made;
    },
  },
  {
    what: 'session data that was tampered with',
    arrange: async (world) => {
      const made = await world.user();
      await world.django.run('sql', {
        text: "UPDATE django_session SET session_data = 'x' || session_data WHERE session_key = %s",
        values: [made.cookie],
      });
      return made;
    },
  },
  { what: 'logged out meanwhile', arrange: someone, change: op('log_out', byCookie) },
  { what: 'flushed meanwhile', arrange: someone, change: op('flush', byCookie) },
  { what: 'session deleted meanwhile', arrange: someone, change: op('delete_session', byCookie) },
  { what: 'expired meanwhile', arrange: someone, change: op('expire', byCookie) },
  {
    what: 'deactivated meanwhile',
    arrange: someone,
    change: op('save_user', ({ name }) => ({ username: name, is_active: false })),
  },
  {
    what: 'password changed elsewhere meanwhile',
    arrange: someone,
    change: op('save_user', ({ name }) => ({ username: name, password: 'third' })),
  },
  { what: 'deleted meanwhile', arrange: someone, change: op('delete_user', byName) },
  {
    what: 'renamed meanwhile',
    arrange: someone,
    change: op('save_user', ({ name }) => ({ username: name, first_name: 'New' })),
  },
  {
    what: 'made staff meanwhile',
    arrange: someone,
    change: op('save_user', ({ name }) => ({ username: name, is_staff: true })),
  },
  {
    what: 'given a permission meanwhile',
    arrange: someone,
    change: op('grant', ({ name }) => ({ username: name, permission: PERMISSION })),
  },
  { what: 'put into a group meanwhile', arrange: someone, change: op('join', inGroup) },
  {
    what: 'staff no more',
    arrange: (world) => world.user({ is_staff: true }),
    change: op('save_user', ({ name }) => ({ username: name, is_staff: false })),
  },
  {
    what: 'a superuser no more',
    arrange: (world) => world.user({ is_superuser: true, is_staff: true }),
    change: op('save_user', ({ name }) => ({ username: name, is_superuser: false })),
  },
  {
    what: 'a permission taken away meanwhile',
    arrange: having('grant', ({ name }) => ({ username: name, permission: PERMISSION })),
    change: op('revoke_all', byName),
  },
  {
    what: 'taken out of a group meanwhile',
    arrange: having('join', inGroup),
    change: op('leave', ({ name }) => ({ username: name, group: name })),
  },
  {
    what: 'a permission taken away from their group meanwhile',
    arrange: having('join', inGroup),
    change: op('take_from_group', ({ name }) => ({ group: name, permission: PERMISSION })),
  },
  {
    what: 'their group deleted meanwhile',
    arrange: having('join', inGroup),
    change: op('delete_group', ({ name }) => ({ group: name })),
  },
  {
    what: 'a deactivation that was rolled back',
    arrange: someone,
    change: op('rolled_back', ({ name }) => ({ username: name, is_active: false })),
  },
  {
    what: 'a session key cycled meanwhile: the old one',
    arrange: someone,
    change: async ({ django }, { cookie }) => void (await django.run('cycle', { cookie })),
  },
  {
    what: 'a session key cycled meanwhile: the new one',
    arrange: someone,
    change: ({ django }, { cookie }) => django.run<string>('cycle', { cookie }),
  },
  {
    what: 'session data edited meanwhile, the user the same',
    arrange: someone,
    change: op('edit_session', ({ cookie }) => ({ cookie, cart: [1] })),
  },
  {
    what: 'the user taken out of the session meanwhile',
    arrange: someone,
    change: op('edit_session', ({ cookie }) => ({ cookie, remove: ['_auth_user_id'] })),
  },
  {
    what: 'another user logged in meanwhile with another session',
    arrange: someone,
    change: async (world) => (await world.user()).cookie,
  },
  {
    what: 'an anonymous session that stays one',
    arrange: async ({ django }) => ({ cookie: await django.run<string>('anonymous_session'), name: '' }),
    change: async () => undefined,
  },
];

describe.each(SOURCES)('the user of an event is whom Django says, by the source %s', (source) => {
  let redis: Redis;
  let postgres: Postgres;
  let stack: DjangoStack;

  beforeAll(async () => {
    redis = await startRedis();
    postgres = await startPostgres();
    const services = { databaseUrl: postgres.url, redisUrl: redis.url };
    stack = await DjangoStack.start({ source, ...services, rights: true, config: { tiers: GUARDS } });
  });

  afterAll(async () => {
    await stack?.stop();
    await redis?.stop();
    await postgres?.stop();
  });

  describe.each(AUTH_TIERS)('in the tier %s', (tier) => {
    it.each(CASES)('$what', async ({ arrange, change }) => {
      const made = await arrange(stack);
      const client = await stack.connect(made.cookie);
      const asks = async (tab: Socket): Promise<Rights | null> => (await stack.ask(tab, { tier })).rights;
      expect(await asks(client)).toEqual(await stack.rights(made.cookie));
      if (change === undefined) return;
      // Warm by now: the next answer would come from memory.
      expect(await asks(client)).toEqual(await stack.rights(made.cookie));
      const cookie = (await change(stack, { cookie: made.cookie ?? '', name: made.name ?? '' })) ?? made.cookie;
      const next = cookie === made.cookie ? client : await stack.connect(cookie);
      const expected = await stack.rights(cookie);
      await eventually(() => asks(next), SOON).toEqual(expected);
    });
  });

  describe('and so is what they may at the edge', () => {
    it.each(CASES)('$what', async ({ arrange, change, unknownTo }) => {
      const made = await arrange(stack);
      const client = await stack.connect(made.cookie);
      const by = source === unknownTo ? 'worker' : 'edge';
      const judged = async (cookie: string | undefined): Promise<Verdicts> =>
        expectedVerdicts(await stack.rights(cookie));
      expect(await verdicts(stack, client, by)).toEqual(await judged(made.cookie));
      if (change === undefined) return;
      // Warm by now.
      expect(await verdicts(stack, client)).toEqual(await judged(made.cookie));
      const cookie = (await change(stack, { cookie: made.cookie ?? '', name: made.name ?? '' })) ?? made.cookie;
      const next = cookie === made.cookie ? client : await stack.connect(cookie);
      const expected = await judged(cookie);
      await eventually(() => verdicts(stack, next), SOON).toEqual(expected);
    });
  });
});
