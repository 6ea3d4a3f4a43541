#!/usr/bin/env node
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { type ArgsDef, type CommandDef, renderUsage, runCommand } from 'citty';
import { ExitCode, UsageError } from './command.ts';
import { VERSION } from './version.ts';

/** Loaded when called: `serve` does not pay for the others. */
const COMMANDS: Readonly<Record<string, () => Promise<CommandDef>>> = {
  serve: () => import('./commands/serve.ts').then(({ serve }) => serve),
  check: () => import('./commands/check.ts').then(({ check }) => check),
  doctor: () => import('./commands/doctor.ts').then(({ doctor }) => doctor),
  init: () => import('./commands/init.ts').then(({ init }) => init),
  publish: () => import('./commands/publish.ts').then(({ publish }) => publish),
  push: () => import('./commands/push.ts').then(({ push }) => push),
  tail: () => import('./commands/tail.ts').then(({ tail }) => tail),
  schema: () => import('./commands/schema.ts').then(({ schema }) => schema),
};

const root: CommandDef = {
  meta: { name: 'bridgehead', version: VERSION, description: 'A sidecar for Reflex + Django apps' },
  args: {
    help: { type: 'boolean', alias: 'h', description: 'Show this help' },
    version: { type: 'boolean', alias: 'v', description: 'Show the version' },
  },
  subCommands: COMMANDS,
};

async function main(rawArgs: readonly string[]): Promise<number> {
  const [name, ...rest] = rawArgs;
  if (name === undefined) {
    process.stderr.write(`${await usage(root)}\n`);
    return ExitCode.usage;
  }
  if (name === '--version' || name === '-v') {
    process.stdout.write(`${VERSION}\n`);
    return ExitCode.ok;
  }
  if (name === '--help' || name === '-h') {
    process.stdout.write(`${await usage(root)}\n`);
    return ExitCode.ok;
  }
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (load === undefined) throw new UsageError(`unknown command ${JSON.stringify(name)}; see bridgehead --help`);
  const command = await load();
  if (rest.includes('--help') || rest.includes('-h')) {
    process.stdout.write(`${await usage(command, root)}\n`);
    return ExitCode.ok;
  }
  requireKnownArguments(rest, (command.args ?? {}) as ArgsDef, name);
  const { result } = await runCommand(command, { rawArgs: rest });
  return typeof result === 'number' ? result : ExitCode.ok;
}

/** citty takes what it does not know in silence. */
function requireKnownArguments(rawArgs: readonly string[], definition: ArgsDef, name: string): void {
  const entries = Object.entries(definition);
  const options = entries
    .filter(([, { type }]) => type !== 'positional')
    .map(([option, definition]) => {
      const { type } = definition;
      const short = 'alias' in definition && typeof definition.alias === 'string' ? definition.alias : undefined;
      return [option, { type: type === 'boolean' ? 'boolean' : 'string', ...(short && { short }) }] as const;
    });
  try {
    const { positionals } = parseArgs({
      args: [...rawArgs],
      options: Object.fromEntries(options),
      allowPositionals: true,
    });
    const places = entries.length - options.length;
    const surplus = positionals[places];
    if (surplus !== undefined)
      throw new UsageError(`unexpected argument ${JSON.stringify(surplus)}; see bridgehead ${name} --help`);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${firstSentence(error)}; see bridgehead ${name} --help`);
  }
}

function firstSentence(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('. ')[0] ?? '';
}

async function usage(command: CommandDef, parent?: CommandDef): Promise<string> {
  const text = await renderUsage(command, parent);
  return process.stdout.isTTY ? text : stripVTControlCharacters(text);
}

try {
  const code = await main(process.argv.slice(2));
  process.exitCode = code;
} catch (error) {
  const isUsage = error instanceof UsageError || (error instanceof Error && error.name === 'CLIError');
  const text = error instanceof Error ? (isUsage ? error.message : (error.stack ?? error.message)) : String(error);
  process.stderr.write(`bridgehead: ${stripVTControlCharacters(text)}\n`);
  process.exitCode = isUsage ? ExitCode.usage : ExitCode.failed;
}
