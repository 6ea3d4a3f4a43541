import type { Socket } from 'socket.io-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { waitUntil } from '../../tools/process.ts';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { AUTH_TIERS, DjangoStack, SOURCES, type Person } from '../support/django-stack.ts';
import { eventually } from '../support/eventually.ts';

/** Seconds that an answer may be old in these tests. */
const TTL = 2;
/** What a sidecar that hears no invalidations cuts it to. Milliseconds. */
const BLIND_TTL = 5_000;

const until = (time: number): Promise<void> =>
  waitUntil(() => Date.now() > time, { intervalMs: 20, what: 'an answer to grow too old' });

/** Changes that nobody is told of: no signal, no message on the bus. What Django says then must be seen after the TTL. */
const SILENT: readonly (readonly [string, (stack: DjangoStack, person: Person) => Promise<unknown>])[] = [
  ['deactivated by SQL', (stack, { name }) => sql(stack, 'UPDATE auth_user SET is_active = false', name)],
  [
    'deactivated by a bulk update',
    (stack, { name }) => stack.django.run('bulk_update', { username: name, is_active: false }),
  ],
  ['given another password by SQL', (stack, { name }) => sql(stack, "UPDATE auth_user SET password = 'md5$a$b'", name)],
  [
    'logged out by SQL',
    (stack, { cookie }) =>
      stack.django.run('sql', { text: 'DELETE FROM django_session WHERE session_key = %s', values: [cookie] }),
  ],
  [
    'expired by SQL',
    (stack, { cookie }) =>
      stack.django.run('sql', {
        text: "UPDATE django_session SET expire_date = now() - interval '1 s' WHERE session_key = %s",
        values: [cookie],
      }),
  ],
  [
    'renamed by SQL',
    (stack, { name }) =>
      stack.django.run('sql', {
        text: 'UPDATE auth_user SET username = %s WHERE username = %s',
        values: [`${name}-new`, name],
      }),
  ],
];

function sql(stack: DjangoStack, text: string, name: string): Promise<unknown> {
  return stack.django.run('sql', { text: `${text} WHERE username = %s`, values: [name] });
}

