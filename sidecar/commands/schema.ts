import { jsonSchema } from '../../config/json-schema.ts';
import { markdown } from '../../config/markdown.ts';
import { command, ExitCode } from '../command.ts';

export const schema = command({
  meta: { name: 'schema', description: 'Print the JSON Schema of the configuration file' },
  args: {
    json: { type: 'boolean', description: 'Print JSON, as without it' },
    markdown: { type: 'boolean', description: 'Print the documentation of every key instead' },
  },
  run({ args }): number {
    process.stdout.write(args.markdown ? markdown() : `${JSON.stringify(jsonSchema(), null, 2)}\n`);
    return ExitCode.ok;
  },
});
