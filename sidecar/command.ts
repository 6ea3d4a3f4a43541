import type { ArgsDef, CommandDef } from 'citty';

/** What the command says to the shell. */
export const ExitCode = { ok: 0, failed: 1, usage: 2 } as const;

/** The command was called wrongly: exit code 2. */
export class UsageError extends Error {}

/** A command without the types of its own arguments, as the table of commands holds it. */
export function command<Args extends ArgsDef>(
  definition: Omit<CommandDef<Args>, 'run'> & { run: Exclude<CommandDef<Args>['run'], undefined> },
): CommandDef {
  return definition as unknown as CommandDef;
}
