import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { jsonSchema } from '../../../config/json-schema.ts';
import { loadConfig } from '../../../config/load.ts';
import { markdown } from '../../../config/markdown.ts';
import { template, TEMPLATE_FORMATS } from '../../../config/template.ts';
import { folderWith } from './folder.ts';

const root = new URL('../../../', import.meta.url);

async function read(name: string, text: string) {
  const files = { [name]: text, 'resolver.mjs': 'export const resolve = () => undefined;' };
  return loadConfig({ folder: await folderWith(files), environment: {} });
}

describe('the documentation', () => {
  it('docs/CONFIGURATION.md is what bridgehead schema --markdown prints', async () => {
    expect(await readFile(new URL('docs/CONFIGURATION.md', root), 'utf8')).toBe(markdown());
  });

  it('says of every key what it means', () => {
    expect(markdown()).not.toMatch(/\|\s*\|\n/);
  });

  it('the JSON Schema knows every section, forbids unknown keys and leaves functions out', () => {
    const schema = jsonSchema() as {
      properties: Record<string, { properties?: object }>;
      additionalProperties: boolean;
    };
    expect(schema.additionalProperties).toBe(false);
    expect(Object.keys(schema.properties)).toEqual(
      expect.arrayContaining(['$schema', 'name', 'tiers', 'limits', 'admin']),
    );
    expect(Object.keys(schema.properties['tiers']?.properties ?? {})).not.toContain('resolve');
  });

  it('the example in config/ has no faults', async () => {
    const { config } = await loadConfig({
      folder: new URL('.', root).pathname,
      file: 'config/bridgehead.config.ts',
      environment: {},
    });
    expect(config.name).toBe('shop');
    expect(config.tiers.resolve?.({ upload: true } as never, {} as never)).toBe('full');
  });

  it('the rules of the example name states that the shop has', async () => {
    const { config } = await loadConfig({
      folder: root.pathname,
      file: 'config/bridgehead.config.ts',
      environment: {},
    });
    const states = config.tiers.rules.flatMap(({ state }) => (state === undefined ? [] : [state]));
    expect(states.length).toBeGreaterThan(1);
    for (const state of states) {
      const [, module = '', name = ''] = /^shop\.(\w+)\.(\w+|\*)$/.exec(state) ?? [];
      const text = await readFile(new URL(`examples/shop/shop/${module}.py`, root), 'utf8');
      expect(text).toMatch(name === '*' ? /^class \w+State\(/m : new RegExp(`^class ${name}\\(`, 'm'));
    }
  });
});

describe('a new file', () => {
  it.each(TEMPLATE_FORMATS)('in %s sets nothing but defaults', async (format) => {
    const { config } = await read(`bridgehead.config.${format}`, template(format));
    const { config: defaults } = await loadConfig({ folder: await folderWith({}), environment: {} });
    expect(config).toEqual(defaults);
  });

  it.each([
    ['ts', /^( *)\/\/ (\w+: .*)$/gm, '$1$2'],
    ['yaml', /^# /gm, ''],
    ['toml', /^# (\w+ = .*)$/gm, '$1'],
  ] as const)('in %s is valid with every key taken in', async (format, comment, replacement) => {
    const text = template(format)
      .replaceAll(comment, replacement)
      // Filled from the environment in real life.
      .replaceAll(/^.*(# from the environment|process\.env).*$/gm, '')
      .replace(/The keys of.*\n/, '\n');
    const { config, sources } = await read(`bridgehead.config.${format}`, text);
    expect(config.auth.loginUrl).toBe('/login');
    expect(sources).toMatchObject({
      'limits.sessions': 'file',
      'metrics.log': 'file',
      'auth.cache.ttl': 'file',
      preset: 'file',
    });
  });
});

describe('the main export', () => {
  it('loads neither zod nor anything else of this package', () => {
    const script = `
      import { registerHooks } from 'node:module';
      const seen = [];
      registerHooks({ resolve(name, context, next) { seen.push(name); return next(name, context); } });
      const { defineConfig } = await import(${JSON.stringify(new URL('config/index.ts', root).href)});
      console.log(JSON.stringify({ seen: seen.length, name: defineConfig({ name: 'x' }).name }));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(JSON.parse(output)).toEqual({ seen: 1, name: 'x' });
  });
});
