import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheFolder, pathWithPinnedNode } from './checkout.ts';
import { withLock } from './lock.ts';
import { run } from './process.ts';
import { findProgram } from './services/install.ts';

/**
 * The package is not on the registry under its own name; this copy there carries the same binaries and is for the tests alone.
 * Another version: its integrity is what `npm view PACKAGE dist.integrity` says.
 */
const copy = {
  packed: '@btc-vision/uwebsockets.js@20.57.0',
  integrity: 'sha512-SuPpEjSKZ7P58L/27BXXsrGsMwLmPupfYny8oJsOmFZ4+zX7Ca97nBPtZ3ngKbfeDZzTyi7rXri74INGerhugg==',
  glibc: 2.38,
};
const folder = join(cacheFolder, 'uws-20.57.0');
const logFile = join(cacheFolder, 'uws.log');

export interface UwsNode {
  /** Starts a Node that can load it: the program and its first arguments. */
  readonly command: string;
  readonly args: readonly string[];
  /** The module's file. */
  readonly module: string;
}

/**
 * A Node and a copy of uWebSockets.js that it can load; a text that says why where none runs on this machine. A copy that cannot be
 * fetched is an error.
 */
export async function uwsNode(): Promise<UwsNode | string> {
  const { platform, arch, versions } = process;
  const builds = ['linux x64', 'linux arm64', 'darwin x64', 'darwin arm64'];
  if (!builds.includes(`${platform} ${arch}`)) return `uWebSockets.js has no binary for ${platform} ${arch}`;
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  if (platform === 'linux' && header.glibcVersionRuntime === undefined) {
    return 'uWebSockets.js has no binary for a Linux without glibc';
  }
  const isNewEnough = platform !== 'linux' || newerOrSame(header.glibcVersionRuntime ?? '', copy.glibc);
  const apt = isNewEnough ? undefined : debianApt();
  if (!isNewEnough && apt === undefined) {
    return `uWebSockets.js needs glibc ${copy.glibc}; this machine has ${header.glibcVersionRuntime} and no Debian mirror with a newer one`;
  }
  await rm(logFile, { force: true });
  await withLock(`${folder}.lock`, () => fetchModule(`uws_${platform}_${arch}_${versions.modules}.node`));
  const module = join(folder, 'node_modules', 'uWebSockets.js', 'uws.js');
  if (apt === undefined) return { command: process.execPath, args: [], module };
  const libraries = await withLock(`${folder}.lock`, () => fetchGlibc(apt));
  const loader = (await readdir(libraries)).find((name) => /^ld-linux.*\.so/.test(name));
  if (loader === undefined) throw new Error(`${libraries} has no ld-linux; remove ${folder} and try again`);
  return { command: join(libraries, loader), args: ['--library-path', libraries, process.execPath], module };
}

/** The Node binary for one ABI beside the JavaScript that loads it. */
async function fetchModule(binary: string): Promise<void> {
  const target = join(folder, 'node_modules', 'uWebSockets.js');
  if (existsSync(join(target, binary)) && existsSync(join(target, 'uws.js'))) return;
  await mkdir(target, { recursive: true });
  const scratch = await mkdtemp(join(folder, 'unpacked-'));
  try {
    const env = { ...process.env, PATH: pathWithPinnedNode };
    // Errors alone, but those; a registry that does not answer is given up within half a minute.
    const flags = ['--loglevel=error', '--fetch-retry-maxtimeout=10000', '--ignore-scripts'];
    const args = ['pack', ...flags, '--pack-destination', scratch, copy.packed];
    await run({ name: `npm pack ${copy.packed}`, command: 'npm', args, env, logFile, timeoutMs: 5 * 60_000 });
    const archive = join(scratch, (await readdir(scratch))[0] ?? '');
    const integrity = `sha512-${createHash('sha512')
      .update(await readFile(archive))
      .digest('base64')}`;
    if (integrity !== copy.integrity)
      throw new Error(`${copy.packed} has the integrity ${integrity}, not the known one`);
    await run({ name: 'tar', command: 'tar', args: ['-xzf', archive, '-C', scratch], logFile });
    for (const name of [binary, 'uws.js']) await copyFile(join(scratch, 'package', name), join(target, name));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/**
 * A newer glibc in a folder, for this one process alone: Debian 13's, from the mirror this machine has its packages from, with
 * lists and signatures of their own.
 */
async function fetchGlibc({ aptGet, mirror }: DebianApt): Promise<string> {
  const target = join(folder, 'glibc');
  const found = await libraryFolder(target);
  if (found !== undefined) return found;
  const scratch = await mkdtemp(join(folder, 'apt-'));
  try {
    const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
    const signed = existsSync(keyring) ? `[signed-by=${keyring}] ` : '';
    await writeFile(join(scratch, 'sources.list'), `deb ${signed}${mirror} trixie main\n`);
    for (const part of ['parts', 'state/lists/partial', 'cache/archives/partial', 'unpacked']) {
      await mkdir(join(scratch, part), { recursive: true });
    }
    await writeFile(join(scratch, 'state', 'status'), '');
    const options = {
      'Dir::Etc': scratch,
      'Dir::Etc::sourcelist': join(scratch, 'sources.list'),
      'Dir::Etc::sourceparts': join(scratch, 'parts'),
      'Dir::State': join(scratch, 'state'),
      'Dir::State::status': join(scratch, 'state', 'status'),
      'Dir::Cache': join(scratch, 'cache'),
      'APT::Sandbox::User': '',
      'Acquire::Languages': 'none',
    };
    const flags = ['-q', ...Object.entries(options).flatMap(([key, value]) => ['-o', `${key}=${value}`])];
    const apt = async (...args: string[]): Promise<void> =>
      run({ name: `apt-get ${args[0]}`, command: aptGet, args: [...flags, ...args], cwd: scratch, logFile });
    await apt('update');
    await apt('download', 'libc6', 'libstdc++6', 'libgcc-s1');
    const packages = (await readdir(scratch)).filter((name) => name.endsWith('.deb'));
    for (const name of packages) {
      const args = ['-x', join(scratch, name), join(scratch, 'unpacked')];
      await run({ name: 'dpkg-deb', command: 'dpkg-deb', args, logFile });
    }
    await rename(join(scratch, 'unpacked'), target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  const libraries = await libraryFolder(target);
  if (libraries === undefined) throw new Error(`${target} holds no libc.so.6`);
  return libraries;
}

async function libraryFolder(root: string): Promise<string | undefined> {
  const parent = join(root, 'usr', 'lib');
  const names = existsSync(parent) ? await readdir(parent) : [];
  return names.map((name) => join(parent, name)).find((path) => existsSync(join(path, 'libc.so.6')));
}

interface DebianApt {
  readonly aptGet: string;
  readonly mirror: string;
}

/** Undefined where packages come from elsewhere: what is Debian's is not to be had there. */
function debianApt(): DebianApt | undefined {
  const aptGet = findProgram({ name: 'apt-get', aptPackage: 'apt' });
  if (aptGet === undefined) return undefined;
  const args = ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages'];
  const targets = execFileSync(aptGet, args, { encoding: 'utf8' });
  const mirror = targets.split('\n').find((uri) => /\/debian\/?$/.test(uri));
  return mirror === undefined ? undefined : { aptGet, mirror };
}

function newerOrSame(version: string, than: number): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = String(than).split('.').map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
