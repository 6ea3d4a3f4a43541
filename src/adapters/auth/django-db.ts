import { createHash } from 'node:crypto';
import { escapeIdentifier, type Pool } from 'pg';
import { userKey, type AuthAnswer, type AuthResult, type AuthSource, type Invalidation } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import { sessionHash } from '../../protocol/keys.ts';
import type { UserModelFacts } from '../../protocol/manifest.ts';
import { Breaker } from '../shared/breaker.ts';
import { fitsPassword, readSessionData } from './django-signing.ts';
import { RecentlyInvalidated } from './recently-invalidated.ts';
import { fitSnapshot, TABLE_QUERY, UserTable, type TableColumn } from './user-table.ts';

export interface DjangoSettings {
  /** SECRET_KEY, then SECRET_KEY_FALLBACKS. */
  readonly secretKeys: readonly string[];
  /** The user model's label, `auth.user`. */
  readonly userModel?: string;
  /** Its table; by default Django's own name for it. */
  readonly userTable?: string;
  readonly sessionTable?: string;
  /**
   * AUTHENTICATION_BACKENDS. Each MUST let in whom ModelBackend lets in, and give no permissions of its own; a session of any
   * other backend is left to the worker.
   */
  readonly backends?: readonly string[];
}

export interface DjangoDbOptions {
  readonly pool: Pool;
  readonly replica?: Pool | undefined;
  readonly settings: DjangoSettings;
  /** The names that the access rules use, as they stand. */
  readonly permissions: () => readonly string[];
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface DjangoDbSource extends AuthSource {
  /** A worker tells what the user model is. True where this changes whether anybody is answered for. */
  learned(facts: UserModelFacts): boolean;
  /** For 30 s the primary is asked about them, not the replica; from the start for 30 s about everybody. */
  invalidated(what: Invalidation): void;
}

const QUERY_TIMEOUT = 1_000;
/** All queries of one answer together. Milliseconds. */
const TIMEOUT = 2_000;
/** After a failure nobody waits for the database for so long. Milliseconds. */
const PAUSE = 1_000;
/** A session with more than this is left to Django. Bytes. */
const MAX_SESSION = 1_000_000;
const INVALID_TEXT = '22P02';
const OUT_OF_RANGE = '22003';
const NO_TABLE = '42P01';
const NO_COLUMN = '42703';

type Row = Readonly<Record<string, unknown>>;

/**
 * Reads Django's sessions and users from PostgreSQL, without Python: the session engine `db` (or `cached_db`) with the JSON
 * serializer, and a user model whose password, auth hash, is_active and default manager are Django's own: a table does not show what
 * else a model may do. What it does not know, or a worker told it that it cannot, is `unavailable`.
 */
export function djangoDbSource(options: DjangoDbOptions): DjangoDbSource {
  const reader = new DjangoReader(options);
  const breaker = new Breaker({ timeout: TIMEOUT, pause: PAUSE, clock: options.clock });
  return {
    invalidated: (what) => reader.recent.add(what),
    learned: (facts) => reader.learned(facts),
    async resolve(cookie, signal) {
      const aborted = new Promise<AuthResult>((resolve) => {
        const late = (): void => resolve({ kind: 'unavailable', cause: 'timeout' });
        if (signal.aborted) late();
        else signal.addEventListener('abort', late, { once: true });
      });
      const found = async (): Promise<AuthResult> =>
        (await breaker.run(() => reader.resolve(cookie)))?.value ??
        reader.unavailable('database', 'the database cannot be asked for users');
      return Promise.race([aborted, found()]);
    },
  };
}

class DjangoReader {
  readonly recent: RecentlyInvalidated;
  readonly #options: DjangoDbOptions;
  readonly #model: string;
  readonly #tableName: string;
  readonly #backends: readonly string[];
  readonly #sessionQuery: string;
  readonly #said = new Set<string>();
  #table: UserTable | undefined;
  #hasGroups = true;
  /** Why the table does not tell what Django would, with the remedy. */
  #unfit: string | undefined;

