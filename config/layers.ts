/** Values of one source. Later layers win over earlier ones. */
export interface Layer {
  readonly kind: Source;
  readonly tree: unknown;
  /** What set a path: the file's name, a variable, a flag. */
  nameOf(path: readonly PropertyKey[]): string;
}

export type Source = 'default' | 'preset' | 'file' | 'environment' | 'flag';

export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // By structure, not identity: values may come from another realm (worker, vm).
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Objects are merged, everything else is replaced; `undefined` sets nothing. */
export function merge(under: unknown, over: unknown): unknown {
  if (over === undefined) return under;
  if (!isPlain(over)) return over;
  const base = isPlain(under) ? under : {};
  const names = new Set([...Object.keys(base), ...Object.keys(over)]);
  const entries = [...names].map((name): [string, unknown] => [name, merge(own(base, name), own(over, name))]);
  // fromEntries defines: a key `__proto__` stays a key, and is then unknown to the schema.
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

function own(tree: Record<string, unknown>, name: string): unknown {
  return Object.hasOwn(tree, name) ? tree[name] : undefined;
}

/** Frozen all the way down; functions stay as they are. */
export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}
