import { freePort } from '../../../tools/ports.ts';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Cli, type CliOptions, folderWith } from './run-cli.ts';

const FREE = ['--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--link-listen', '127.0.0.1:0'];
const KEY = 'the-api-key-of-this-test';

async function serve(options: CliOptions): Promise<{ cli: Cli; admin: string }> {
  const cli = new Cli(['serve', ...FREE], {
    ...options,
    environment: { BRIDGEHEAD_API_KEY: KEY, ...options.environment },
  });
  await cli.until(({ stdout }) => stdout.includes('\n'));
  return { cli, admin: /admin=(\S+)/.exec(cli.stdout)?.[1] ?? '' };
}

describe('bridgehead serve', () => {
  it('prints one line with each address once it accepts traffic, and logs elsewhere', async () => {
    const { cli, admin } = await serve({
      // Nothing listens there, whatever else runs on this machine.
      folder: await folderWith({ 'bridgehead.config.yaml': `backends: ['http://127.0.0.1:${await freePort()}']` }),
      environment: { BRIDGEHEAD_SECRET: 'x'.repeat(40) },
    });
    expect(cli.stdout).toMatch(
      /^bridgehead ready listen=http:\/\/127\.0\.0\.1:\d+ admin=http:\/\/127\.0\.0\.1:\d+ link=tcp:\/\/127\.0\.0\.1:\d+\n$/,
    );
    expect((await fetch(`${admin}/health/live`)).status).toBe(200);
    const listen = /listen=(\S+)/.exec(cli.stdout)?.[1] ?? '';
    expect((await fetch(`${listen}/_bridgehead/ready`)).status).toBe(503);
    await cli.until(() => cli.logged('ready') !== undefined);
  });

  it('opens no link without a secret', async () => {
    const { cli } = await serve({ folder: await folderWith({}) });
    expect(cli.stdout).not.toContain('link=');
    await cli.until(() => cli.logged('no secret') !== undefined);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('drains on %s, writes the last figures and ends with 0', async (signal) => {
    const { cli } = await serve({ folder: await folderWith({}) });
    cli.process.kill(signal);
    const { code, stdout } = await cli.finished;
    expect(code).toBe(0);
    expect(stdout.split('\n')).toHaveLength(2);
    expect(cli.lines().at(-1)).toMatchObject({ msg: 'metrics', logger: 'bridgehead.metrics', sessions: 0 });
  });

  it('ends at once with 1 at the second signal', async () => {
    const { cli } = await serve({ folder: await folderWith({ 'bridgehead.config.yaml': 'shutdownDelay: 600' }) });
    cli.process.kill('SIGTERM');
    await cli.until(() => cli.logged('stopping') !== undefined);
    cli.process.kill('SIGTERM');
    expect(await cli.finished).toMatchObject({ code: 1 });
  });

  it('is unready and still answers while shutdownDelay lasts', async () => {
    const { cli, admin } = await serve({
      folder: await folderWith({ 'bridgehead.config.yaml': 'shutdownDelay: 600' }),
    });
    cli.process.kill('SIGTERM');
    await cli.until(() => cli.logged('stopping') !== undefined);
    expect((await fetch(`${admin}/health/ready`)).status).toBe(503);
    expect(await (await fetch(`${admin}/api/stats`)).json()).toMatchObject({ draining: true });
  });

  it('drains at an operator’s request', async () => {
    const { cli, admin } = await serve({ folder: await folderWith({}) });
    const response = await fetch(`${admin}/api/drain`, { method: 'POST', headers: { authorization: `Bearer ${KEY}` } });
    expect(response.status).toBe(202);
    expect(await cli.finished).toMatchObject({ code: 0 });
  });

  it('reloads on SIGHUP what may change, names the rest, and keeps the old configuration where the file is bad', async () => {
    const folder = await folderWith({ 'bridgehead.config.yaml': 'log: { level: warn }' });
    const { cli } = await serve({ folder });
    expect(cli.logged('ready')).toBeUndefined();
    await writeFile(join(folder, 'bridgehead.config.yaml'), 'name: b\nlog: { level: debug }\nlimits: { sessions: 7 }');
    cli.process.kill('SIGHUP');
    await cli.until(() => cli.logged('need a restart') !== undefined);
    expect(cli.logged('reloaded')).toMatchObject({ applied: ['limits.sessions', 'log.level'] });
    expect(cli.logged('need a restart')).toMatchObject({ keys: ['name'] });

    await writeFile(join(folder, 'bridgehead.config.yaml'), 'limits: { sessions: many }\nsecret: hunter2');
    cli.process.kill('SIGHUP');
    await cli.until(() => cli.logged('the old one stays') !== undefined);
    expect(cli.logged('the old one stays')).toMatchObject({
      level: 'error',
      faults: [
        { path: 'secret' },
        { path: 'limits.sessions', remedy: expect.stringContaining('whole number') as string },
      ],
    });
    expect(cli.stderr).not.toContain('hunter2');
    cli.process.kill('SIGTERM');
    expect(await cli.finished).toMatchObject({ code: 0 });
  });

  it('logs an unhandled rejection and ends with 1', async () => {
    const config = `process.stdout.write = () => void Promise.reject(new Error('a bug'));\nexport default {};`;
    const cli = new Cli(['serve', ...FREE], { folder: await folderWith({ 'bridgehead.config.mjs': config }) });
    expect(await cli.finished).toMatchObject({ code: 1 });
    expect(cli.logged('unhandled rejection')).toMatchObject({ level: 'fatal', err: { message: 'a bug' } });
  });

  it.each([
    ['listen', 'listen'],
    ['admin-listen', 'admin.listen'],
    ['link-listen', 'link.listen'],
  ])('ends with 1 and the key to change where the port of --%s is taken', async (flag, key) => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const args = ['serve', ...FREE, `--${flag}`, `127.0.0.1:${port}`];
    const cli = new Cli(args, { folder: await folderWith({}), environment: { BRIDGEHEAD_SECRET: 'x'.repeat(40) } });
    const { code, stdout } = await cli.finished;
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(cli.logged('could not start')).toMatchObject({
      err: { message: expect.stringContaining(`set another ${key}`) as string, cause: { code: 'EADDRINUSE' } },
    });
  });
});
