import { z } from 'zod';
import { aboutOf, type About } from './about.ts';
import { configSchema } from './schema.ts';

/** How a value is written where only text can stand (environment, flags). */
type Notation = 'text' | 'number' | 'boolean' | 'boolean-or-text' | 'list' | 'json' | 'none';

/** One key of the configuration, as every other part needs to know it. */
export interface Key {
  /** `limits.payloadBytes`; keys of list entries have brackets: `tiers.rules[].state`. */
  readonly path: string;
  readonly notation: Notation;
  /** Absent for a section, which only groups keys. */
  readonly about?: About;
  /** What may stand there, in words. */
  readonly accepts: string;
  /** As it would be written in a file; undefined where there is none. */
  readonly fallback?: unknown;
}

type Shape = Readonly<Record<string, z.ZodType>>;

/** Takes off what only says that a value may be missing. */
function unwrap(schema: z.ZodType): { inner: z.ZodType; fallback?: unknown } {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return { ...unwrap(schema.def.innerType as z.ZodType), fallback: schema.def.defaultValue };
  }
  if (schema instanceof z.ZodOptional) return unwrap(schema.def.innerType as z.ZodType);
  if (schema instanceof z.ZodPipe) return unwrap(schema.def.in as z.ZodType);
  return { inner: schema };
}

function notationOf(schema: z.ZodType): Notation {
  if (schema instanceof z.ZodNumber) return 'number';
  if (schema instanceof z.ZodBoolean) return 'boolean';
  if (schema instanceof z.ZodString || schema instanceof z.ZodEnum) return 'text';
  if (schema instanceof z.ZodArray)
    return unwrap(schema.element as z.ZodType).inner instanceof z.ZodObject ? 'json' : 'list';
  if (schema instanceof z.ZodObject) return 'json';
  if (schema instanceof z.ZodUnion) {
    const options = schema.options.map((option) => unwrap(option as z.ZodType).inner);
    return options.some((option) => option instanceof z.ZodObject) ? 'json' : 'boolean-or-text';
  }
  return 'none';
}

const grouped = (value: number) => value.toLocaleString('en-US');

function acceptsOf(schema: z.ZodType): string {
  if (schema instanceof z.ZodNumber) {
    const noun = schema.format === 'safeint' ? 'a whole number' : 'a number';
    return `${noun} from ${grouped(schema.minValue ?? 0)} to ${grouped(schema.maxValue ?? 0)}`;
  }
  if (schema instanceof z.ZodBoolean) return 'true or false';
  if (schema instanceof z.ZodString) return 'text';
  if (schema instanceof z.ZodEnum) return schema.options.join(', ').replace(/, ([^,]*)$/, ' or $1');
  if (schema instanceof z.ZodLiteral) return [...schema.values].join(' or ');
  if (schema instanceof z.ZodArray) return `a list of ${plural(unwrap(schema.element as z.ZodType).inner)}`;
  if (schema instanceof z.ZodObject) return `an object with ${Object.keys(schema.shape).join(', ')}`;
  if (schema instanceof z.ZodUnion) {
    return schema.options.map((option) => acceptsOf(unwrap(option as z.ZodType).inner)).join(', or ');
  }
  return 'a function';
}

function plural(schema: z.ZodType): string {
  return schema instanceof z.ZodObject ? `objects with ${Object.keys(schema.shape).join(', ')}` : 'texts';
}

function walk(shape: Shape, prefix: string, into: Key[]): void {
  for (const [name, schema] of Object.entries(shape)) {
    const path = prefix + name;
    const { inner, fallback } = unwrap(schema);
    const about = aboutOf(schema);
    into.push({
      path,
      notation: notationOf(inner),
      accepts: acceptsOf(inner),
      ...(about && { about }),
      ...(about && fallback !== undefined && { fallback }),
    });
    if (inner instanceof z.ZodObject) walk(inner.shape, `${path}.`, into);
    else if (inner instanceof z.ZodArray) walkOptions([inner.element as z.ZodType], `${path}[].`, into);
    else if (inner instanceof z.ZodUnion) walkOptions(inner.options as z.ZodType[], `${path}.`, into);
  }
}

function walkOptions(options: readonly z.ZodType[], prefix: string, into: Key[]): void {
  for (const option of options) {
    const { inner } = unwrap(option);
    if (inner instanceof z.ZodObject && Object.values<z.ZodType>(inner.shape).some(aboutOf)) {
      walk(inner.shape, prefix, into);
    }
  }
}

let known: readonly Key[] | undefined;

/** Every key and section, in the schema's order; made when first asked for. */
export function allKeys(): readonly Key[] {
  if (known === undefined) {
    const found: Key[] = [];
    walk(configSchema.shape, '', found);
    known = found;
  }
  return known;
}

/** The key at a path as zod gives it; indices of lists become brackets. */
export function keyAt(path: readonly PropertyKey[]): Key | undefined {
  const name = formatPath(path).replace(/\[\d+\]/g, '[]');
  return allKeys().find((key) => key.path === name);
}

/** `tiers.rules[2].path` */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? String(part) : `${text}.${String(part)}`;
  }, '');
}

export function valueAt(tree: unknown, path: readonly PropertyKey[]): unknown {
  let value = tree;
  for (const part of path) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}
