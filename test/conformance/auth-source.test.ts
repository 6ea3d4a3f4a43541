import { randomBytes } from 'node:crypto';
import { Pool } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { databasePool } from '../../src/adapters/auth/database-pool.ts';
import { djangoDbSource, type DjangoDbSource } from '../../src/adapters/auth/django-db.ts';
import { linkServer } from '../../src/adapters/link/link-server.ts';
import { Figures } from '../../src/adapters/metrics/figures.ts';
import type { AuthResult, AuthSource } from '../../src/ports/auth.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger, type Logger } from '../../src/ports/logger.ts';
import { keyring, sessionHash } from '../../src/protocol/keys.ts';
import { waitUntil } from '../../tools/process.ts';
import { pythonEnv, type PythonEnv } from '../../tools/python-env.ts';
import { startPostgres, type Postgres } from '../../tools/services/postgres.ts';
import { DjangoProject, type ProjectSettings } from '../support/django-project.ts';
import { ManualClock } from '../support/manual-clock.ts';

const PERMISSIONS = ['auth.change_user', 'auth.delete_group', 'auth.view_group'];
const KEY = 'the secret key of the project';

/** A source for one Django project: what Django says there, it must say. */
interface SourceFactory {
  readonly open: (
    project: DjangoProject,
  ) => Promise<{ readonly source: AuthSource; readonly close: () => Promise<void> }>;
}

const djangoDb: SourceFactory = {
  open: async ({ settings }) => {
    const pool = databasePool(settings.databaseUrl, silentLogger);
    return Promise.resolve({ source: dbSource(pool, settings), close: () => pool.end() });
  },
};

/** Django's own code in a real process, asked over a real link. */
const companion: SourceFactory = {
  open: async (project) => {
    const secret = randomBytes(32).toString('base64url');
    const links = linkServer(
      { listen: { host: '127.0.0.1', port: 0 }, name: 'shop', instance: 'sidecar-1' },
      { keys: keyring(secret, [], 'link'), clock: systemClock, logger: silentLogger, metrics: new Figures() },
    );
    links.setRules({ mode: 'inherit', resolve: false, shadow: false, rules: [], permissions: PERMISSIONS });
    await project.run('link', { url: await links.listen(), secret });
    await waitUntil(() => links.workers.length > 0, { what: 'the project to link' });
    const close = async (): Promise<void> => {
      await project.run('unlink');
      await links.close();
    };
    return { source: links, close };
  },
};

function dbSource(
  pool: Pool,
  { secretKey, fallbacks, userModel, backends }: DjangoProject['settings'],
  more: { replica?: Pool; clock?: ManualClock; logger?: Logger } = {},
): DjangoDbSource {
  return djangoDbSource({
    pool,
    settings: { secretKeys: [secretKey, ...fallbacks], userModel, backends },
    permissions: () => PERMISSIONS,
    clock: systemClock,
    logger: silentLogger,
    ...more,
  });
}

let postgres: Postgres;
let python: PythonEnv;
const closing: (() => Promise<void>)[] = [];
/** One for each user model: every case has a user and a session of its own there. */
const shared = new Map<string, DjangoProject>();

beforeAll(async () => {
  python = await pythonEnv();
  postgres = await startPostgres();
  for (const userModel of ['auth.User', 'members.Member'] as const) {
    const databaseUrl = await postgres.createDatabase(`shared${shared.size}`);
    const project = new DjangoProject(python, { databaseUrl, userModel });
    shared.set(userModel, project);
    await project.run('migrate');
  }
}, 900_000);
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});
afterAll(async () => {
  for (const project of shared.values()) await project.stop();
  await postgres.stop();
});

function start(settings: ProjectSettings): DjangoProject {
  const project = new DjangoProject(python, settings);
  closing.push(() => project.stop());
  return project;
}

let databases = 0;
let users = 0;

/** A database with the project's tables. */
async function migrated(settings: Partial<ProjectSettings> = {}): Promise<DjangoProject> {
  const databaseUrl = await postgres.createDatabase(`auth${++databases}`);
  const project = start({ databaseUrl, ...settings });
  await project.run('migrate');
  return project;
}

async function ask(source: AuthSource, cookie: string): Promise<AuthResult> {
  return source.resolve(cookie, AbortSignal.timeout(5_000));
}

/** Without the times, which are looked at here: a source's answer and Django's can be compared. */
function timeless(result: AuthResult, django?: object): object {
  if (result.kind === 'unavailable') return { kind: 'unavailable' };
  const { at, ...rest } = result;
  expect(Math.abs(Date.now() - at)).toBeLessThan(10_000);
  if (rest.kind === 'anonymous') return rest;
  const { expires, ...user } = rest;
  if (django !== undefined && 'expires' in django) {
    expect(Math.abs(Number(expires) - Number(django.expires))).toBeLessThan(2);
    return { ...user, expires: django.expires };
  }
  return user;
}

