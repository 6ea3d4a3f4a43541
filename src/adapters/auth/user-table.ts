import { escapeIdentifier } from 'pg';
import type { UserSnapshot } from '../../ports/auth.ts';

/** One column as it is read: the expression gives what the companion would put into a snapshot. */
interface Column {
  readonly name: string;
  readonly expression: string;
  readonly read: (value: unknown) => unknown;
}

/** Leaves a field out of the snapshot: the worker loads it when it is touched. */
const OUT = Symbol('out');
const MAX_CHARACTERS = 256;
const MAX_SNAPSHOT = 2_048;
const KEPT_WHEN_LARGE = new Set(['is_active', 'is_staff', 'is_superuser', 'username', 'email']);
/** Credentials stay in the database, under whatever name; the same as in the companion's snapshots. */
const SECRET = /pass|secret|token|otp|totp|mfa|salt|signature|credential|private|(^|_)(key|hash|pin|api)(_|$)/;

const asIs = (value: unknown): unknown => value;

function text(value: unknown): unknown {
  return typeof value !== 'string' || Array.from(value).length <= MAX_CHARACTERS ? value : OUT;
}

function integer(value: unknown): unknown {
  if (value === null) return null;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : OUT;
}

/** Django's ISO 8601 has either no fraction or six digits. */
function moment(value: unknown): unknown {
  return typeof value === 'string' ? value.replace('.000000', '') : value;
}

type Reader = readonly [expression: (column: string) => string, read: (value: unknown) => unknown];
const plain = (column: string): string => column;
const castToText = (column: string): string => `${column}::text`;

/** By PostgreSQL's type. A type that is not here stays out of snapshots, which is always right. */
const READERS: Readonly<Record<string, Reader>> = {
  boolean: [plain, asIs],
  smallint: [plain, integer],
  integer: [plain, integer],
  bigint: [castToText, integer],
  'double precision': [plain, (value) => (value === null || Number.isFinite(value) ? value : OUT)],
  text: [plain, text],
  'character varying': [plain, text],
  uuid: [castToText, asIs],
  numeric: [castToText, text],
  date: [(column) => `to_char(${column}, 'YYYY-MM-DD')`, asIs],
  'timestamp with time zone': [
    (column) => `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')`,
    moment,
  ],
};

/** Columns of a table, of the first that the search path finds; for `UserTable`. $1: the table, quoted. */
export const TABLE_QUERY = `
  SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type, i.indrelid IS NOT NULL AS pk
  FROM pg_attribute a
  LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey)
  WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY a.attnum`;

export interface TableColumn {
  readonly name: string;
  readonly type: string;
  readonly pk: boolean;
}

/** The user model's table: how a row is asked for, and the snapshot made of it. */
export class UserTable {
  /** $1: the primary key as text. */
  readonly query: string;
  /** PostgreSQL's type of the primary key. */
  readonly keyType: string;
  readonly #columns: readonly Column[];
  readonly #hasActive: boolean;

  /** Undefined where this is no table of Django users: no single primary key, or no password. */
  static of(table: string, columns: readonly TableColumn[]): UserTable | undefined {
    const keys = columns.filter(({ pk }) => pk);
    const [key] = keys;
    if (key === undefined || keys.length > 1 || !columns.some(({ name }) => name === 'password')) return undefined;
    return new UserTable(table, key, columns);
  }

  private constructor(table: string, key: TableColumn, columns: readonly TableColumn[]) {
    this.keyType = key.type;
    this.#hasActive = columns.some(({ name }) => name === 'is_active');
    this.#columns = columns.flatMap(({ name, type, pk }) => {
      const reader = READERS[type];
      if (reader === undefined || pk || name === 'password' || SECRET.test(name.toLowerCase())) return [];
      return [{ name, expression: reader[0](escapeIdentifier(name)), read: reader[1] }];
    });
    const fields = this.#columns.map(({ expression }, at) => `, ${expression} AS f${at}`).join('');
    const id = escapeIdentifier(key.name);
    this.query = `SELECT ${id}::text AS id, password${fields} FROM ${escapeIdentifier(table)} WHERE ${id} = $1::${key.type}`;
  }

  /** Whether the row's user may be logged in at all. */
  isActive(fields: UserSnapshot['f']): boolean {
    return !this.#hasActive || fields['is_active'] === true;
  }

  fields(row: Readonly<Record<string, unknown>>): UserSnapshot['f'] {
    const entries = this.#columns.map(({ name, read }, at) => [name, read(row[`f${at}`])] as const);
    return Object.fromEntries(entries.filter(([, value]) => value !== OUT));
  }
}

/** Cuts a snapshot that is too large to travel (docs/PROTOCOL.md, "Snapshot"); undefined where even that is too large. */
export function fitSnapshot(user: UserSnapshot): UserSnapshot | undefined {
  if (size(user) <= MAX_SNAPSHOT) return user;
  const kept = Object.entries(user.f).filter(([name]) => KEPT_WHEN_LARGE.has(name));
  const cut = { ...user, f: Object.fromEntries(kept) };
  return size(cut) <= MAX_SNAPSHOT ? cut : undefined;
}

function size(user: UserSnapshot): number {
  return Buffer.byteLength(JSON.stringify(user));
}
