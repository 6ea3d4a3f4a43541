import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { configSchema, type ConfigInput } from '../../config/schema.ts';
import { composeSource } from '../../sidecar/compose-source.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { pythonEnv } from '../../tools/python-env.ts';
import { startPostgres, type Postgres } from '../../tools/services/index.ts';
import { event, LiveStand } from '../support/live-stand.ts';
import { eventually } from '../support/eventually.ts';
import { DjangoProject } from '../support/django-project.ts';

const BACKEND = 'django.contrib.auth.backends.RemoteUserBackend';
const KEY = 'the secret key of the project';

describe('the source django-db by its configuration', () => {
  let postgres: Postgres;
  let cookie: string;

  /** Users of another backend, and sessions in a table of another name. */
  beforeAll(async () => {
    postgres = await startPostgres();
    const project = new DjangoProject(await pythonEnv(), {
      databaseUrl: postgres.url,
      secretKey: KEY,
      backends: [BACKEND],
    });
    await project.run('migrate');
    const pk = await project.run<string>('make_user', { name: 'demo' });
    cookie = await project.run<string>('log_in', { pk, backend: BACKEND });
    await project.run('sql', { text: 'CREATE TABLE own_session AS TABLE django_session', values: [] });
    await project.run('sql', { text: 'DELETE FROM django_session', values: [] });
    await project.stop();
  });
  afterAll(() => postgres?.stop());

  type DjangoInput = NonNullable<NonNullable<ConfigInput['auth']>['django']>;
  it.each<[string, DjangoInput, string]>([
    [
      'finds a user of the backends and in the table given',
      { backends: [BACKEND], sessionTable: 'own_session' },
      'user',
    ],
    ['leaves users of other backends to the worker', { sessionTable: 'own_session' }, 'unavailable'],
    ["looks into Django's own table where none is given", { backends: [BACKEND] }, 'anonymous'],
    ['does not know of a table that is not there', { backends: [BACKEND], sessionTable: 'no_session' }, 'unavailable'],
    [
      'takes a name of a table for a name alone',
      { backends: [BACKEND], sessionTable: 'own_session" WHERE true; --' },
      'unavailable',
    ],
  ])('%s', async (_what, django, expected) => {
    const config = configSchema.parse({
      auth: { source: 'django-db', django: { secretKey: KEY, ...django } },
      database: { url: postgres.url },
    });
    const parts = { clock: systemClock, logger: silentLogger, permissions: () => [] };
    const source = await composeSource(config, undefined, parts);
    const answer = await source?.resolve(cookie, AbortSignal.timeout(5_000));
    await source?.close?.();
    expect(answer?.kind).toBe(expected);
  });

  it.each([
    ['is plain', { model: 'auth.user', own: [] }, true],
    ['tells nothing', undefined, true],
    ['hides users', { model: 'auth.user', own: ['manager.get_queryset', 'is_active'] }, false],
    ['is another one', { model: 'shop.person', own: [] }, false],
  ])("leaves users to the workers unless the app's model %s: %o", async (_, user, isKnown) => {
    const stand = new LiveStand();
    try {
      const sidecar = await stand.sidecar({
        auth: {
          source: 'django-db',
          django: { secretKey: KEY, backends: [BACKEND], sessionTable: 'own_session' },
        },
        database: { url: postgres.url },
      });
      const plain = await stand.worker(sidecar, 'plain', { user: { model: 'auth.user', own: [] } });
      const worker = await stand.worker(sidecar, 'one', { user });
      const tab = await stand.tab(sidecar, [plain, worker], { cookie: `sessionid=${cookie}` });
      tab.client.send(event(7, { name: 'root.order.place' }));
      await eventually(() => tab.there.texts.some((text) => text.includes('"n":7'))).toBe(true);
      const { authLookups } = sidecar.metrics;
      expect([authLookups.count('source'), authLookups.count('unavailable')]).toEqual(isKnown ? [1, 0] : [0, 1]);
      const said = sidecar.log().split('leaves all users to the workers').length - 1;
      expect(said).toBe(isKnown ? 0 : 1);
      if (user?.model === 'shop.person') expect(sidecar.log()).toContain('set auth.django.userModel to');
      if (user?.own.includes('is_active')) expect(sidecar.log()).toContain('set auth.source to');
    } finally {
      await stand.end();
    }
  });
});
