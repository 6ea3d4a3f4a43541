import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkout, pathWithPinnedNode } from '../../tools/checkout.ts';
import { eventually } from '../support/eventually.ts';

/** With its caches, which the parts before this one have made; a quiet machine takes a tenth of it. Milliseconds. */
const READY_WITHIN = 170_000;

describe('npm run demo', () => {
  let demo: ChildProcess;
  let exited: Promise<unknown[]>;
  let out = '';
  let started: readonly number[] = [];
  const base = (): string => /^ {2}Open {5}(http:\/\/localhost:\d+)$/m.exec(out)?.[1] ?? '';

  beforeAll(() => {
    // What package.json says, without npm.
    demo = spawn(process.execPath, [join(checkout, 'tools', 'demo.ts')], {
      cwd: checkout,
      env: { ...process.env, PATH: pathWithPinnedNode },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    exited = once(demo, 'exit');
    for (const stream of [demo.stdout, demo.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (out += text));
    }
  });

  afterAll(() => {
    if (demo.exitCode === null) demo.kill('SIGINT');
  });

  it('prints the address to open', async () => {
    await eventually(
      () => {
        if (demo.exitCode !== null) throw new Error(out);
        return out;
      },
      { timeout: READY_WITHIN },
    ).toContain('Ctrl-C stops everything');
    expect(base()).not.toBe('');
    expect(out).toContain('Log in   demo / demo-pass');
  });

  it("answers with the shop's pages, and with Django's", async () => {
    for (const [path, title] of [
      ['/', 'Fern &amp; Oak'],
      ['/account', 'Account'],
      ['/admin/login/', 'Django'],
    ]) {
      const answer = await fetch(`${base()}${path}`);
      expect(answer.status).toBe(200);
      expect(/<title>([^<]*)/.exec(await answer.text())?.[1]).toContain(title);
    }
  });

  it('leaves nothing running after Ctrl-C', async () => {
    started = descendants(demo.pid ?? 0);
    // Bridgehead, Reflex, and what that starts.
    expect(started.length).toBeGreaterThan(2);
    demo.kill('SIGINT');
    expect(await exited, out).toEqual([0, null]);
    const left = (): number[] => [...processes().keys()].filter((pid) => started.includes(pid));
    await eventually(left, { timeout: 5_000 }).toEqual([]);
    await expect(fetch(base())).rejects.toThrow();
  });
});

/** Each process that runs (not those that nobody has waited for) with its parent. */
function processes(): Map<number, number> {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' }).trim().split('\n');
  const rows = lines.map((line) => line.trim().split(/\s+/)).filter(([, , state = '']) => !state.startsWith('Z'));
  return new Map(rows.map(([pid, parent]) => [Number(pid), Number(parent)]));
}

function descendants(of: number): number[] {
  const children = [...processes()].filter(([, parent]) => parent === of).map(([pid]) => pid);
  return children.flatMap((pid) => [pid, ...descendants(pid)]);
}
