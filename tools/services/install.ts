import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../process.ts';
import { cacheFolder } from '../checkout.ts';
import { withLock } from '../lock.ts';

export interface Program {
  /** The command's name. */
  name: string;
  /** Other names of the same program, looked for where this one is not found. */
  otherNames?: readonly string[];
  /** The Debian package that has it. */
  aptPackage: string;
  /** Folders to look in beside PATH; a `*` stands for any one folder name (the highest number first). */
  folders?: readonly string[];
}

/** The absolute path of an installed program, or undefined. */
export function findProgram(program: Program): string | undefined {
  const usual = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/usr/bin', '/opt/homebrew/bin'];
  const folders = [...(process.env['PATH'] ?? '').split(':'), ...usual, ...(program.folders ?? []).flatMap(expand)];
  const names = [program.name, ...(program.otherNames ?? [])];
  return names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
}

/** Finds a program, installing its Debian package first where that is possible; else an error with the command to run. */
export async function requireProgram(program: Program): Promise<string> {
  const found = findProgram(program);
  if (found !== undefined) return found;
  if (!mayInstallPackages()) {
    throw new Error(
      `${program.name} is not installed. Run:\n  sudo apt-get update && sudo apt-get install -y ${program.aptPackage}`,
    );
  }
  await installPackage(program.aptPackage);
  const installed = findProgram(program);
  if (installed === undefined) throw new Error(`${program.aptPackage} is installed, yet ${program.name} is not there`);
  return installed;
}

/** Whether this process may run apt-get. */
export function mayInstallPackages(): boolean {
  return process.getuid?.() === 0 && findProgram({ name: 'apt-get', aptPackage: 'apt' }) !== undefined;
}

let updated = false;

export async function installPackage(name: string): Promise<void> {
  // apt has a lock of its own but fails instead of waiting while another process holds it.
  await withLock(join(tmpdir(), 'bridgehead-apt.lock'), async () => {
    const logFile = join(cacheFolder, 'apt.log');
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    if (!updated) {
      await run({ name: 'apt-get update', command: 'apt-get', args: ['-q', 'update'], env, logFile });
      updated = true;
    }
    await run({
      name: `apt-get install ${name}`,
      command: 'apt-get',
      args: ['-q', 'install', '-y', '--no-install-recommends', name],
      env: { ...env, ...withoutServiceStart() },
      logFile,
    });
  });
}

/** Packages start their service when installed; ours are started by the tests on ports of their own. */
function withoutServiceStart(): Record<string, string> {
  return { RUNLEVEL: '1' };
}

/** The user and group for a program that refuses to run as root; undefined when this process is not root. */
export function unprivilegedUser(names: readonly string[]): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of [...names, 'nobody']) {
    try {
      const [uid, gid] = ['-u', '-g'].map((flag) =>
        Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: 'pipe' })),
      );
      if (uid !== undefined && gid !== undefined) return { uid, gid };
    } catch {
      continue;
    }
  }
  throw new Error(`None of the users ${[...names, 'nobody'].join(', ')} exists`);
}

function expand(pattern: string): string[] {
  const [before, after] = pattern.split('*');
  if (before === undefined || after === undefined) return [pattern];
  if (!existsSync(before)) return [];
  return readdirSync(before)
    .sort((a, b) => Number.parseFloat(b) - Number.parseFloat(a))
    .map((name) => `${before}${name}${after}`);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
