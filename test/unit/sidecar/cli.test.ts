import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { folderWith, runCli } from './run-cli.ts';

describe('bridgehead', () => {
  it('prints its version and its help, and ends with 0', async () => {
    const version = await runCli(['--version']);
    expect(version).toMatchObject({ code: 0, stderr: '' });
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = await runCli(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    for (const command of ['serve', 'check', 'init', 'schema']) expect(help.stdout).toContain(command);
  });

  it.each(['serve', 'check', 'init', 'schema'])(
    'helps with %s, without colours where nobody can see them',
    async (command) => {
      const { code, stdout } = await runCli([command, '--help']);
      expect(code).toBe(0);
      expect(stdout).toContain('OPTIONS');
      expect(stdout).not.toContain('\u001B[');
    },
  );

  it.each([
    [[], /USAGE/],
    [['sevre'], /unknown command "sevre"/],
    [['constructor'], /unknown command/],
    [['check', '--bogus'], /Unknown option '--bogus'/],
    [['check', 'surplus'], /unexpected argument "surplus"/],
    [['serve', '--listen'], /listen/],
    [['check', '--json=yes'], /json/],
    [['init', '--format', 'ini'], /Expected one of: ts, yaml, toml, json/],
  ])('ends with 2 where it is called wrongly: %j', async (args, message) => {
    const { code, stdout, stderr } = await runCli(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });
});

describe('bridgehead check', () => {
  it('shows what is in force and where it comes from, without secrets', async () => {
    const folder = await folderWith({ 'bridgehead.config.yaml': 'name: shop\npreset: small\n' });
    const environment = {
      BRIDGEHEAD_SECRET: 'hunter2'.repeat(6),
      BRIDGEHEAD_API_KEY: 'hunter2',
      REDIS_URL: 'redis://u:hunter2@r',
    };
    const { code, stdout, stderr } = await runCli(['check', '--listen', '127.0.0.1:9'], { folder, environment });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^ {2}name +shop +\(file\)$/m);
    expect(stdout).toMatch(/^ {2}listen +127\.0\.0\.1:9 +\(flag\)$/m);
    expect(stdout).toMatch(/^ {2}limits\.sessions +2000 +\(preset\)$/m);
    expect(stdout).toMatch(/^ {2}secret +\(hidden\) +\(environment\)$/m);
    expect(stdout).not.toContain('hunter2');
  });

  it('prints JSON', async () => {
    const folder = await folderWith({ 'bridgehead.config.toml': 'name = "shop"' });
    const { code, stdout } = await runCli(['check', '--json'], { folder, environment: { BRIDGEHEAD_NMAE: 'x' } });
    expect(code).toBe(0);
    const printed = JSON.parse(stdout) as { keys: object; notices: string[] };
    expect(printed).toMatchObject({
      ok: true,
      file: join(folder, 'bridgehead.config.toml'),
      keys: { name: { value: 'shop', source: 'file' }, listen: { value: '127.0.0.1:8080', source: 'default' } },
    });
    expect(printed.notices.join()).toMatch(/BRIDGEHEAD_NMAE.*BRIDGEHEAD_NAME.*no secret/);
  });

  it('tells every fault and ends with 1', async () => {
    const folder = await folderWith({ 'bridgehead.config.yaml': 'nam: x\nlimits: { sessions: -1 }\nsecret: hunter2' });
    const { code, stdout, stderr } = await runCli(['check'], { folder });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('3 faults');
    expect(stderr).toContain('Did you mean name?');
    expect(stderr).not.toContain('hunter2');
    const asJson = await runCli(['check', '--json'], { folder });
    expect(asJson.code).toBe(1);
    expect(JSON.parse(asJson.stdout)).toMatchObject({ ok: false, faults: [{ path: 'secret' }, {}, {}] });
  });

  it('names the flag that is wrong', async () => {
    const { code, stderr } = await runCli(['check', '--admin-listen', 'nowhere'], { folder: await folderWith({}) });
    expect(code).toBe(1);
    expect(stderr).toMatch(/admin\.listen = "nowhere".*\[--admin-listen\]/);
  });
});

describe('bridgehead init', () => {
  it.each(['ts', 'yaml', 'toml', 'json'])('writes a %s file that check finds good', async (format) => {
    const folder = await folderWith({ 'rxconfig.py': '' });
    const { code, stdout } = await runCli(['init', '--format', format], { folder });
    expect(code).toBe(0);
    expect(stdout).toContain('In rxconfig.py:');
    expect(stdout).toContain('from bridgehead import BridgeheadPlugin');
    expect(await runCli(['check'], { folder })).toMatchObject({ code: 0 });
  });

  it('never overwrites without --force, and makes no second file', async () => {
    const folder = await folderWith({ 'bridgehead.config.ts': 'mine' });
    expect(await runCli(['init'], { folder })).toMatchObject({ code: 1, stdout: '' });
    expect(await runCli(['init', '--format', 'yaml', '--force'], { folder })).toMatchObject({ code: 1 });
    expect(await readFile(join(folder, 'bridgehead.config.ts'), 'utf8')).toBe('mine');
    expect(await runCli(['init', '--force', '--json'], { folder })).toMatchObject({ code: 0 });
    expect(await readFile(join(folder, 'bridgehead.config.ts'), 'utf8')).toContain('defineConfig');
  });
});

describe('bridgehead schema', () => {
  it('prints JSON Schema, or the documentation', async () => {
    const { code, stdout } = await runCli(['schema']);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ type: 'object', title: 'bridgehead.config' });
    const { stdout: text } = await runCli(['schema', '--markdown']);
    expect(text).toMatch(/^# Configuration\n/);
  });
});

describe('bridgehead serve', () => {
  it('ends with 1 and tells the faults where the configuration has some', async () => {
    const folder = await folderWith({});
    await writeFile(join(folder, 'bridgehead.config.json'), '{"limits":{"sessions":"x"}}');
    const { code, stdout, stderr } = await runCli(['serve'], { folder });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('limits.sessions');
  });
});
