import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readEnvironment, variableOf } from '../../../config/environment.ts';
import { allKeys } from '../../../config/keys.ts';
import { loadConfig } from '../../../config/load.ts';
import { reloaded } from '../../../config/reload.ts';
import { explain } from '../../../config/explain.ts';
import { faultsOf, folderWith, load, yaml } from './folder.ts';

describe('precedence', () => {
  it('is flag, environment, file, preset, default', async () => {
    const folder = await folderWith(
      yaml('preset: small\nlimits: { sessions: 10, queueBytes: 20, payloadBytes: 5000 }\nname: file'),
    );
    const { config, sources } = await loadConfig({
      folder,
      environment: { BRIDGEHEAD_LIMITS_QUEUE_BYTES: '30', BRIDGEHEAD_NAME: 'environment' },
      flags: { name: 'flag', listen: undefined },
    });
    expect(config.limits).toMatchObject({ totalQueueBytes: 32_000_000, sessions: 10, queueBytes: 30, eventBurst: 400 });
    expect(config.name).toBe('flag');
    expect(sources).toMatchObject({
      name: 'flag',
      'limits.queueBytes': 'environment',
      'limits.sessions': 'file',
      'limits.totalQueueBytes': 'preset',
      'limits.eventBurst': 'default',
      listen: 'default',
    });
  });

  it('lets a preset change only what is not set explicitly', async () => {
    const plain = await load({});
    const { config } = await load(yaml('preset: large\nshutdownDelay: 0'));
    expect(config.shutdownDelay).toBe(0);
    expect(config.limits.sessions).toBe(100_000);
    expect(config.limits.eventsPerSecond).toBe(plain.config.limits.eventsPerSecond);
  });

  it('takes a preset from the environment too', async () => {
    const { config } = await load({}, { BRIDGEHEAD_PRESET: 'lean' });
    expect(config.tiers.mode).toBe('smart');
    expect(await faultsOf({}, { BRIDGEHEAD_PRESET: 'laen' })).toMatchObject([
      { path: 'preset', remedy: 'Did you mean lean?' },
    ]);
  });

  it('treats undefined in a TypeScript file as unset', async () => {
    const { config, sources } = await load(
      { 'bridgehead.config.ts': 'export default { secret: undefined, admin: { apiKey: undefined } };' },
      { BRIDGEHEAD_API_KEY: 'from-the-environment' },
    );
    expect(config.secret).toBeUndefined();
    expect(config.admin.apiKey).toBe('from-the-environment');
    expect(sources['admin.apiKey']).toBe('environment');
  });
});