const SESSION_DATA = 'UPDATE django_session SET session_data = %s WHERE session_key = %s';

/** Each case makes a cookie; `project` may be another one on the same database from then on. */
interface Case {
  readonly name: string;
  readonly expected: 'user' | 'anonymous';
  readonly make: (project: DjangoProject, pk: string) => Promise<string>;
  /** The settings under which the cookie is then read. */
  readonly settings?: Partial<ProjectSettings>;
  /** What a source may say that cannot tell what Django can. */
  readonly mayBeUnavailable?: boolean;
}

const logIn = (project: DjangoProject, pk: string): Promise<string> => project.run<string>('log_in', { pk });

/** Logs in, then changes something. */
const afterwards =
  (op: string, values: object = {}) =>
  async (project: DjangoProject, pk: string): Promise<string> => {
    const cookie = await logIn(project, pk);
    const whom = op.endsWith('user') || op.startsWith('grant') ? { pk } : { cookie };
    await project.run(op, { ...whom, ...values });
    return cookie;
  };

const CASES: readonly Case[] = [
  { name: 'a user who is logged in', expected: 'user', make: logIn },
  { name: 'no session of that name', expected: 'anonymous', make: async () => 'a'.repeat(32) },
  { name: 'a key that Django would not look for', expected: 'anonymous', make: async () => 'short' },
  {
    // Django fails at it.
    name: 'a key that no database can hold',
    expected: 'anonymous',
    make: async () => `nul\0${'a'.repeat(32)}`,
    mayBeUnavailable: true,
  },
  { name: 'a key that tries to be SQL', expected: 'anonymous', make: async () => "' OR session_key <> '" },
  {
    name: 'a session without a user',
    expected: 'anonymous',
    make: (project) => project.run('new_session', { values: { cart: [1] } }),
  },
  { name: 'an expired session', expected: 'anonymous', make: afterwards('expire') },
  { name: 'a session that was flushed', expected: 'anonymous', make: afterwards('flush') },
  { name: 'a deactivated user', expected: 'anonymous', make: afterwards('save_user', { is_active: false }) },
  { name: 'a deleted user', expected: 'anonymous', make: afterwards('delete_user') },
  {
    name: 'a password that was changed elsewhere',
    expected: 'anonymous',
    make: afterwards('save_user', { password: 'new' }),
  },
  {
    name: 'a session large enough to be compressed',
    expected: 'user',
    make: afterwards('edit_session', { values: { cart: 'x'.repeat(5_000) } }),
  },
  {
    name: 'a session with text of all kinds',
    expected: 'user',
    make: afterwards('edit_session', { values: { note: 'ä €\u0000\ud83d\ude00 :.-_' } }),
  },
  { name: 'permissions of its own', expected: 'user', make: afterwards('grant', { permission: 'auth.delete_group' }) },
  {
    name: 'permissions by a group',
    expected: 'user',
    make: afterwards('grant_by_group', { permission: 'auth.view_group' }),
  },
  { name: 'a superuser', expected: 'user', make: afterwards('save_user', { is_superuser: true, is_staff: true }) },
  {
    name: 'a rotated SECRET_KEY with a fallback',
    expected: 'user',
    make: logIn,
    settings: { secretKey: 'a new key', fallbacks: ['x', KEY] },
  },
  {
    name: 'a rotated SECRET_KEY without a fallback',
    expected: 'anonymous',
    make: logIn,
    settings: { secretKey: 'a new key' },
  },
  {
    name: 'a session hash that was removed',
    expected: 'anonymous',
    make: afterwards('edit_session', { values: { _auth_user_hash: '' } }),
  },
  {
    name: 'a session hash of another kind',
    expected: 'anonymous',
    make: afterwards('edit_session', { values: { _auth_user_hash: null } }),
  },
  {
    name: "another's session hash",
    expected: 'anonymous',
    make: afterwards('edit_session', { values: { _auth_user_hash: '0'.repeat(64) } }),
  },
  {
    name: 'a backend that the project no longer has',
    expected: 'anonymous',
    make: afterwards('edit_session', { values: { _auth_user_backend: 'gone.Backend' } }),
    mayBeUnavailable: true,
  },
  {
    name: 'a session of the engine cached_db',
    expected: 'user',
    make: async (project, pk) => {
      const cached = start({ ...project.settings, engine: 'django.contrib.sessions.backends.cached_db' });
      return logIn(cached, pk);
    },
  },
  {
    name: 'a session pickled by a project that pickles',
    expected: 'user',
    make: async (project, pk) =>
      logIn(start({ ...project.settings, serializer: 'members.serializers.PickleSerializer' }), pk),
    settings: { serializer: 'members.serializers.PickleSerializer' },
    mayBeUnavailable: true,
  },
  ...[
    ['cut', (data: string) => data.slice(0, -1)],
    ['with another signature', (data: string) => data.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'))],
    ['with another payload', (data: string) => `${data.startsWith('A') ? 'B' : 'A'}${data.slice(1)}`],
    ['with another time', (data: string) => data.replace(/:[^:]+:/, ':1abcde:')],
    ['without a signature', (data: string) => data.split(':')[0] ?? ''],
    ['that is empty', () => ''],
    ['that is no session at all', () => '{"_auth_user_id": "1"}'],
  ].map(([name, change]): Case => ({
    name: `session data ${String(name)}`,
    expected: 'anonymous',
    make: async (project, pk) => {
      const cookie = await logIn(project, pk);
      const data = await stored(project, cookie);
      await project.run('sql', { text: SESSION_DATA, values: [(change as (data: string) => string)(data), cookie] });
      return cookie;
    },
  })),
  {
    name: "another session's data, which Django signs without its key",
    expected: 'user',
    make: async (project, pk) => {
      const data = await stored(project, await logIn(project, pk));
      const cookie = await project.run<string>('new_session', { values: {} });
      await project.run('sql', { text: SESSION_DATA, values: [data, cookie] });
      return cookie;
    },
  },
];

async function stored({ settings }: DjangoProject, cookie: string): Promise<string> {
  const pool = new Pool({ connectionString: settings.databaseUrl });
  const { rows } = await pool.query<{ session_data: string }>(
    'SELECT session_data FROM django_session WHERE session_key = $1',
    [cookie],
  );
  await pool.end();
  return rows[0]?.session_data ?? '';
}

describe.each([
  ['django-db', djangoDb],
  ['companion', companion],
])('the auth source %s says what Django says', (_, factory) => {
  describe.each(['auth.User', 'members.Member'] as const)('of %s', (userModel) => {
    it.each(CASES)(
      'for $name',
      async ({ expected, make, settings, mayBeUnavailable = false }) => {
        const first = shared.get(userModel);
        if (first === undefined) throw new Error(`no project with ${userModel}`);
        const pk = await first.run<string>('make_user', { name: `demo${++users}@example.test` });
        const cookie = await make(first, pk);
        const project = settings === undefined ? first : start({ ...first.settings, ...settings });
        const { source, close } = await factory.open(project);
        closing.push(close);
        const answer = await ask(source, cookie);
        const django = cookie.includes('\0')
          ? { kind: 'anonymous' }
          : await project.run<{ kind: string }>('answer', { cookie, permissions: PERMISSIONS });
        const said = timeless(answer, django);
        expect(django.kind).toBe(expected);
        if (mayBeUnavailable) expect([django, { kind: 'unavailable' }]).toContainEqual(said);
        else expect(said).toEqual(django);
      },
      60_000,
    );
  });

  it('with snapshots that are too large, and fields that JSON cannot hold', async () => {
    const project = await migrated({ userModel: 'members.Member' });
    const { source, close } = await factory.open(project);
    closing.push(close);
    for (const [name, fields] of Object.entries({
      plain: { born: '1999-12-31', bio: 'ä'.repeat(256) },
      long: { bio: 'x'.repeat(257), motto: '€'.repeat(256) },
      large: { bio: '€'.repeat(256), motto: '€'.repeat(256), visits: 5 },
      numbers: { balance: '-3.10', visits: -7, score: 1e300 },
    })) {
      const pk = await project.run<string>('make_user', { name: `${name}@example.test`, ...fields });
      const cookie = await logIn(project, pk);
      const django = await project.run<object>('answer', { cookie, permissions: PERMISSIONS });
      const said = timeless(await ask(source, cookie), django);
      expect(said, name).toEqual(django);
      expect(JSON.stringify(said)).not.toMatch(/never to travel|password/);
    }
  }, 60_000);
});

describe('the auth source django-db', () => {
  async function loggedIn(): Promise<{ project: DjangoProject; pk: string; cookie: string }> {
    const project = await migrated();
    const pk = await project.run<string>('make_user', { name: 'demo' });
    return { project, pk, cookie: await logIn(project, pk) };
  }

  function pool(url: string): Pool {
    const made = databasePool(url, silentLogger);
    closing.push(() => made.end());
    return made;
  }

  it('asks the replica, but the primary for 30 s after the start and after an invalidation', async () => {
    const { project, pk, cookie } = await loggedIn();
    const replicaUrl = await postgres.createDatabase(`replica${databases}`);
    const behind = start({ ...project.settings, databaseUrl: replicaUrl });
    await behind.run('migrate');
    const clock = new ManualClock(Date.now());
    const source = dbSource(pool(project.settings.databaseUrl), project.settings, { replica: pool(replicaUrl), clock });
    // Nobody knows what was invalidated just before the start.
    expect((await ask(source, cookie)).kind).toBe('user');
    clock.advance(30_001);
    // Not on the replica yet: the primary has it, but the user is asked of the replica.
    expect((await ask(source, cookie)).kind).toBe('anonymous');
    for (const what of [{ session: sessionHash(cookie) }, { user: `auth.user:${pk}` }, { all: true as const }]) {
      source.invalidated(what);
      expect((await ask(source, cookie)).kind).toBe('user');
      clock.advance(29_000);
      expect((await ask(source, cookie)).kind).toBe('user');
      clock.advance(1_001);
      expect((await ask(source, cookie)).kind).toBe('anonymous');
    }
  }, 60_000);

  it('answers nobody while a worker says that the table does not tell all, and says so once', async () => {
    const { project, cookie } = await loggedIn();
    const lines: string[] = [];
    const logger: Logger = { ...silentLogger, warn: (_, message) => void lines.push(message) };
    const source = dbSource(pool(project.settings.databaseUrl), project.settings, { logger });
    expect(source.learned({ model: 'auth.user', own: [] })).toBe(false);
    expect((await ask(source, cookie)).kind).toBe('user');
    const facts = { model: 'auth.user', own: ['is_active'] };
    expect([source.learned(facts), source.learned(facts)]).toEqual([true, false]);
    expect(await ask(source, cookie)).toEqual({ kind: 'unavailable', cause: 'user_model' });
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('auth.user has its own is_active');
    expect(source.learned({ model: 'auth.user', own: [] })).toBe(true);
    expect((await ask(source, cookie)).kind).toBe('user');
  }, 60_000);

  it('asks the primary where the replica is away', async () => {
    const { project, cookie } = await loggedIn();
    const replica = pool(project.settings.databaseUrl.replace(/:\d+\//, ':1/'));
    const source = dbSource(pool(project.settings.databaseUrl), project.settings, { replica });
    expect((await ask(source, cookie)).kind).toBe('user');
  }, 60_000);

  it('is unavailable while the database is down, holds nobody up, and says so once', async () => {
    const own = await startPostgres();
    closing.push(() => own.stop());
    const lines: string[] = [];
    const logger: Logger = { ...silentLogger, warn: (_, message) => void lines.push(message) };
    const project = start({ databaseUrl: own.url });
    await project.run('migrate');
    const source = dbSource(pool(own.url), project.settings, { logger });
    const cookie = await logIn(project, await project.run('make_user', { name: 'demo' }));
    expect((await ask(source, cookie)).kind).toBe('user');
    await own.stop();
    for (let n = 0; n < 50; n++) {
      const begun = performance.now();
      expect(await ask(source, cookie)).toEqual({ kind: 'unavailable', cause: 'database' });
      expect(performance.now() - begun).toBeLessThan(1_500);
    }
    expect(lines).toEqual(['the database cannot be asked for users (said once)']);
  }, 60_000);

  it('is unavailable when a table is locked, within two seconds', async () => {
    const { project, cookie } = await loggedIn();
    const source = dbSource(pool(project.settings.databaseUrl), project.settings);
    const locker = new Pool({ connectionString: project.settings.databaseUrl, max: 1 });
    closing.push(() => locker.end());
    await locker.query('BEGIN');
    await locker.query('LOCK TABLE auth_user');
    const begun = performance.now();
    expect(await ask(source, cookie)).toEqual({ kind: 'unavailable', cause: 'database' });
    expect(performance.now() - begun).toBeLessThan(2_000);
    await locker.query('ROLLBACK');
    await expect.poll(async () => (await ask(source, cookie)).kind, { timeout: 5_000 }).toBe('user');
  }, 60_000);

  it('is unavailable where the tables are not there, heeds the signal, and follows a migration', async () => {
    const empty = pool(await postgres.createDatabase(`empty${databases}`));
    const { project, cookie } = await loggedIn();
    expect((await ask(dbSource(empty, project.settings), cookie)).kind).toBe('unavailable');
    const source = dbSource(pool(project.settings.databaseUrl), project.settings);
    expect((await source.resolve(cookie, AbortSignal.abort())).kind).toBe('unavailable');
    expect((await ask(source, cookie)).kind).toBe('user');
    await project.run('sql', { text: 'ALTER TABLE auth_user DROP COLUMN last_name', values: [] });
    await expect.poll(async () => (await ask(source, cookie)).kind, { timeout: 5_000 }).toBe('user');
  }, 60_000);
});
