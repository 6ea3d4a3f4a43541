import { ConfigError } from '../../config/faults.ts';
import { ChangeError, pkOf, readPublished } from '../../src/protocol/change.ts';
import { AdminUnreachable, adminUrl, requestAdmin } from '../admin-client.ts';
import { configArgs, faultLines, readConfig } from '../config-source.ts';
import { command, ExitCode, UsageError } from '../command.ts';

/** How long the sidecar may take until the bus has it. Milliseconds. */
const TIMEOUT = 10_000;

export const publish = command({
  meta: { name: 'publish', description: 'Tell every session of a change: bridgehead publish shop.product updated 42' },
  args: {
    model: { type: 'positional', description: 'app_label.model', required: true },
    action: { type: 'positional', description: 'created, updated or deleted', required: true },
    pk: { type: 'positional', description: 'The primary key', required: true },
    id: { type: 'string', description: 'Its id; publishing twice with one id is harmless', valueHint: 'id' },
    tag: { type: 'string', description: 'Whom it concerns; several with commas', valueHint: 'tenant:acme' },
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
    const { action, id, model, tag } = args;
    const tags = tag === undefined ? {} : { tags: tag.split(',').map((one) => one.trim()) };
    const change = { model, action, pk: pkOf(args.pk), ...(id !== undefined && { id }), ...tags };
    try {
      // What is no change is told before any sidecar is asked.
      readPublished(change, { id: () => 'checked', now: 0 });
      const { config } = await readConfig(args);
      const response = await requestAdmin(args.url ?? adminUrl(config), '/api/publish', config.admin.apiKey, {
        method: 'POST',
        body: JSON.stringify(change),
        signal: AbortSignal.timeout(TIMEOUT),
      });
      const answer = await response.text();
      process.stdout.write(args.json ? answer : 'accepted\n');
      return ExitCode.ok;
    } catch (error) {
      if (error instanceof ChangeError) throw new UsageError(error.message, { cause: error });
      if (error instanceof AdminUnreachable) process.stderr.write(`bridgehead: ${error.message}\n`);
      else if (error instanceof ConfigError) process.stderr.write(faultLines(error));
      else throw error;
      return ExitCode.failed;
    }
  },
});