describe('the environment', () => {
  it('names keys in upper snake case', () => {
    expect(variableOf('admin.listen')).toBe('BRIDGEHEAD_ADMIN_LISTEN');
    expect(variableOf('limits.payloadBytes')).toBe('BRIDGEHEAD_LIMITS_PAYLOAD_BYTES');
    expect(variableOf('live.coalesceMs')).toBe('BRIDGEHEAD_LIVE_COALESCE_MS');
  });

  it('has a name of its own for every key', () => {
    const names = allKeys().map((key) => variableOf(key.path));
    expect(new Set(names).size).toBe(names.length);
  });

  it('reads numbers, booleans, lists by comma, objects and rules as JSON', async () => {
    const { config } = await load(
      {},
      {
        BRIDGEHEAD_LIMITS_SESSIONS: '1_500',
        BRIDGEHEAD_LIMITS_EVENTS_PER_SECOND: '0.5',
        BRIDGEHEAD_PROXY_OTHER: 'TRUE',
        BRIDGEHEAD_BACKENDS: 'http://127.0.0.1:8001/, http://127.0.0.1:8002,',
        BRIDGEHEAD_TIERS_RULES: '[{"state":"a.*","tier":"none"}]',
        BRIDGEHEAD_AUTH: '{"cache":{"ttl":5,"max":6}}',
        BRIDGEHEAD_AUTH_CACHE_TTL: '7',
        BRIDGEHEAD_COMPRESSION: '{}',
        BRIDGEHEAD_LIVE_OUTBOX: 'false',
        BRIDGEHEAD_METRICS_LOG: 'false',
        BRIDGEHEAD_SHUTDOWN_DELAY: '',
      },
    );
    expect(config.limits).toMatchObject({ sessions: 1500, eventsPerSecond: 0.5 });
    expect(config.proxyOther).toBe(true);
    expect(config.backends).toEqual(['http://127.0.0.1:8001', 'http://127.0.0.1:8002']);
    expect(config.tiers.rules).toEqual([{ state: 'a.*', tier: 'none' }]);
    expect(config.auth.cache).toEqual({ ttl: 7, max: 6 });
    expect(config.compression).toEqual({ threshold: 1024 });
    expect(config.live.outbox).toBe(false);
    expect(config.metrics.log).toBe(false);
    expect(config.shutdownDelay).toBe(0);
  });

  it('turns false into an object where a key inside is set', async () => {
    const { config } = await load(yaml('compression: false'), { BRIDGEHEAD_COMPRESSION_THRESHOLD: '99' });
    expect(config.compression).toEqual({ threshold: 99 });
  });

  it('has short forms, and its long form wins', async () => {
    const short = {
      REDIS_URL: 'redis://r',
      DATABASE_URL: 'postgres://d/x',
      DATABASE_LISTEN_URL: 'postgresql://l',
      LOG_LEVEL: 'WARNING',
    };
    const { config } = await load({}, { ...short, BRIDGEHEAD_API_KEY: 'short' });
    expect(config).toMatchObject({
      redis: { url: 'redis://r' },
      database: { url: 'postgres://d/x', listenUrl: 'postgresql://l' },
      log: { level: 'warn' },
      admin: { apiKey: 'short' },
    });
    const long = await load(
      {},
      { ...short, BRIDGEHEAD_LOG_LEVEL: 'debug', BRIDGEHEAD_API_KEY: 'a', BRIDGEHEAD_ADMIN_API_KEY: 'b' },
    );
    expect(long.config.log.level).toBe('debug');
    expect(long.config.admin.apiKey).toBe('b');
  });

  it('ignores a DATABASE_URL of another database with a line that does not show it', async () => {
    const { config, notices } = await load({}, { DATABASE_URL: 'mysql://u:hunter2@h/x' });
    expect(config.database.url).toBeUndefined();
    expect(notices).toEqual(['DATABASE_URL is not a PostgreSQL URL and is ignored']);
  });

  it('warns about unknown names with the nearest one, but not about those of the worker', async () => {
    const { notices } = await load(
      {},
      { BRIDGEHEAD_LIMTS_SESSIONS: '1', BRIDGEHEAD_LINK_URL: 'tcp://x:1', OTHER: 'x' },
    );
    expect(notices).toEqual([
      'BRIDGEHEAD_LIMTS_SESSIONS is not a known variable; did you mean BRIDGEHEAD_LIMITS_SESSIONS?',
    ]);
  });

  it('knows every name that the companion reads', async () => {
    const folder = new URL('../../../python/src/', import.meta.url).pathname;
    const files = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.py'));
    const texts = await Promise.all(files.map((name) => readFile(join(folder, name), 'utf8')));
    // What is read from Django's settings is no variable.
    const read = texts.flatMap((text) => [...text.matchAll(/(?<!settings, )"(BRIDGEHEAD_[A-Z_]+)"/g)]);
    const names = new Set(read.map(([, name = '']) => name));
    expect(names.size).toBeGreaterThan(8);
    for (const name of names) {
      const { notices } = readEnvironment({ [name]: '1' });
      expect(notices, name).toEqual([]);
    }
  });

  it('tells broken JSON as a fault of its variable', async () => {
    expect(await faultsOf({}, { BRIDGEHEAD_TIERS_RULES: '[{' })).toMatchObject([
      { path: 'tiers.rules', source: 'BRIDGEHEAD_TIERS_RULES', problem: 'is not JSON' },
    ]);
  });

  it('alone may write numbers as text', async () => {
    expect(await faultsOf(yaml('limits: { sessions: "5" }'))).toMatchObject([
      { path: 'limits.sessions', problem: 'is text' },
    ]);
  });
});

