import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { ConfigError } from '../../config/faults.ts';
import { AdminUnreachable, adminUrl, askAdmin, requestAdmin } from '../admin-client.ts';
import { configArgs, faultLines, readConfig } from '../config-source.ts';
import { command, ExitCode, UsageError } from '../command.ts';

export const tail = command({
  meta: { name: 'tail', description: 'Show changes as they go over the bus, until interrupted' },
  args: {
    model: { type: 'string', description: 'Changes of this model alone', valueHint: 'app_label.model' },
    dead: { type: 'boolean', description: "Show the stream's dead letters instead, as lines of JSON, and end" },
    replay: { type: 'string', description: 'With --dead: put this dead letter back for its group', valueHint: 'id' },
    config: configArgs.config,
    'admin-listen': configArgs['admin-listen'],
    url: {
      type: 'string',
      description: 'The admin listener; else admin.listen of the configuration',
      valueHint: 'http://host:port',
    },
    json: { type: 'boolean', description: 'Print a line of JSON for each' },
  },
  async run({ args }): Promise<number> {
    const { dead, model, replay } = args;
    if (replay !== undefined && dead !== true) throw new UsageError('--replay goes with --dead');
    try {
      const { config } = await readConfig(args);
      const target = { url: args.url ?? adminUrl(config), apiKey: config.admin.apiKey };
      if (replay !== undefined) return await replayed(target, replay);
      return dead === true ? await deadLetters(target) : await follow(target, model, args.json === true);
    } catch (error) {
      if (error instanceof AdminUnreachable) process.stderr.write(`bridgehead: ${error.message}\n`);
      else if (error instanceof ConfigError) process.stderr.write(faultLines(error));
      else throw error;
      return ExitCode.failed;
    }
  },
});

interface Target {
  readonly url: string;
  readonly apiKey: string | undefined;
}

async function deadLetters({ url, apiKey }: Target): Promise<number> {
  const { deadLetters: letters } = (await askAdmin(url, '/api/dead-letters', apiKey)) as { deadLetters: object[] };
  for (const letter of letters) process.stdout.write(`${JSON.stringify(letter)}\n`);
  return ExitCode.ok;
}

async function replayed({ url, apiKey }: Target, id: string): Promise<number> {
  await requestAdmin(url, `/api/dead-letters/${encodeURIComponent(id)}/replay`, apiKey, { method: 'POST' });
  process.stdout.write('replayed\n');
  return ExitCode.ok;
}

/** Ends when the sidecar does, or the reader of the output. */
async function follow({ url, apiKey }: Target, model: string | undefined, asJson: boolean): Promise<number> {
  const query = model === undefined ? '' : `?model=${encodeURIComponent(model)}`;
  const { body } = await requestAdmin(url, `/api/tail${query}`, apiKey);
  if (body === null) throw new AdminUnreachable('the sidecar answers without a body');
  process.stdout.on('error', () => process.exit(ExitCode.ok));
  const input = Readable.fromWeb(body);
  // A connection that breaks ends the lines, too.
  input.on('error', () => undefined);
  const lines = createInterface({ input });
  for await (const line of lines) {
    const shown = asJson ? line : readable(line);
    if (shown !== '' && !process.stdout.write(`${shown}\n`)) await once(process.stdout, 'drain');
  }
  process.stderr.write('bridgehead: the sidecar ended the connection\n');
  return ExitCode.failed;
}

interface Line {
  readonly change?: { readonly model: string; readonly action: string; readonly pk: unknown; readonly at: number };
  readonly gap?: { readonly reason: string; readonly model?: string };
  readonly push?: { readonly to: string; readonly what: string };
  readonly state?: string;
}

function readable(line: string): string {
  if (line === '') return '';
  const { change, gap, push, state } = JSON.parse(line) as Line;
  if (change !== undefined) {
    const { action, at, model, pk } = change;
    return `${new Date(at).toISOString()}  ${action}  ${model}  ${JSON.stringify(pk)}`;
  }
  if (push !== undefined) return `-- a push: ${push.what} to ${push.to}`;
  if (gap !== undefined) return `-- changes of ${gap.model ?? 'any model'} may be missing (${gap.reason})`;
  return `-- the change bus is ${state ?? 'unknown'}`;
}