  constructor(options: DjangoDbOptions) {
    const { settings, clock } = options;
    this.#options = options;
    this.recent = new RecentlyInvalidated(clock);
    this.#model = (settings.userModel ?? 'auth.user').toLowerCase();
    this.#tableName = settings.userTable ?? this.#model.replace('.', '_');
    this.#backends = settings.backends ?? ['django.contrib.auth.backends.ModelBackend'];
    this.#sessionQuery = `
      SELECT CASE WHEN octet_length(session_data) <= ${MAX_SESSION} THEN session_data END AS data, expire_date AS ends
      FROM ${escapeIdentifier(settings.sessionTable ?? 'django_session')}
      WHERE session_key = $1 AND expire_date > $2`;
  }

  learned({ model, own }: UserModelFacts): boolean {
    const before = this.#unfit;
    if (model !== this.#model)
      this.#unfit = `the app's user model is ${model}, not ${this.#model}: set auth.django.userModel to "${model}"`;
    else if (own.length > 0)
      this.#unfit = `${model} has its own ${own.join(', ')}, which no table shows: set auth.source to "companion"`;
    else this.#unfit = undefined;
    if (this.#unfit !== undefined) this.#say(`source django-db leaves all users to the workers: ${this.#unfit}`);
    return before !== this.#unfit;
  }

  /** Rejects where the database does. */
  async resolve(cookie: string): Promise<AuthResult> {
    if (this.#unfit !== undefined) return { kind: 'unavailable', cause: 'user_model' };
    const at = this.#options.clock.now();
    const anonymous: AuthAnswer = { kind: 'anonymous', at };
    // Django asks for no shorter key, and PostgreSQL's text cannot hold a NUL.
    if (Array.from(cookie).length < 8 || cookie.includes('\0')) return anonymous;
    const session = await this.#session(cookie, at);
    if (session === undefined) return anonymous;
    if (typeof session['data'] !== 'string') return this.unavailable('session_size', 'a session is too large');
    const data = readSessionData(session['data'], this.#options.settings.secretKeys);
    if (data.kind === 'unsigned') {
      this.#say('a session is not signed with the SECRET_KEY given here, nor with a fallback; to Django it is empty');
      return anonymous;
    }
    if (data.kind === 'unreadable') {
      return this.unavailable('session_format', 'a session was not written by the JSON serializer');
    }
    const { _auth_user_id: id, _auth_user_backend: backend, _auth_user_hash: hash } = data.values;
    if ((typeof id !== 'string' && typeof id !== 'number') || typeof backend !== 'string') return anonymous;
    if (!this.#backends.includes(backend)) {
      return this.unavailable('backend', "a session's authentication backend is not among the ones that are known");
    }
    const expires = session['ends'] instanceof Date ? session['ends'].getTime() : at;
    return this.#user({ id: String(id), backend, hash, session: sessionHash(cookie), at, expires });
  }

  async #session(cookie: string, at: number): Promise<Row | undefined> {
    const values = [cookie, new Date(at)];
    const onPrimary = this.recent.hasSession(sessionHash(cookie));
    const rows = await this.#ask(this.#sessionQuery, values, onPrimary);
    // A login of a moment ago may not have reached the replica.
    if (rows.length > 0 || onPrimary || this.#options.replica === undefined) return rows[0];
    return (await this.#ask(this.#sessionQuery, values, true))[0];
  }

  async #user(about: {
    readonly id: string;
    readonly backend: string;
    readonly hash: unknown;
    readonly session: string;
    readonly at: number;
    readonly expires: number;
  }): Promise<AuthResult> {
    const { id, backend, hash, session, at, expires } = about;
    const table = await this.#userTable();
    if (table === undefined) {
      return this.unavailable('user_table', `${this.#tableName} is no table of users with a password`);
    }
    const onPrimary = this.recent.hasSession(session) || this.recent.hasUser(userKey({ m: this.#model, id }));
    const row = await this.#userRow(table, id, onPrimary);
    if (row === undefined) return { kind: 'anonymous', at };
    const fields = table.fields(row);
    const password = row['password'];
    if (!table.isActive(fields) || typeof password !== 'string') return { kind: 'anonymous', at };
    if (!fitsPassword(hash, password, this.#options.settings.secretKeys)) return { kind: 'anonymous', at };
    const h = createHash('sha256').update(String(hash)).digest().subarray(0, 16).toString('base64url');
    const user = fitSnapshot({ m: this.#model, id: String(row['id']), b: backend, h, f: fields });
    if (user === undefined) return this.unavailable('user_size', "a user's key is too long");
    const permissions = await this.#granted(table, user.id, fields['is_superuser'] === true, onPrimary);
    const groups = await this.#groups(table, user.id, onPrimary);
    return { kind: 'user', user, permissions, ...(groups !== undefined && { groups }), at, expires };
  }

  async #userRow(table: UserTable, id: string, onPrimary: boolean): Promise<Row | undefined> {
    try {
      return (await this.#ask(table.query, [id], onPrimary))[0];
    } catch (error) {
      if (isImpossibleKey(error)) return undefined;
      // A migration may have changed the table.
      this.#table = undefined;
      throw error;
    }
  }

  async #userTable(): Promise<UserTable | undefined> {
    if (this.#table !== undefined) return this.#table;
    const columns = await this.#ask(TABLE_QUERY, [escapeIdentifier(this.#tableName)], true);
    this.#table = UserTable.of(this.#tableName, columns as unknown as TableColumn[]);
    return this.#table;
  }

  async #granted(table: UserTable, id: string, superuser: boolean, onPrimary: boolean): Promise<readonly string[]> {
    const asked = [...this.#options.permissions()];
    if (asked.length === 0 || superuser) return asked;
    const own = escapeIdentifier(`${this.#model.split('.')[1]}_id`);
    const query = `
      SELECT c.app_label || '.' || p.codename AS name
      FROM auth_permission p JOIN django_content_type c ON c.id = p.content_type_id
      WHERE c.app_label || '.' || p.codename = ANY ($2::text[]) AND (
        p.id IN (SELECT permission_id FROM ${escapeIdentifier(`${this.#tableName}_user_permissions`)}
                 WHERE ${own} = $1::${table.keyType})
        OR p.id IN (SELECT g.permission_id FROM auth_group_permissions g
                    JOIN ${escapeIdentifier(`${this.#tableName}_groups`)} u ON u.group_id = g.group_id
                    WHERE u.${own} = $1::${table.keyType}))`;
    const names = new Set((await this.#ask(query, [id, asked], onPrimary)).map(({ name }) => name));
    return asked.filter((name) => names.has(name));
  }

  /** undefined: the user model has none. */
  async #groups(table: UserTable, id: string, onPrimary: boolean): Promise<readonly string[] | undefined> {
    if (!this.#hasGroups) return undefined;
    const query = `
      SELECT g.name FROM auth_group g JOIN ${escapeIdentifier(`${this.#tableName}_groups`)} u ON u.group_id = g.id
      WHERE u.${escapeIdentifier(`${this.#model.split('.')[1]}_id`)} = $1::${table.keyType} ORDER BY g.name LIMIT 100`;
    try {
      return (await this.#ask(query, [id], onPrimary)).map(({ name }) => String(name));
    } catch (error) {
      const { code } = error as { readonly code?: unknown };
      if (code !== NO_TABLE && code !== NO_COLUMN) throw error;
      this.#hasGroups = false;
      return undefined;
    }
  }

  async #ask(text: string, values: readonly unknown[], onPrimary: boolean): Promise<readonly Row[]> {
    const { pool, replica } = this.#options;
    const query = { text, values: [...values], query_timeout: QUERY_TIMEOUT };
    if (!onPrimary && replica !== undefined) {
      try {
        return (await replica.query<Row>(query)).rows;
      } catch (error) {
        if (isImpossibleKey(error)) throw error;
        this.#say('the replica cannot be asked; the primary is');
      }
    }
    return (await pool.query<Row>(query)).rows;
  }

  unavailable(cause: string, message: string): AuthResult {
    this.#say(message);
    return { kind: 'unavailable', cause };
  }

  /** Once each. */
  #say(message: string): void {
    if (this.#said.has(message)) return;
    this.#said.add(message);
    this.#options.logger.warn({ source: 'django-db' }, `${message} (said once)`);
  }
}

/** Whether the text is no primary key of the table's type: nobody has it, on any server. */
function isImpossibleKey(error: unknown): boolean {
  const { code } = error as { readonly code?: unknown };
  return code === INVALID_TEXT || code === OUT_OF_RANGE;
}
