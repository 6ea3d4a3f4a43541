import { setTimeout as delay } from 'node:timers/promises';
import type { Pool, PoolClient, QueryConfig } from 'pg';
import { encodePush, pkOf, readBusMessage, type Change, type Gap } from '../../protocol/change.ts';
import type { Push } from '../../protocol/push.ts';

/** Without rows for so long a statement is given up. Milliseconds. */
const QUERY_TIMEOUT = 3_000;
/** Rows that are held at a time: few enough that events hardly wait while they are read. */
const PAGE = 250;
/** Between two of those. Milliseconds. */
const MAX_PAUSE = 50;
/** The action of a row that is a push. */
const PUSH = 'push';
/** `undefined_table`: the outbox is not installed. */
const NO_TABLE = '42P01';

/** Rows of the outbox, in the order in which they were written. */
export type OutboxItem =
  | { readonly kind: 'changes'; readonly changes: Change[] }
  | { readonly kind: 'gap'; readonly gap: Gap }
  /** `deployment`: for this one alone; every deployment of the database reads it. */
  | { readonly kind: 'push'; readonly push: Push; readonly deployment?: string };

interface Row {
  readonly now: string;
  /** What was trimmed had not been seen, or the server went back in time. */
  readonly missed: boolean;
  readonly position: string | null;
  readonly id: string;
  readonly model: string;
  readonly action: string;
  readonly pk: string;
  readonly tags: unknown;
  /** Unix milliseconds. */
  readonly at: string;
}

const COLUMNS = 'position, id, model, action, pk, tags, (extract(epoch FROM at) * 1000)::bigint AS at';
/** Committed since the snapshot $1. An id or a time would not do: transactions commit in another order than they began. */
const SINCE = 'tx >= pg_snapshot_xmin($1::pg_snapshot) AND NOT pg_visible_in_snapshot(tx, $1::pg_snapshot)';
/** Orders snapshots of one server by time: transactions begin, which raises xmax, or end, which leaves fewer under way. */
const age = (snapshot: string): string =>
  `(pg_snapshot_xmax(${snapshot}), -(SELECT count(*) FROM pg_snapshot_xip(${snapshot})))`;
const FACTS = `
  SELECT pg_current_snapshot() AS now,
         (SELECT upto >= pg_snapshot_xmin($1::pg_snapshot) AND ${age('$1::pg_snapshot')} < ${age('seen')} FROM bridgehead_trimmed)
           OR pg_snapshot_xmax($1::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) AS missed`;
/** All in one statement, where they are few: one snapshot, one round trip. */
const FEW = `
  WITH facts AS (${FACTS}), rows AS (SELECT ${COLUMNS} FROM bridgehead_change WHERE ${SINCE} LIMIT ${PAGE + 1})
  SELECT facts.now::text AS now, facts.missed, rows.* FROM facts LEFT JOIN rows ON true ORDER BY rows.position`;

/** The outbox is not there. */
export class NotInstalledError extends Error {
  override readonly name = 'NotInstalledError';

  constructor() {
    super(
      'the table bridgehead_change is missing: run "python manage.py bridgehead_triggers install", or psql with the file outbox.sql of the package',
    );
  }
}

/** Rejects with NotInstalledError where there is no outbox: asked this way, the server's log stays empty. */
export async function requireOutbox(pool: Pool): Promise<void> {
  const { rows } = await ask(pool, "SELECT FROM pg_class WHERE oid = to_regclass('bridgehead_change')", []);
  if (rows.length === 0) throw new NotInstalledError();
}

/** The state of the database now: what is committed from now on comes after it. */
export async function currentSnapshot(pool: Pool): Promise<string> {
  const { rows } = await ask(pool, 'SELECT pg_current_snapshot()::text AS now FROM bridgehead_trimmed', []);
  const [row] = rows as readonly { readonly now: string }[];
  if (row === undefined) throw new Error('bridgehead_trimmed is empty');
  return row.now;
}

/**
 * Gives everything committed since a snapshot to `take`, 250 rows at a time, and returns the snapshot from which to read on. Rejects
 * where the database does or `take` does: then the former snapshot still holds.
 */
export async function readOutbox(
  pool: Pool,
  since: string,
  take: (item: OutboxItem) => Promise<void> | void,
): Promise<{ readonly snapshot: string; readonly count: number }> {
  const rows = (await ask(pool, FEW, [since])).rows as readonly Row[];
  const [first] = rows;
  if (first === undefined) throw new Error('the outbox gave no snapshot');
  if (rows.length > PAGE) return readMany(pool, since, take);
  if (first.missed) await take({ kind: 'gap', gap: { reason: 'trimmed' } });
  const found = rows.filter(({ position }) => position !== null);
  for (const item of itemsOf(found)) await take(item);
  return { snapshot: first.now, count: found.length };
}

