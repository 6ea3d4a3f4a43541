/**
 * The package's main export: what a configuration file needs. It loads nothing: the schema (zod) is
 * loaded by load.ts, in the process that reads the file.
 */
import type { ConfigInput } from './schema.ts';

export type { ResolvableEvent, ResolvableSession, ResolveFunction, TierRule } from '../src/ports/index.ts';
export type { Config, ConfigInput } from './schema.ts';

/** Gives a configuration file its types. Returns what it is given. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}