describe.each(SOURCES)('by the source %s', (source) => {
  let postgres: Postgres;
  const stops: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterEach(async () => {
    for (const stop of stops.splice(0).toReversed()) await stop();
  });
  afterAll(() => postgres?.stop());

  let databases = 0;
  async function start(config: Parameters<typeof DjangoStack.start>[0]['config'] = {}): Promise<DjangoStack> {
    const databaseUrl = await postgres.createDatabase(`shop${++databases}`);
    const stack = await DjangoStack.start({
      source,
      databaseUrl,
      config: { auth: { cache: { ttl: TTL } }, ...config },
    });
    stops.push(() => stack.stop());
    return stack;
  }

  it('a user who is changed behind everybody’s back is seen as Django sees them a TTL later', async () => {
    const stack = await start();
    for (const tier of AUTH_TIERS) {
      const people = await Promise.all(
        SILENT.map(async ([what, change]) => {
          const person = await stack.user();
          return { what, change, person, client: await stack.connect(person.cookie) };
        }),
      );
      for (const { client, person, what } of people) {
        expect((await stack.ask(client, { tier })).user, what).toBe(person.name);
      }
      for (const { change, person } of people) await change(stack, person);
      const changed = Date.now();
      for (const { client, person, what } of people) {
        const allowed = [person.name, await stack.says(person.cookie)];
        expect(allowed, what).toContain((await stack.ask(client, { tier })).user);
      }
      await until(changed + TTL * 1000);
      for (const { client, person, what } of people) {
        const says = await stack.says(person.cookie);
        expect(says, what).not.toBe(person.name);
        expect((await stack.ask(client, { tier })).user, what).toBe(says);
      }
    }
  });

  it('without Redis events flow on, and what was missed meanwhile is seen within the cut TTL', async () => {
    let redis: Redis = await startRedis();
    stops.push(() => redis.stop());
    const { port, url } = redis;
    const stack = await start({ redis: { url }, auth: { cache: { ttl: 3_600 } } });
    const people = { kept: await stack.user(), gone: await stack.user(), late: await stack.user() };
    const clients = {
      kept: await stack.connect(people.kept.cookie),
      gone: await stack.connect(people.gone.cookie),
    };
    for (const who of ['kept', 'gone'] as const) {
      expect((await stack.ask(clients[who], { tier: 'auth_only' })).user).toBe(people[who].name);
    }
    await redis.stop();
    await stack.django.run('save_user', { username: people.gone.name, is_active: false });
    const changed = Date.now();
    for (const tier of AUTH_TIERS) {
      expect((await stack.ask(clients.kept, { tier })).user).toBe(people.kept.name);
      expect([people.gone.name, 'anonymous']).toContain((await stack.ask(clients.gone, { tier })).user);
      const stranger = await stack.connect(undefined);
      expect((await stack.ask(stranger, { tier })).user).toBe('anonymous');
    }
    expect((await stack.ask(await stack.connect(people.late.cookie), { tier: 'full' })).user).toBe(people.late.name);
    await eventually(() => stack.sidecar.running.operator.health().find(({ name }) => name === 'redis')?.state).toBe(
      'down',
    );
    await until(changed + BLIND_TTL);
    for (const tier of AUTH_TIERS) expect((await stack.ask(clients.gone, { tier })).user).toBe('anonymous');
    redis = await startRedis({ port });
    await eventually(() => stack.sidecar.running.operator.health().find(({ name }) => name === 'redis')?.state).toBe(
      'up',
    );
    for (const [who, expected] of [
      ['kept', people.kept.name],
      ['gone', 'anonymous'],
    ] as const) {
      expect((await stack.ask(clients[who], { tier: 'auth_only' })).user).toBe(expected);
    }
  });

  it('without the database nobody is somebody whom the sidecar did not know, and it is whom Django says afterwards', async () => {
    const stack = await start();
    const [known, unknown] = [await stack.user(), await stack.user()];
    const clients = { known: await stack.connect(known.cookie), unknown: await stack.connect(unknown.cookie) };
    expect((await stack.ask(clients.known, { tier: 'auth_only' })).user).toBe(known.name);
    await postgres.halt();
    const halted = Date.now();
    const nobody = async (client: Socket): Promise<void> => {
      for (const tier of AUTH_TIERS) {
        const { user } = await stack.ask(client, { tier, mayFail: true });
        expect([null, 'unresolved', 'anonymous']).toContain(user);
      }
    };
    await nobody(clients.unknown);
    await until(halted + TTL * 1000);
    // What was known is forgotten in time, also while nobody can say more.
    await nobody(clients.known);
    await postgres.restart();
    for (const tier of AUTH_TIERS) {
      for (const [who, { name }] of [
        [clients.known, known],
        [clients.unknown, unknown],
      ] as const) {
        await eventually(async () => (await stack.ask(who, { tier })).user, { interval: 100 }).toBe(name);
      }
    }
  });

  it('without a worker nothing is remembered longer, and its successor sees whom Django says', async () => {
    const stack = await start();
    const [kept, gone] = [await stack.user(), await stack.user()];
    for (const { cookie, name } of [kept, gone]) {
      const client = await stack.connect(cookie);
      for (const tier of AUTH_TIERS) expect((await stack.ask(client, { tier })).user).toBe(name);
    }
    await stack.killWorker();
    await stack.django.run('bulk_update', { username: gone.name, is_active: false });
    const changed = Date.now();
    await stack.restartWorker();
    await until(changed + TTL * 1000);
    for (const { cookie } of [kept, gone]) {
      const client = await stack.connect(cookie);
      const says = await stack.says(cookie);
      for (const tier of AUTH_TIERS) expect((await stack.ask(client, { tier })).user).toBe(says);
    }
    expect(await stack.says(gone.cookie)).toBe('anonymous');
  });
});
