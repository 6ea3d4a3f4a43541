import { z } from 'zod';

/** What the schema cannot say of a key by itself. */
export interface About {
  readonly description: string;
  /** bytes, seconds, milliseconds, events/s, … */
  readonly unit?: string;
  /** Never printed, not even in a fault. */
  readonly secret?: true;
  /** Takes effect on SIGHUP without a restart. */
  readonly reload?: true;
}

const registry = z.registry<About>();

/** Puts words beside a schema. The outermost schema of a key carries them. */
export function key<Schema extends z.ZodType>(schema: Schema, about: About): Schema {
  const described = schema.meta({ description: about.description });
  registry.add(described, about);
  return described;
}

export function aboutOf(schema: z.core.$ZodType): About | undefined {
  return registry.get(schema as z.ZodType);
}