describe('a reload', () => {
  it('takes up what may change and names what needs a restart', async () => {
    const { config: running } = await load(yaml('name: a\ntiers: { resolver: "./none" }'.replace(/\ntiers.*/, '')));
    const { config: next } = await load({
      'bridgehead.config.ts': `export default { name: 'b', limits: { sessions: 5, payloadBytes: 2000 }, origins: ['*'],
        tiers: { rules: [{ state: 'x', tier: 'none' }], resolve: () => 'full' }, metrics: { log: false }, listen: '127.0.0.1:9' };`,
    });
    const { config, applied, restart } = reloaded(running, next);
    expect(applied).toEqual(['tiers.rules', 'tiers.resolve', 'limits.sessions', 'origins', 'metrics.log']);
    expect(restart).toEqual(['name', 'listen', 'limits.payloadBytes']);
    expect(config).toMatchObject({
      name: 'a',
      listen: running.listen,
      limits: { sessions: 5, payloadBytes: 1_000_000 },
      origins: ['*'],
      metrics: { log: false },
    });
    expect(config.tiers.resolve).toBe(next.tiers.resolve);
    expect(Object.isFrozen(config.limits)).toBe(true);
  });

  it('takes a resolve function away again', async () => {
    const { config: running } = await load({
      'bridgehead.config.mjs': `export default { tiers: { resolve: () => 'full' } };`,
    });
    const { config } = await load({});
    expect(reloaded(running, config).config.tiers).not.toHaveProperty('resolve');
  });

  it('of the same file changes nothing', async () => {
    const folder = await folderWith(yaml('tiers: { rules: [{ state: a, tier: none }] }'));
    const [a, b] = [await loadConfig({ folder, environment: {} }), await loadConfig({ folder, environment: {} })];
    expect(reloaded(a.config, b.config)).toMatchObject({ applied: [], restart: [] });
  });
});

describe('notices', () => {
  it('name rules and pushes without an effect, what is dangerous, and what a resolve function means', async () => {
    const loaded = await load({
      'bridgehead.config.mjs': `export default { live: { push: ['*'], scripts: true }, admin: { listen: '0.0.0.0:8081' },
        tiers: { rules: [{ state: 'a', login: 'staff' }], resolve: () => undefined } };`,
    });
    const text = explain(loaded).join('\n');
    expect(text).toMatch(/live\.push has no effect: .* needs a secret/);
    expect(text).toMatch(/live\.push allows every handler/);
    expect(text).toMatch(/live\.scripts is true/);
    expect(text).toMatch(/tiers\.rules\[0\]\.login refuses every event: without a secret/);
    expect(text).toMatch(/born in Python .* get tier full/);
    expect(text).toMatch(/serves health alone/);
  });

  it('ask for peerUrl where other sidecars could not know the address', async () => {
    const notices = async (text: string): Promise<string[]> =>
      explain(await load(yaml(`secret: ${'x'.repeat(32)}\nredis: { url: "redis://h" }\n${text}`)));
    expect((await notices('listen: "0.0.0.0:8080"')).join('\n')).toMatch(/polling clients need peerUrl/);
    expect((await notices('listen: "[::]:8080"')).join('\n')).toMatch(/polling clients need peerUrl/);
    expect(await notices('listen: "0.0.0.0:8080"\npeerUrl: http://10.0.0.5:8080')).toEqual([]);
    expect(await notices('listen: "10.0.0.5:8080"')).toEqual([]);
    expect(explain(await load(yaml('listen: "0.0.0.0:8080"')))).toEqual([]);
  });

  it('are none for the defaults and for presets', async () => {
    expect(explain(await load({}))).toEqual([]);
    expect(explain(await load(yaml('preset: lean')))).toEqual([]);
  });
});