/** A cursor in one transaction: all of one snapshot, a page at a time. */
async function readMany(
  pool: Pool,
  since: string,
  take: (item: OutboxItem) => Promise<void> | void,
): Promise<{ readonly snapshot: string; readonly count: number }> {
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await ask(client, 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', []);
    const facts = (await ask(client, `SELECT now::text, missed FROM (${FACTS}) facts`, [since])).rows[0] as
      Row | undefined;
    if (facts?.missed === true) await take({ kind: 'gap', gap: { reason: 'trimmed' } });
    const rows = `SELECT ${COLUMNS} FROM bridgehead_change WHERE ${SINCE} ORDER BY position`;
    await ask(client, `DECLARE bridgehead_rows NO SCROLL CURSOR FOR ${rows}`, [since]);
    let count = 0;
    for (;;) {
      const began = performance.now();
      const page = (await ask(client, `FETCH ${PAGE} FROM bridgehead_rows`, [])).rows as readonly Row[];
      count += page.length;
      for (const item of itemsOf(page)) await take(item);
      if (page.length < PAGE) break;
      // Half of the time is for the events of users, here and in whatever reads what is told.
      await delay(Math.min(MAX_PAUSE, performance.now() - began));
    }
    await ask(client, 'COMMIT', []);
    return { snapshot: facts?.now ?? since, count };
  } catch (error) {
    failure = error instanceof Error ? error : new Error('unknown');
    throw error;
  } finally {
    // Its transaction may be open still: such a connection is of no use to others.
    client.release(failure);
  }
}

function itemsOf(rows: readonly Row[]): OutboxItem[] {
  const items: OutboxItem[] = [];
  for (const row of rows) {
    if (row.action === PUSH) {
      const read = readBusMessage(row.pk, { id: () => row.id, now: Number(row.at) });
      if (read.kind === 'push') items.push(read);
      continue;
    }
    const last = items.at(-1);
    const change = readRow(row);
    // A gap, or a row that is no change, such as one with a huge key: whoever shows the model must look again.
    if (change === undefined) items.push({ kind: 'gap', gap: gapOf(row) });
    else if (last?.kind === 'changes') last.changes.push(change);
    else items.push({ kind: 'changes', changes: [change] });
  }
  return items;
}

function readRow({ id, model, action, pk, tags, at }: Row): Change | undefined {
  const text = JSON.stringify({ id, model, action, pk: pkOf(pk), tags, at: Number(at) });
  const read = readBusMessage(text, { id: () => id, now: Number(at) });
  return read.kind === 'changes' ? read.changes[0] : undefined;
}

function gapOf({ model }: Row): Gap {
  return model === '' ? { reason: 'reported' } : { reason: 'reported', model };
}

const INSERT = `
  INSERT INTO bridgehead_change (id, model, action, pk, tags)
  SELECT id, model, action, pk, tags::jsonb
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS given (id, model, action, pk, tags)`;

/** All or none of them. Rejects where the database does. */
export async function writeOutbox(pool: Pool, changes: readonly Change[]): Promise<void> {
  const column = (read: (change: Change) => string | null): (string | null)[] => changes.map(read);
  await ask(pool, INSERT, [
    column(({ id }) => id),
    column(({ model }) => model),
    column(({ action }) => action),
    column(({ pk }) => String(pk)),
    column(({ tags }) => (tags === undefined ? null : JSON.stringify(tags))),
  ]);
}

export async function writeGap(pool: Pool, { model = '' }: Gap): Promise<void> {
  await ask(pool, "INSERT INTO bridgehead_change (model, action, pk) VALUES ($1, 'gap', '')", [model]);
}

/** A push stands in the place of the key, with the deployment that it is for. */
export async function writePush(pool: Pool, push: Push, deployment: string): Promise<void> {
  const row = [push.id, PUSH, encodePush(push, deployment)];
  await ask(pool, "INSERT INTO bridgehead_change (id, model, action, pk) VALUES ($1, '', $2, $3)", row);
}

/** Rows that one statement of the trimming takes away. */
const TRIM_PAGE = 5_000;

/** One of many does it at a time; the others pass by. */
const TRIM = `
  WITH mine AS (SELECT one FROM bridgehead_trimmed FOR UPDATE SKIP LOCKED), gone AS (
    DELETE FROM bridgehead_change WHERE EXISTS (SELECT FROM mine) AND position IN (
      SELECT position FROM bridgehead_change
      WHERE position < (SELECT min(position) FROM bridgehead_change) + ${TRIM_PAGE}
        AND at < now() - $1 * interval '1 millisecond' AND pg_visible_in_snapshot(tx, $2::pg_snapshot)
    ) RETURNING tx
  ), marked AS (
    UPDATE bridgehead_trimmed
    SET upto = greatest(upto, (SELECT tx FROM gone ORDER BY tx DESC LIMIT 1)),
        seen = CASE WHEN ${age('seen')} < ${age('$2::pg_snapshot')} THEN $2::pg_snapshot ELSE seen END
    WHERE EXISTS (SELECT FROM gone) RETURNING one
  )
  SELECT (SELECT count(*) FROM gone)::int AS count, (SELECT count(*) FROM marked) AS marked`;

/**
 * Takes away rows that are older than `age` milliseconds and that `seen` saw; returns how many. With a snapshot of some time ago every
 * reader has had that time to read a row, however late it was committed.
 */
export async function trimOutbox(pool: Pool, age: number, seen: string): Promise<number> {
  let total = 0;
  for (;;) {
    const [row] = (await ask(pool, TRIM, [age, seen])).rows as readonly { readonly count: number }[];
    const count = row?.count ?? 0;
    total += count;
    if (count === 0) return total;
  }
}

/** Whether the outbox is missing altogether. */
export function isNotInstalled(error: unknown): boolean {
  return error instanceof NotInstalledError || (error as { readonly code?: unknown } | undefined)?.code === NO_TABLE;
}

/** One statement, bounded in time. Rejects where the database does. */
export async function ask(
  on: Pool | PoolClient,
  text: string,
  values: readonly unknown[],
): Promise<{ readonly rows: readonly object[]; readonly rowCount: number | null }> {
  return on.query<Record<string, unknown>>({ text, values: [...values], query_timeout: QUERY_TIMEOUT } as QueryConfig);
}
