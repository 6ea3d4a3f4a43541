import { z } from 'zod';
import { configSchema } from './schema.ts';

/** JSON Schema of the configuration file, for editors and other tools. */
export function jsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(configSchema, {
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema: node }) => {
      // What a file cannot hold; and bounds that only say "a safe integer".
      if (node.properties?.['resolve'] && node.properties['resolver']) delete node.properties['resolve'];
      if (node.maximum === Number.MAX_SAFE_INTEGER) delete node.maximum;
    },
  });
  const { $schema, properties, ...rest } = schema;
  return {
    $schema,
    title: 'bridgehead.config',
    ...rest,
    properties: { $schema: { type: 'string', description: 'For editors; ignored.' }, ...properties },
  };
}
