import type { z } from 'zod';
import { allKeys, formatPath, keyAt, valueAt } from './keys.ts';
import { nearest } from './nearest.ts';

/** One thing wrong in a configuration. No field ever holds a secret. */
export interface Fault {
  /** `tiers.rules[2].path`; empty where the file as a whole is wrong. */
  readonly path: string;
  /** The value as it was found, masked and shortened; absent where there is none to show. */
  readonly value?: string;
  /** Where it was set: a file, a variable, a flag. */
  readonly source: string;
  readonly problem: string;
  readonly remedy: string;
}

/** A configuration that cannot be used. Holds every fault that was found. */
export class ConfigError extends Error {
  readonly code = 'CONFIG_INVALID';
  readonly faults: readonly Fault[];

  constructor(faults: readonly Fault[]) {
    super(faults.map(formatFault).join('\n'));
    this.name = 'ConfigError';
    this.faults = faults;
  }
}

export function formatFault(fault: Fault): string {
  const value = fault.value === undefined ? '' : ` = ${fault.value}`;
  return `${fault.path === '' ? fault.source : fault.path}${value}: ${fault.problem}. ${fault.remedy}${fault.path === '' ? '' : ` [${fault.source}]`}`;
}

/** Hides passwords in URLs and connection strings. */
export function maskUrl(text: string): string {
  return text
    .replaceAll(/(\w:\/\/[^\s/?#@]*?:)[^\s/?#]*@/g, '$1***@')
    .replaceAll(/([?&\s](?:password|token|secret|key)=)[^&\s]*/gi, '$1***');
}

/** Whether a secret stands at the path or anywhere below it. */
function holdsSecret(path: readonly PropertyKey[]): boolean {
  const name = formatPath(path).replace(/(\[\d+\])+$/, '');
  return allKeys().some((key) => key.about?.secret === true && (key.path === name || key.path.startsWith(`${name}.`)));
}

/** A value fit for a message. */
export function showValue(path: readonly PropertyKey[], value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (holdsSecret(path)) return '(hidden)';
  const text = maskUrl(typeof value === 'function' ? '(function)' : (JSON.stringify(value) ?? '(unprintable)'));
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

/** All issues of a failed parse as faults. `sourceOf` tells which layer set a path. */
export function faultsOf(
  issues: readonly z.core.$ZodIssue[],
  tree: unknown,
  sourceOf: (path: readonly PropertyKey[]) => string,
): Fault[] {
  return issues.flatMap((issue) => faultsOfIssue(issue, tree, sourceOf));
}

function faultsOfIssue(
  issue: z.core.$ZodIssue,
  tree: unknown,
  sourceOf: (path: readonly PropertyKey[]) => string,
): Fault[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((name) => unknownKey([...issue.path, name], sourceOf([...issue.path, name])));
  }
  if (issue.code === 'invalid_union') {
    // An option that failed deeper down is the one that was meant.
    const meant = issue.errors.find((errors) =>
      errors.some((error) => error.path.length > 0 || error.code === 'unrecognized_keys'),
    );
    if (meant) {
      return faultsOf(
        meant.map((error) => ({ ...error, path: [...issue.path, ...error.path] })),
        tree,
        sourceOf,
      );
    }
  }
  const value = valueAt(tree, issue.path);
  const shown = showValue(issue.path, value);
  const { problem, remedy } = explain(issue, value);
  return [
    {
      path: formatPath(issue.path),
      source: sourceOf(issue.path),
      problem,
      remedy,
      ...(shown !== undefined && { value: shown }),
    },
  ];
}

function explain(issue: z.core.$ZodIssue, value: unknown): { problem: string; remedy: string } {
  const accepts = keyAt(issue.path)?.accepts;
  const write = accepts === undefined ? 'See the documentation of this key.' : `Write ${accepts}${unitOf(issue.path)}.`;
  switch (issue.code) {
    case 'custom': {
      const remedy: unknown = issue.params?.['remedy'];
      return { problem: issue.message, remedy: typeof remedy === 'string' ? remedy : write };
    }
    case 'too_small':
      return {
        problem: issue.origin === 'number' || issue.origin === 'int' ? `is below ${issue.minimum}` : 'is too short',
        remedy: write,
      };
    case 'too_big':
      return {
        problem: issue.origin === 'number' || issue.origin === 'int' ? `is above ${issue.maximum}` : 'is too long',
        remedy: write,
      };
    case 'invalid_value': {
      const options = issue.values.map(String);
      const meant = typeof value === 'string' ? nearest(value, options) : undefined;
      return {
        problem: `is not ${options.join(', ').replace(/, ([^,]*)$/, ' or $1')}`,
        remedy: meant ? `Did you mean ${meant}?` : write,
      };
    }
    case 'invalid_type':
      if (value === undefined) return { problem: 'is missing', remedy: write };
      if (value === null)
        return { problem: 'is empty', remedy: `Remove the line for the default, or write ${accepts ?? 'a value'}.` };
      return { problem: `is ${typeName(value)}`, remedy: write };
    case 'invalid_format':
      return { problem: issue.message, remedy: 'See the documentation of this key.' };
    case 'invalid_union':
    case 'invalid_key':
    case 'invalid_element':
    case 'not_multiple_of':
    case 'unrecognized_keys':
      return { problem: accepts === undefined ? issue.message : `is not ${accepts}`, remedy: write };
  }
}

function unitOf(path: readonly PropertyKey[]): string {
  const unit = keyAt(path)?.about?.unit;
  return unit === undefined ? '' : ` (${unit})`;
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : 'not a whole number';
  if (typeof value === 'object') return 'an object';
  return typeof value === 'string' ? 'text' : `a ${typeof value}`;
}

/** Its value is not shown: a mistyped name may hide a secret. */
function unknownKey(path: readonly PropertyKey[], source: string): Fault {
  const name = String(path.at(-1));
  const parent = formatPath(path.slice(0, -1)).replace(/\[\d+\]/g, '[]');
  const prefix = parent === '' ? '' : `${parent}.`;
  const all = allKeys().map((key) => key.path);
  const siblings = all.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length));
  const here = siblings.filter((key) => !/[.[]/.test(key));
  const close = nearest(name, here);
  const elsewhere = all.find((key) => key.split('.').at(-1)?.toLowerCase() === name.toLowerCase());
  const meant = close === undefined ? (elsewhere ?? nearest(name, all)) : prefix + close;
  return {
    path: formatPath(path),
    source,
    problem: 'is not a known key',
    remedy: meant === undefined ? `Known here: ${here.join(', ') || 'none'}.` : `Did you mean ${meant}?`,
  };
}
