import { ConfigError, formatFault } from '../config/faults.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';

/** Flags of every command that reads the configuration, with the key each sets. */
const FLAGS = {
  name: 'name',
  preset: 'preset',
  listen: 'listen',
  'admin-listen': 'admin.listen',
  'link-listen': 'link.listen',
  backends: 'backends',
  'log-level': 'log.level',
} as const;

export const configArgs = {
  config: {
    type: 'string',
    alias: 'c',
    description: 'Configuration file; else bridgehead.config.* here or in config/',
    valueHint: 'file',
  },
  name: { type: 'string', description: 'Name of the deployment', valueHint: 'name' },
  preset: { type: 'string', description: 'lean, small or large', valueHint: 'preset' },
  listen: { type: 'string', description: 'Address for browsers', valueHint: 'host:port' },
  'admin-listen': { type: 'string', description: 'Address for health, metrics and the API', valueHint: 'host:port' },
  'link-listen': { type: 'string', description: 'Address where workers dial in', valueHint: 'host:port' },
  backends: { type: 'string', description: 'Workers, separated by commas', valueHint: 'url,…' },
  'log-level': { type: 'string', description: 'trace, debug, info, warn, error, fatal or silent', valueHint: 'level' },
} as const;

export type ConfigArguments = Readonly<Partial<Record<keyof typeof FLAGS | 'config', string | undefined>>>;

/** Reads the configuration as the arguments, the environment and the working directory say. */
export function readConfig(args: ConfigArguments): Promise<LoadedConfig> {
  const names = Object.keys(FLAGS) as (keyof typeof FLAGS)[];
  return loadConfig({
    folder: process.cwd(),
    file: args.config,
    environment: process.env,
    flags: Object.fromEntries(names.map((name) => [FLAGS[name], args[name]])),
    flagName: (path) => `--${names.find((name) => FLAGS[name] === path) ?? path}`,
  });
}

/** Every fault on a line of its own, for a terminal. Rethrows what is no fault of the configuration. */
export function faultLines(error: unknown): string {
  if (!(error instanceof ConfigError)) throw error;
  const { faults } = error;
  const title =
    faults.length === 1 ? 'The configuration has a fault:' : `The configuration has ${faults.length} faults:`;
  return [title, ...faults.map((fault) => `  ${formatFault(fault)}`), ''].join('\n');
}
