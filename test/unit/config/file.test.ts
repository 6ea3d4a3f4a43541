import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../config/load.ts';
import { faultsOf, folderWith, load, yaml } from './folder.ts';

describe('the configuration file', () => {
  it.each([
    [
      'bridgehead.config.ts',
      `import { defineConfig } from 'bridgehead';\nexport default defineConfig({ name: 'shop' as const });`,
    ],
    ['bridgehead.config.mts', `const name: string = 'shop';\nexport default { name };`],
    ['bridgehead.config.js', `export default { name: 'shop' };`],
    ['bridgehead.config.mjs', `export default { name: 'shop' };`],
    ['bridgehead.config.json', `{ "$schema": "./schema.json", "name": "shop" }`],
    ['bridgehead.config.yaml', `name: shop`],
    ['bridgehead.config.toml', `name = "shop"`],
    ['config/bridgehead.config.yaml', `name: shop`],
  ])('is read as %s', async (file, text) => {
    const { config, sources } = await load({ [file]: text });
    expect(config.name).toBe('shop');
    expect(sources).toMatchObject({ name: 'file', listen: 'default' });
  });

  it('may be absent: the defaults hold', async () => {
    const { config, file } = await load({});
    expect(file).toBeUndefined();
    expect(config).toMatchObject({
      name: 'default',
      listen: { host: '127.0.0.1', port: 8080 },
      backends: ['http://127.0.0.1:8000'],
      tiers: { mode: 'inherit', rules: [] },
      limits: { payloadBytes: 1_000_000, eventsPerSecond: 200, eventBurst: 400, sessions: 20_000 },
      metrics: { log: { intervalSeconds: 60, level: 'info', logger: 'bridgehead.metrics' } },
      admin: { listen: { host: '127.0.0.1', port: 8081 } },
      transport: 'node',
      compression: false,
    });
  });

  it('is the only one: two candidates are a fault that names both', async () => {
    const faults = await faultsOf({ 'bridgehead.config.yaml': '', 'config/bridgehead.config.toml': '' });
    expect(faults).toHaveLength(1);
    expect(faults[0]?.source).toBe('bridgehead.config.yaml and config/bridgehead.config.toml');
  });

  it('is no rc file, no dotenv file and no file of another name', async () => {
    const { config } = await load({
      '.bridgeheadrc': 'name: a',
      '.env': 'BRIDGEHEAD_NAME=b',
      'bridgehead.yaml': 'name: c',
    });
    expect(config.name).toBe('default');
  });

  it('is not passed over in silence where its name is nearly right', async () => {
    await expect(load({ 'bridgehead.config.yml': 'name: c' })).rejects.toThrow(/Rename it to bridgehead\.config\.yaml/);
  });

  it('is the one that --config names, whatever else lies about', async () => {
    const folder = await folderWith({
      'bridgehead.config.yaml': 'name: a',
      'bridgehead.config.toml': '',
      'other/b.toml': 'name = "b"',
    });
    const { config } = await loadConfig({ folder, file: 'other/b.toml', environment: {} });
    expect(config.name).toBe('b');
  });

  it('that --config names must exist and be of a known kind', async () => {
    const folder = await folderWith({ 'a.ini': '' });
    await expect(loadConfig({ folder, file: 'a.ini', environment: {} })).rejects.toThrow(/unknown kind/);
    await expect(loadConfig({ folder, file: 'b.yaml', environment: {} })).rejects.toThrow(/does not exist/);
  });

  it.each([
    ['bridgehead.config.json', '{ "secret": "hunter2-hunter2",\n oops }', /not JSON: line 2/],
    ['bridgehead.config.yaml', 'secret: hunter2-hunter2\n: [', /not YAML: line 2/],
    ['bridgehead.config.toml', 'secret = "hunter2-hunter2"\noops', /not TOML: line/],
    ['bridgehead.config.ts', `const secret = 'hunter2-hunter2'; export default {`, /could not be loaded: .*line 1/],
    ['bridgehead.config.mjs', `export const name = 'x';`, /no default export/],
    ['bridgehead.config.yaml', '- a\n- b', /no configuration object/],
  ])('that is broken (%s) is told without quoting it', async (file, text, problem) => {
    const [fault] = await faultsOf({ [file]: text });
    expect(fault?.problem).toMatch(problem);
    expect(JSON.stringify(fault)).not.toContain('hunter2');
  });

  it('is read anew each time, with all that it imports', async () => {
    const folder = await folderWith({
      'bridgehead.config.ts': `import { name } from './name.ts';\nexport default { name, tiers: { resolver: './tier.mjs#resolve' } };`,
      'name.ts': `export const name: string = 'before';`,
      'tier.mjs': `export const resolve = () => 'none';`,
    });
    const before = await loadConfig({ folder, environment: {} });
    await writeFile(join(folder, 'name.ts'), `export const name: string = 'after';`);
    await writeFile(join(folder, 'tier.mjs'), `export const resolve = () => 'full';`);
    const after = await loadConfig({ folder, environment: {} });
    expect([before.config.name, after.config.name]).toEqual(['before', 'after']);
    const tier = (loaded: typeof before) => loaded.config.tiers.resolve?.({} as never, {} as never);
    expect([tier(before), tier(after)]).toEqual(['none', 'full']);
  });

  it('may await at its top', async () => {
    const { config } = await load({
      'bridgehead.config.mjs': `export default { name: await Promise.resolve('shop') };`,
    });
    expect(config.name).toBe('shop');
  });

  it('is frozen all the way down', async () => {
    const { config } = await load(yaml('tiers: { rules: [{ state: a.B, tier: none }] }'));
    expect(Object.isFrozen(config.tiers.rules[0])).toBe(true);
    expect(() => Object.assign(config.limits, { sessions: 1 })).toThrow(TypeError);
  });
});

describe('tiers.resolver', () => {
  it('is loaded relative to the file that names it', async () => {
    const { config } = await load({
      'config/bridgehead.config.yaml': 'tiers: { resolver: "./resolver.mjs#resolve" }',
      'config/resolver.mjs': `import { TIER } from './tier.mjs';\nexport function resolve() { return TIER; }`,
      'config/tier.mjs': `export const TIER = 'auth_only';`,
    });
    expect(config.tiers.resolve?.({} as never, {} as never)).toBe('auth_only');
  });

  it.each([
    ['./missing.mjs#resolve', /does not exist/],
    ['./resolver.mjs#other', /names no function/],
    ['./broken.mjs', /could not be loaded/],
  ])('that cannot work (%s) is a fault', async (resolver, problem) => {
    const [fault] = await faultsOf({
      ...yaml(`tiers: { resolver: "${resolver}" }`),
      'resolver.mjs': 'export const resolve = () => undefined;',
      'broken.mjs': 'throw new Error("no")',
    });
    expect(fault).toMatchObject({ path: 'tiers.resolver', source: 'bridgehead.config.yaml' });
    expect(fault?.problem).toMatch(problem);
  });
});
