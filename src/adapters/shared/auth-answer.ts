import type { AuthAnswer, UserSnapshot } from '../../ports/auth.ts';

const MAX_GROUPS = 100;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function readSnapshot(value: unknown): UserSnapshot | undefined {
  if (!isRecord(value)) return undefined;
  const { m, id, b, h, f } = value;
  const texts = [m, id, b, h];
  if (!texts.every((text) => typeof text === 'string' && text.length <= 512) || !isRecord(f)) return undefined;
  if (m === '' || id === '') return undefined;
  return { m, id, b, h, f } as UserSnapshot;
}

/** Reads an answer that came from outside; undefined for everything that is no clear user or anonymous. */
export function readAuthAnswer(value: unknown, at: number): AuthAnswer | undefined {
  if (!isRecord(value)) return undefined;
  if (value['kind'] === 'anonymous') return { kind: 'anonymous', at };
  if (value['kind'] !== 'user') return undefined;
  const user = readSnapshot(value['user']);
  const { permissions = [], asked, expires, groups } = value;
  if (user === undefined || !Array.isArray(permissions)) return undefined;
  const names = textsOf(permissions);
  const looked = Array.isArray(asked) ? { asked: textsOf(asked) } : {};
  const ends = typeof expires === 'number' && Number.isFinite(expires) ? { expires } : {};
  const isMember = Array.isArray(groups) ? { groups: textsOf(groups).slice(0, MAX_GROUPS) } : {};
  return { kind: 'user', user, permissions: names, ...looked, at, ...ends, ...isMember };
}

function textsOf(values: readonly unknown[]): string[] {
  return values.filter((value) => typeof value === 'string');
}
