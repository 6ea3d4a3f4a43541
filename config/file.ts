import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { extname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Jiti } from 'jiti';
import { ConfigError, maskUrl } from './faults.ts';

export const EXTENSIONS = ['ts', 'mts', 'js', 'mjs', 'json', 'yaml', 'toml'] as const;
const BASE = 'bridgehead.config';

/** The one configuration file of a folder or its `config/`; undefined where there is none. Two are a fault. */
export function findConfigFile(folder: string): string | undefined {
  const found = [folder, join(folder, 'config')]
    .flatMap((place) => EXTENSIONS.map((extension) => join(place, `${BASE}.${extension}`)))
    .filter((file) => existsSync(file));
  if (found.length > 1) {
    const names = found.map((file) => relative(folder, file));
    throw new ConfigError([
      {
        path: '',
        source: names.join(' and '),
        problem: 'only one of these files can be the configuration',
        remedy: 'Keep one, or name it with --config.',
      },
    ]);
  }
  if (found.length === 0) refuseMisnamed(folder);
  return found[0];
}

/** A file that was surely meant must not be passed over in silence. */
function refuseMisnamed(folder: string): void {
  for (const place of [folder, join(folder, 'config')]) {
    for (const [extension, right] of [
      ['yml', 'yaml'],
      ['cjs', 'mjs'],
      ['cts', 'mts'],
      ['jsonc', 'json'],
    ] as const) {
      const file = join(place, `${BASE}.${extension}`);
      if (existsSync(file)) throw broken(file, 'is not read under this name', `Rename it to ${BASE}.${right}.`);
    }
  }
}

/** What a file holds, unchecked. Faults never quote the file's text: it may hold secrets. */
export async function readConfigFile(file: string): Promise<unknown> {
  const kind = extname(file).slice(1);
  if (!existsSync(file)) throw broken(file, 'does not exist', 'Correct the path, or run bridgehead init.');
  switch (kind) {
    case 'json':
      return parseJson(file, await readFile(file, 'utf8'));
    case 'yaml':
      return parseYaml(file, await readFile(file, 'utf8'));
    case 'toml':
      return parseToml(file, await readFile(file, 'utf8'));
    case 'ts':
    case 'mts':
    case 'js':
    case 'mjs': {
      const module = await importFresh(file);
      if (module['default'] === undefined) {
        throw broken(file, 'has no default export', 'Write: export default defineConfig({ … })');
      }
      return module['default'];
    }
    default:
      throw broken(file, 'is of an unknown kind', `Name it ${BASE}.{${EXTENSIONS.join(',')}}.`);
  }
}

/** Loads `./module.mjs#name`, relative to `folder`; without a name the default export. */
export async function loadExport(reference: string, folder: string): Promise<unknown> {
  const [path = '', name = 'default'] = reference.split('#', 2);
  const file = resolve(folder, path);
  if (!existsSync(file))
    throw broken(file, 'does not exist', 'Write ./file.mjs#export, relative to the configuration file.');
  return (await importFresh(file))[name];
}

/**
 * Reads a module and all that it imports anew, so that a reload sees every change. `bridgehead` is
 * this package, also where a globally installed command reads the file of a project without it.
 */
async function importFresh(file: string): Promise<Record<string, unknown>> {
  const { createJiti } = await import('jiti');
  const jiti = createJiti(import.meta.url, {
    moduleCache: false,
    fsCache: false,
    interopDefault: false,
    alias: {
      bridgehead: fileURLToPath(
        new URL(import.meta.url.endsWith('.ts') ? './index.ts' : './index.js', import.meta.url),
      ),
    },
  });
  try {
    return await evaluate(jiti, file);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // The parser's last line says where.
    const place = /:(\d+):(\d+)\s*$/.exec(message);
    const where = place ? ` (line ${place[1]}, column ${place[2]})` : '';
    const problem = `could not be loaded: ${maskUrl(message.split('\n')[0]?.trim() ?? '')}${where}`;
    throw broken(file, problem, 'Correct the file.', error);
  }
}

/**
 * As CommonJS where that goes: as ES modules Node keeps what `.mjs` and `.js` files import for good, and a reload would
 * not see them change. Only a top-level await needs ES modules.
 */
async function evaluate(jiti: Jiti, file: string): Promise<Record<string, unknown>> {
  try {
    return jiti(file) as Record<string, unknown>;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return jiti.import<Record<string, unknown>>(file);
  }
}

function parseJson(file: string, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const position = /position (\d+)/.exec(String(error))?.[1];
    const line = position === undefined ? undefined : text.slice(0, Number(position)).split('\n').length;
    throw broken(
      file,
      `is not JSON${line === undefined ? '' : `: line ${line}`}`,
      'Correct the file; JSON knows no comments.',
      error,
    );
  }
}

async function parseYaml(file: string, text: string): Promise<unknown> {
  const { LineCounter, parseDocument } = await import('yaml');
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: false, lineCounter: lines });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw broken(file, `is not YAML: line ${line}, column ${col}: ${error.code}`, 'Correct the line.', error);
  }
  // A file of comments alone is null: it sets nothing.
  return (document.toJS() as unknown) ?? {};
}

async function parseToml(file: string, text: string): Promise<unknown> {
  const { parse, TomlError } = await import('smol-toml');
  try {
    return parse(text);
  } catch (error) {
    const where = error instanceof TomlError ? `: line ${error.line}, column ${error.column}` : '';
    throw broken(file, `is not TOML${where}`, 'Correct the line.', error);
  }
}

function broken(file: string, problem: string, remedy: string, cause?: unknown): ConfigError {
  const error = new ConfigError([{ path: '', source: shortName(file), problem, remedy }]);
  error.cause = cause;
  return error;
}

/** Relative where that is shorter to read. */
function shortName(file: string): string {
  const name = relative(process.cwd(), file);
  return name.startsWith('..') ? file : name;
}
