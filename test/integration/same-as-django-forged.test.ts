import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ANNOTATION_LIFETIME, signAnnotation, type AnnotationClaims } from '../../src/protocol/annotation.ts';
import { keyring, sessionHash, tokenHash, type Key } from '../../src/protocol/keys.ts';
import { startPostgres, type Postgres } from '../../tools/services/index.ts';
import { AUTH_TIERS, DjangoStack, HANDLERS, SOURCES, type AuthTier, type Person } from '../support/django-stack.ts';
import { shifted } from '../support/shifted-clock.ts';

const BACKEND = 'django.contrib.auth.backends.ModelBackend';
let serial = 0;
const newToken = (): string => `forged-${++serial}`;

describe.each(SOURCES)('an annotation that is not this event’s own, by the source %s', (source) => {
  let postgres: Postgres;
  let stack: DjangoStack;
  let boss: Person & { id: number };
  let visitor: Person;

  beforeAll(async () => {
    postgres = await startPostgres();
    stack = await DjangoStack.start({ source, databaseUrl: postgres.url });
    const made = await stack.user({ is_superuser: true, is_staff: true });
    boss = { ...made, id: await stack.django.run<number>('user_id', { username: made.name }) };
  });
  beforeEach(async () => {
    visitor = await stack.user();
  });
  afterAll(async () => {
    await stack?.stop();
    await postgres?.stop();
  });

  const key = (): Key => keyring(stack.secret, [], 'annotation').current;

  /** What a sidecar would sign for an event of the superuser, but for what is changed. */
  const claims = (
    tier: AuthTier,
    about: { token: string; cookie: string },
    changes: Partial<AnnotationClaims> = {},
  ): AnnotationClaims => {
    // One reading of the clock for both: a life of a millisecond more is itself something to refuse.
    const iat = Date.now();
    return {
      n: 'default',
      t: tokenHash(about.token),
      s: sessionHash(about.cookie),
      h: HANDLERS[tier],
      iat,
      exp: iat + ANNOTATION_LIFETIME,
      tier,
      u: { m: 'auth.user', id: String(boss.id), b: BACKEND, h: 'x', f: { username: boss.name, is_superuser: true } },
      ...changes,
    };
  };

  describe.each(AUTH_TIERS)('in the tier %s', (tier) => {
    it('does nothing where a client sends it, whatever it is signed with: the sidecar makes its own', async () => {
      const token = newToken();
      const client = await stack.connect(visitor.cookie, { token });
      const mine = claims(tier, { token, cookie: visitor.cookie });
      const wrongKey = keyring('a secret of somebody else entirely', [], 'annotation').current;
      for (const annotation of ['x', signAnnotation(mine, wrongKey), signAnnotation(mine, key())]) {
        const event = await stack.ask(client, { tier, annotation });
        expect([event.user, event.annotation]).toEqual([await stack.says(visitor.cookie), 'valid']);
      }
      expect(stack.sidecar.metrics.forged).toBeGreaterThanOrEqual(3);
    });

    /** Past the sidecar, to the worker itself: what is wrong, and what the worker finds. */
    const DIRECT: readonly (readonly [string, string, (about: { token: string; cookie: string }) => string])[] = [
      ['of a wrong secret', 'kid', (about) => signAnnotation(claims(tier, about), wrong('another secret'))],
      [
        'of a wrong secret under the right name',
        'mac',
        (about) => signAnnotation(claims(tier, about), { ...wrong('another secret'), id: key().id }),
      ],
      [
        'of the right secret for another purpose',
        'mac',
        (about) => signAnnotation(claims(tier, about), keyring(stack.secret, [], 'cache').current),
      ],
      [
        'whose claims were exchanged under its mac',
        'mac',
        (about) => {
          const [, , payload] = signAnnotation(claims(tier, about), key()).split('.');
          const [version, kid, , mac] = signAnnotation(claims(tier, about, { u: null }), key()).split('.');
          return [version, kid, payload, mac].join('.');
        },
      ],
      [
        "of another session: the superuser's own",
        'session',
        (about) => signAnnotation(claims(tier, { ...about, cookie: boss.cookie }), key()),
      ],
      ['of another tab', 'token', (about) => signAnnotation(claims(tier, { ...about, token: 'another tab' }), key())],
      [
        'of another handler',
        'handler',
        (about) => signAnnotation(claims(tier, about, { h: `${HANDLERS[tier]}x` }), key()),
      ],
      ['of another deployment', 'name', (about) => signAnnotation(claims(tier, about, { n: 'other' }), key())],
      [
        'that is over',
        'expired',
        (about) => {
          const iat = Date.now() - 30_000;
          return signAnnotation(claims(tier, about, { iat, exp: iat + ANNOTATION_LIFETIME }), key());
        },
      ],
      [
        'that asks for a longer life',
        'claims',
        (about) => signAnnotation(claims(tier, about, { exp: Date.now() + 60_000 }), key()),
      ],
      ['that is none', 'malformed', () => 'v1.a.b'],
    ];

    it.each(DIRECT)('is ignored by a worker who is sent one %s', async (_what, reason, make) => {
      const token = newToken();
      const client = await stack.connect(visitor.cookie, { url: stack.shop.url, token });
      const event = await stack.ask(client, { tier, annotation: make({ token, cookie: visitor.cookie }) });
      expect([event.user, event.annotation]).toEqual([await stack.says(visitor.cookie), reason]);
    });

    it('is ignored by a worker who is sent a visitor’s, where nobody is logged in', async () => {
      const token = newToken();
      const client = await stack.connect(undefined, { url: stack.shop.url, token });
      const annotation = signAnnotation(claims(tier, { token, cookie: visitor.cookie }), key());
      const event = await stack.ask(client, { tier, annotation });
      expect([event.user, event.annotation]).toEqual(['anonymous', 'session']);
    });
  });
});

function wrong(secret: string): Key {
  return keyring(secret.padEnd(32, '.'), [], 'annotation').current;
}

describe.each(SOURCES)('a sidecar whose clock is not the worker’s, by the source %s', (source) => {
  let postgres: Postgres;
  let stack: DjangoStack;
  beforeAll(async () => {
    postgres = await startPostgres();
    stack = await DjangoStack.start({ source, databaseUrl: postgres.url });
  });
  afterAll(async () => {
    await stack?.stop();
    await postgres?.stop();
  });

  it.each([
    ['is believed 4 s ahead', 4_000, 'valid'],
    ['is believed 4 s behind', -4_000, 'valid'],
    ['is not believed a minute ahead: the worker asks Django itself', 60_000, 'future'],
    ['is not believed a minute behind: the worker asks Django itself', -60_000, 'expired'],
  ])('%s', async (_what, offset, outcome) => {
    await stack.restartSidecar(shifted(offset));
    for (const tier of AUTH_TIERS) {
      const person = await stack.user();
      for (const cookie of [person.cookie, undefined]) {
        const client = await stack.connect(cookie);
        const event = await stack.ask(client, { tier });
        expect([event.user, event.annotation]).toEqual([await stack.says(cookie), outcome]);
        if (outcome === 'valid') expect(event.bridge_queries).toBe(0);
      }
      const client = await stack.connect(person.cookie);
      expect((await stack.ask(client, { tier })).user).toBe(person.name);
      await stack.django.run('bulk_update', { username: person.name, is_active: false });
      stack.sidecar.running.operator.invalidate({ all: true });
      expect((await stack.ask(client, { tier })).user).toBe(await stack.says(person.cookie));
      expect(await stack.says(person.cookie)).toBe('anonymous');
    }
  });
});
