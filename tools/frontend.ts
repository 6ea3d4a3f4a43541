import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { cacheFolder, checkout, pathWithPinnedNode } from './checkout.ts';
import { withLock } from './lock.ts';
import { run } from './process.ts';
import type { PythonEnv } from './python-env.ts';

/**
 * Reflex writes the backend's address into the bundle when it builds. Its client replaces the host by the page's own
 * but keeps the port, so the build gets a port that nobody uses, and each copy the one it is served on.
 */
const placeholder = 'localhost:65431';

export const shopFolder = join(checkout, 'examples', 'shop');

/**
 * The shop's exported frontend with the placeholder port, built once per set of sources and versions (half a minute
 * to four minutes the first time). Only Reflex 0.10 environments build it.
 */
export async function builtFrontend(
  python: PythonEnv,
  options: { onProgress?: (text: string) => void } = {},
): Promise<string> {
  const sources = await sourceFiles(shopFolder);
  const hash = createHash('sha256').update(`${python.bin}\n`);
  for (const file of sources) hash.update(`${relative(shopFolder, file)}\n`).update(await readFile(file));
  const folder = join(cacheFolder, `frontend-${hash.digest('hex').slice(0, 12)}`);
  if (existsSync(folder)) return folder;

  // One working folder for all builds: it keeps the npm packages, which are most of the time.
  const work = join(cacheFolder, 'frontend-work');
  await withLock(`${work}.lock`, async () => {
    if (existsSync(folder)) return;
    options.onProgress?.('building the frontend');
    await mkdir(work, { recursive: true });
    for (const name of await readdir(work)) if (name !== '.web') await rm(join(work, name), { recursive: true });
    for (const file of sources) await cp(file, join(work, relative(shopFolder, file)));
    await run({
      name: 'reflex export',
      command: join(python.bin, 'reflex'),
      args: ['export', '--frontend-only', '--no-zip'],
      cwd: work,
      env: {
        ...process.env,
        PATH: `${python.bin}:${pathWithPinnedNode}`,
        PYTHONPATH: work,
        DJANGO_SETTINGS_MODULE: 'shop.settings',
        DATABASE_URL: `sqlite:///${join(work, 'unused.sqlite3')}`,
        REFLEX_API_URL: `http://${placeholder}`,
        REFLEX_USE_NPM: '1',
        REFLEX_TELEMETRY_ENABLED: 'false',
        REFLEX_REDIS_URL: undefined,
        REDIS_URL: undefined,
        SHOP_FRONTEND_DIR: undefined,
        // Set by `npm run` for this checkout; the npm that Reflex starts is to read its own.
        ...Object.fromEntries(
          Object.keys(process.env)
            .filter(isNpmScriptVariable)
            .map((name) => [name, undefined]),
        ),
      },
      logFile: join(cacheFolder, 'frontend.log'),
    });
    const unfinished = `${folder}.tmp`;
    await rm(unfinished, { recursive: true, force: true });
    await cp(join(work, '.web', 'build', 'client'), unfinished, { recursive: true });
    await rename(unfinished, folder);
  });
  return folder;
}

/**
 * A copy of the frontend for the port that browsers use, in a temporary folder unless `into` names one. Behind TLS
 * no copy is needed: there Reflex's client leaves the port out.
 */
export async function frontendFor(built: string, publicPort: number, into?: string): Promise<string> {
  const folder = into ?? (await mkdtemp(join(tmpdir(), 'bridgehead-frontend-')));
  await cp(built, folder, { recursive: true });
  // Temporary folders are private, and nginx reads as a user of its own.
  await chmod(folder, 0o755);
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  await Promise.all(
    files
      .filter((file) => file.isFile() && /\.(js|json|html)$/.test(file.name))
      .map(async (file) => {
        const path = join(file.parentPath, file.name);
        const text = await readFile(path, 'utf8');
        if (!text.includes(placeholder)) return;
        await writeFile(path, text.replaceAll(placeholder, `localhost:${publicPort}`));
        // Reflex compresses ahead of time; a web server would go on serving the old text.
        await rm(`${path}.gz`, { force: true });
      }),
  );
  return folder;
}

/** Kept: the registry and cache settings a user has; dropped: what describes the running script and its package. */
function isNpmScriptVariable(name: string): boolean {
  return /^npm_(package_|lifecycle_|command|execpath|node_execpath)|^npm_config_(local_prefix|prefix)$/.test(name);
}

async function sourceFiles(folder: string): Promise<string[]> {
  const found = [join(folder, 'rxconfig.py')];
  for (const part of ['shop', 'assets']) {
    for (const entry of await readdir(join(folder, part), { recursive: true, withFileTypes: true })) {
      if (entry.isFile() && !entry.parentPath.includes('__pycache__')) found.push(join(entry.parentPath, entry.name));
    }
  }
  return found.sort();
}
