import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder, checkout } from './checkout.ts';
import { withLock } from './lock.ts';
import { run } from './process.ts';
import { installPackage, mayInstallPackages } from './services/install.ts';

export type ReflexVersion = '0.10' | '0.9';

export interface Python {
  /** Absolute path of the interpreter. */
  path: string;
  /** Such as `3.13.0`. */
  version: string;
  /** Such as `3.13`. */
  minor: string;
}

export interface PythonEnv {
  /** The environment's own interpreter. */
  python: string;
  /** Its folder of commands (`reflex`, `pytest`, …). */
  bin: string;
  reflex: ReflexVersion;
  version: string;
}

/** Every Python >= 3.12 on PATH and among pyenv's versions, one per minor version, 3.13 first, then the newest. */
export function findPythons(): Python[] {
  const found = new Map<string, Python>();
  for (const candidate of candidates()) {
    const python = ask(candidate);
    if (python && !found.has(python.minor)) found.set(python.minor, python);
  }
  const rank = (python: Python): number => (python.minor === '3.13' ? 1_000 : Number(python.minor.split('.')[1]));
  return [...found.values()].sort((a, b) => rank(b) - rank(a));
}

/**
 * The wanted minor version if it is there, else the best one unless it must be `exact`; without any, an error with the command
 * to run.
 */
export function choosePython(pythons: readonly Python[], wanted: string, exact: boolean): Python {
  const python = pythons.find(({ minor }) => minor === wanted) ?? (exact ? undefined : pythons[0]);
  if (python !== undefined) return python;
  const needed = exact ? `Python ${wanted} is needed for the tests` : 'Python 3.12 or newer is needed';
  const found = pythons.map(({ version }) => version).join(', ') || 'none that is new enough';
  throw new Error(
    `${needed} and was neither on PATH nor among the versions of pyenv (found: ${found}). Run one of:\n` +
      `  pyenv install ${wanted}\n` +
      `  apt-get install -y python${wanted} python${wanted}-venv   # where the distribution has it\n` +
      `  brew install python@${wanted}`,
  );
}

/**
 * A virtual environment with the companion package (editable), the shop's requirements and the pinned versions of
 * python/requirements/reflex-<reflex>.txt; made once per set of requirements, also when an earlier try was
 * interrupted. The first time takes a minute or two; `onProgress` is told before it begins.
 */
export async function pythonEnv(
  options: {
    reflex?: ReflexVersion;
    python?: Python;
    /** No other minor version will do: the tests name the versions that they ran on. */
    exact?: boolean;
    onProgress?: (text: string) => void;
  } = {},
): Promise<PythonEnv> {
  const reflex = options.reflex ?? '0.10';
  const wanted = reflex === '0.9' ? '3.12' : '3.13';
  if (options.python === undefined && findPythons().length === 0) await installPython();
  const python = options.python ?? choosePython(findPythons(), wanted, options.exact ?? false);
  const requirements = [
    join(checkout, 'python', 'requirements', `reflex-${reflex}.txt`),
    join(checkout, 'examples', 'shop', 'requirements.txt'),
  ];
  const inputs = [...requirements, join(checkout, 'python', 'pyproject.toml')];
  const hash = createHash('sha256').update(`${python.path} ${python.version} ${checkout}\n`);
  for (const file of inputs) hash.update(readFileSync(file));
  const folder = join(cacheFolder, `venv-${hash.digest('hex').slice(0, 12)}`);
  const env: PythonEnv = {
    python: join(folder, 'bin', 'python'),
    bin: join(folder, 'bin'),
    reflex,
    version: python.version,
  };
  const marker = join(folder, '.complete');
  const servers = join(checkout, 'python', 'requirements', 'servers.txt');
  const serversMarker = join(folder, `.servers-${createHash('sha256').update(readFileSync(servers)).digest('hex')}`);
  if (existsSync(marker) && existsSync(serversMarker)) return env;

  await withLock(`${folder}.lock`, async () => {
    if (existsSync(marker)) return;
    options.onProgress?.(`installing reflex ${reflex} for Python ${python.version}`);
    const logFile = `${folder}.log`;
    await rm(folder, { recursive: true, force: true });
    await run({ name: `${python.path} -m venv`, command: python.path, args: ['-m', 'venv', folder], logFile });
    const install = async (...what: string[]): Promise<void> =>
      run({
        name: 'pip install',
        command: env.python,
        args: ['-m', 'pip', 'install', '--disable-pip-version-check', '--no-input', ...what],
        logFile,
      });
    // The first that knows dependency groups; Python 3.12 and 3.13 come with older ones.
    await install('pip>=25.1');
    await install(
      ...requirements.flatMap((file) => ['-r', file]),
      ...['test', 'lint'].flatMap((group) => ['--group', `${join(checkout, 'python', 'pyproject.toml')}:${group}`]),
      '-e',
      `${join(checkout, 'python')}[django]`,
    );
    await writeFile(marker, '');
  });
  await withLock(`${folder}.lock`, async () => {
    if (existsSync(serversMarker)) return;
    // In a folder of its own, not on the path: with gunicorn at hand `reflex run` takes it instead of granian.
    const target = join(folder, 'servers');
    await rm(target, { recursive: true, force: true });
    const options = ['--disable-pip-version-check', '--no-input', '--no-deps', '--target', target, '-r', servers];
    const args = ['-m', 'pip', 'install', ...options];
    await run({ name: 'pip install', command: env.python, args, logFile: `${folder}.log` });
    await writeFile(serversMarker, '');
  });
  return env;
}

/** On a bare Debian or Ubuntu, whose own Python may be new enough; elsewhere choosePython says what to do. */
async function installPython(): Promise<void> {
  if (mayInstallPackages()) await installPackage('python3-venv');
}

function* candidates(): Generator<string> {
  for (const name of ['python3.13', 'python3.12', 'python3.14', 'python3', 'python']) {
    for (const folder of (process.env['PATH'] ?? '').split(':')) if (folder) yield join(folder, name);
  }
  for (const root of [process.env['PYENV_ROOT'], join(homedir(), '.pyenv')]) {
    if (!root) continue;
    const versions = join(root, 'versions');
    if (!existsSync(versions)) continue;
    for (const version of readdirSync(versions)) yield join(versions, version, 'bin', 'python3');
  }
}

/** Undefined for what is missing, broken (a pyenv shim without its version), older than 3.12, or cannot make an environment. */
function ask(path: string): Python | undefined {
  if (!existsSync(path)) return undefined;
  const question = 'import ensurepip, sys, venv; print("%d.%d.%d" % sys.version_info[:3]); print(sys.executable)';
  try {
    const answer = execFileSync(path, ['-c', question], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const [version = '', executable = path] = answer.trim().split('\n');
    const [major = 0, minor = 0] = version.split('.').map(Number);
    if (major !== 3 || minor < 12) return undefined;
    return { path: executable, version, minor: `${major}.${minor}` };
  } catch {
    return undefined;
  }
}
