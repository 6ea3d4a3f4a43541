import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { removeStaleSocket } from '../../../../src/adapters/link/stale-socket.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'bridgehead-socket-'));
  path = join(folder, 'link.sock');
});

afterEach(() => rm(folder, { recursive: true }));

describe('what lies at the path of a Unix socket', () => {
  it('may be nothing', async () => {
    await expect(removeStaleSocket(path)).resolves.toBeUndefined();
  });

  it('is removed where a killed process left it', async () => {
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    expect(() => execFileSync(process.execPath, ['-e', script], { stdio: 'ignore' })).toThrow();
    expect(existsSync(path)).toBe(true);
    await removeStaleSocket(path);
    expect(existsSync(path)).toBe(false);
  });

  it('stays where somebody listens', async () => {
    const server = createServer().listen(path);
    await once(server, 'listening');
    await removeStaleSocket(path);
    expect(existsSync(path)).toBe(true);
    server.close();
  });

  it('stays where it is a file of another kind, and that is told', async () => {
    await writeFile(path, 'precious');
    await expect(removeStaleSocket(path)).rejects.toMatchObject({ code: 'ENOTSOCK' });
    expect(await readFile(path, 'utf8')).toBe('precious');
  });
});
