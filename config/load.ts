import { basename, dirname, resolve } from 'node:path';
import type { ResolveFunction } from '../src/ports/index.ts';
import { consistencyFaults } from './consistency.ts';
import { type Environment, readEnvironment, readFlags, type TextLayer } from './environment.ts';
import { ConfigError, type Fault, faultsOf } from './faults.ts';
import { findConfigFile, loadExport, readConfigFile } from './file.ts';
import { allKeys, valueAt } from './keys.ts';
import { deepFreeze, isPlain, type Layer, merge, type Source } from './layers.ts';
import { PRESET_NAMES, PRESETS, type PresetName } from './presets.ts';
import { type Config, configSchema } from './schema.ts';

export interface LoadOptions {
  /** Where the file is looked for. */
  readonly folder: string;
  /** `--config`: this file and no other, relative to `folder`. */
  readonly file?: string | undefined;
  readonly environment: Environment;
  /** Path of a key to its text, written as in the environment. */
  readonly flags?: Readonly<Record<string, string | undefined>>;
  /** The flag that sets a path, for messages. */
  readonly flagName?: (path: string) => string;
}

export interface LoadedConfig {
  readonly config: Config;
  /** Absent where no file was found. */
  readonly file: string | undefined;
  /** Which layer decided each key; the same paths as in the documentation. */
  readonly sources: Readonly<Record<string, Source>>;
  /** What deserves a line in the log and is no fault. */
  readonly notices: readonly string[];
}

/** Reads every layer and returns what is in force. Throws `ConfigError` with all faults at once. */
export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const folder = resolve(options.folder);
  const file = options.file === undefined ? findConfigFile(folder) : resolve(folder, options.file);
  const fileTree = withoutSchemaName(file === undefined ? {} : await readConfigFile(file));
  if (file !== undefined && !isPlain(fileTree)) {
    throw new ConfigError([
      {
        path: '',
        source: basename(file),
        problem: 'holds no configuration object',
        remedy: 'Write keys with values; see bridgehead init.',
      },
    ]);
  }

  const environment = readEnvironment(options.environment);
  const flags = readFlags(options.flags ?? {}, options.flagName ?? ((path) => path));
  const upper: Layer[] = [
    { kind: 'file', tree: fileTree, nameOf: () => basename(file ?? '') },
    textLayer('environment', environment),
    textLayer('flag', flags),
  ];
  const layers = [...presetLayer(upper), ...upper];
  const tree = layers.reduce<unknown>((under, layer) => merge(under, layer.tree), {});

  const layerOf = (path: readonly PropertyKey[]): Layer | undefined =>
    layers.findLast((layer) => valueAt(layer.tree, path) !== undefined);
  const sourceOf = (path: readonly PropertyKey[]): string => {
    for (let length = path.length; length > 0; length--) {
      const layer = layerOf(path.slice(0, length));
      if (layer) return layer.nameOf(path.slice(0, length));
    }
    return 'default';
  };

  const result = configSchema.safeParse(tree);
  const faults: Fault[] = [
    ...environment.faults,
    ...flags.faults,
    ...(result.success ? [] : faultsOf(result.error.issues, tree, sourceOf)),
    ...consistencyFaults(withDefaults(tree), sourceOf),
  ];
  const resolveFunction = await loadResolver(valueAt(tree, ['tiers', 'resolver']), {
    folder: layerOf(['tiers', 'resolver'])?.kind === 'file' && file !== undefined ? dirname(file) : folder,
    source: sourceOf(['tiers', 'resolver']),
    faults,
  });
  if (!result.success || faults.length > 0) throw new ConfigError(faults);

  const { data } = result;
  const config: Config = resolveFunction ? { ...data, tiers: { ...data.tiers, resolve: resolveFunction } } : data;
  const sources = Object.fromEntries(
    allKeys()
      .filter((key) => key.about !== undefined && !key.path.includes('[]'))
      .map((key): [string, Source] => [key.path, layerOf(key.path.split('.'))?.kind ?? 'default']),
  );
  return { config: deepFreeze(config), file, sources, notices: environment.notices };
}

/** Editors look for `$schema` in JSON and YAML files: it is no key of ours. */
function withoutSchemaName(tree: unknown): unknown {
  if (!isPlain(tree)) return tree;
  const { $schema: name, ...rest } = tree;
  return typeof name === 'string' ? rest : tree;
}

function textLayer(kind: Source, { tree, names }: TextLayer): Layer {
  return {
    kind,
    tree,
    nameOf: (path) => {
      for (let length = path.length; length > 0; length--) {
        const name = names.get(path.slice(0, length).join('.'));
        if (name !== undefined) return name;
      }
      return kind;
    },
  };
}

/** The preset that the layers name, if it is known; an unknown one is the schema's fault to tell. */
function presetLayer(layers: readonly Layer[]): Layer[] {
  const name = layers.map((layer) => valueAt(layer.tree, ['preset'])).findLast((value) => value !== undefined);
  const known = PRESET_NAMES.find((preset): preset is PresetName => preset === name);
  return known === undefined ? [] : [{ kind: 'preset', tree: PRESETS[known], nameOf: () => `preset ${known}` }];
}

/** Only what consistency rules compare: listeners, paths and limits. */
function withDefaults(tree: unknown): unknown {
  const defaults = allKeys().reduce<unknown>((under, { path, fallback }) => {
    if (path.includes('[]') || fallback === undefined || isPlain(fallback) || Array.isArray(fallback)) return under;
    return merge(
      under,
      path.split('.').reduceRight<unknown>((value, part) => ({ [part]: value }), fallback),
    );
  }, {});
  return merge(defaults, tree);
}

async function loadResolver(
  reference: unknown,
  { folder, source, faults }: { folder: string; source: string; faults: Fault[] },
): Promise<ResolveFunction | undefined> {
  if (typeof reference !== 'string' || reference === '') return undefined;
  const fault = (problem: string, remedy: string): void => {
    faults.push({ path: 'tiers.resolver', value: JSON.stringify(reference), source, problem, remedy });
  };
  try {
    const found = await loadExport(reference, folder);
    if (typeof found === 'function') return found as ResolveFunction;
    fault('names no function', 'Export it under the name after #, or as default: ./resolver.mjs#resolve.');
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const { problem, remedy } of error.faults) fault(problem, remedy);
  }
  return undefined;
}
