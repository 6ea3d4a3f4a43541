import { ConfigError } from '../../config/faults.ts';
import { PushError, readPush } from '../../src/protocol/push.ts';
import { AdminUnreachable, adminUrl, requestAdmin } from '../admin-client.ts';
import { configArgs, faultLines, readConfig } from '../config-source.ts';
import { command, ExitCode, UsageError } from '../command.ts';

/** How long the sidecar may take until the bus has it. Milliseconds. */
const TIMEOUT = 10_000;

export const push = command({
  meta: { name: 'push', description: 'Reach into open pages: bridgehead push --user 42 --toast "Your order is ready"' },
  args: {
    all: { type: 'boolean', description: 'To every session' },
    user: { type: 'string', description: "To a user's sessions: the primary key, or auth.user:42", valueHint: 'key' },
    group: { type: 'string', description: 'To the sessions of a Django group', valueHint: 'name' },
    path: { type: 'string', description: 'To whoever shows a page: /orders or a glob', valueHint: 'path' },
    session: { type: 'string', description: 'To one session: its id or client token', valueHint: 'id' },
    event: { type: 'string', description: 'Run a handler that live.push allows', valueHint: 'module.Class.handler' },
    payload: { type: 'string', description: 'Its arguments', valueHint: 'JSON' },
    toast: { type: 'string', description: 'Show a toast', valueHint: 'text' },
    level: { type: 'string', description: 'info, success, warning or error', valueHint: 'level' },
    redirect: { type: 'string', description: 'Go to another page of the app', valueHint: 'path' },
    script: { type: 'string', description: 'Run JavaScript, where live.scripts allows it', valueHint: 'code' },
    id: { type: 'string', description: 'Its id; pushing twice with one id is harmless', valueHint: 'id' },
    config: configArgs.config,
    'admin-listen': configArgs['admin-listen'],
    url: {
      type: 'string',
      description: 'The admin listener; else admin.listen of the configuration',
      valueHint: 'http://host:port',
    },
    json: { type: 'boolean', description: 'Print JSON' },
  },
  async run({ args }): Promise<number> {
    try {
      const body = bodyOf(args);
      // What is no push is told before any sidecar is asked.
      readPush(body, { id: 'checked', now: 0 });
      const { config } = await readConfig(args);
      const response = await requestAdmin(args.url ?? adminUrl(config), '/api/push', config.admin.apiKey, {
        method: 'POST',
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT),
      });
      const answer = await response.text();
      process.stdout.write(args.json === true ? answer : 'accepted\n');
      return ExitCode.ok;
    } catch (error) {
      if (error instanceof PushError) throw new UsageError(error.message, { cause: error });
      if (error instanceof AdminUnreachable) process.stderr.write(`bridgehead: ${error.message}\n`);
      else if (error instanceof ConfigError) process.stderr.write(faultLines(error));
      else throw error;
      return ExitCode.failed;
    }
  },
});

interface PushArgs {
  readonly all?: boolean | undefined;
  readonly user?: string | undefined;
  readonly group?: string | undefined;
  readonly path?: string | undefined;
  readonly session?: string | undefined;
  readonly event?: string | undefined;
  readonly payload?: string | undefined;
  readonly toast?: string | undefined;
  readonly level?: string | undefined;
  readonly redirect?: string | undefined;
  readonly script?: string | undefined;
  readonly id?: string | undefined;
}

function bodyOf({ all, user, group, path, session, event, payload, toast, level, ...rest }: PushArgs): object {
  if (payload !== undefined && event === undefined) throw new UsageError('--payload goes with --event');
  if (level !== undefined && toast === undefined) throw new UsageError('--level goes with --toast');
  const { redirect, script, id } = rest;
  return {
    to: present({ all: all === true ? true : undefined, user, group, path, session }),
    ...present({
      event: event === undefined ? undefined : { name: event, payload: readPayload(payload) },
      toast: toast === undefined ? undefined : { text: toast, level },
      redirect,
      script,
      id,
    }),
  };
}

function readPayload(text: string | undefined): unknown {
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new UsageError(`--payload is no JSON; write for example --payload '{"order":42}'`);
  }
}

function present(fields: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
