import type { Client, Pool } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { databasePool } from '../../src/adapters/auth/database-pool.ts';
import { memoryBus } from '../../src/adapters/bus/memory-bus.ts';
import { currentSnapshot, readOutbox, trimOutbox, writePush, type OutboxItem } from '../../src/adapters/bus/outbox.ts';
import { outboxRelay, type OutboxRelay } from '../../src/adapters/bus/outbox-relay.ts';
import { postgresBus } from '../../src/adapters/bus/postgres-bus.ts';
import { BusUnavailableError, type ChangeBus } from '../../src/ports/change-bus.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger, type Logger } from '../../src/ports/logger.ts';
import { startPgBouncer, type PgBouncer } from '../../tools/services/pgbouncer.ts';
import { startPostgres, type Postgres } from '../../tools/services/postgres.ts';
import { eventually } from '../support/eventually.ts';
import { connectTo, installOutbox, removeOutbox } from '../support/outbox.ts';
import { change, Heard, push, startedBus } from './change-bus.ts';

const parts = { clock: systemClock, logger: silentLogger };
const closing: (() => Promise<unknown> | void)[] = [];
let databases = 0;
let postgres: Postgres;
let pooler: PgBouncer;
/** Of this test alone. */
let url: string;
let admin: Client;

beforeAll(async () => {
  postgres = await startPostgres({ settings: { synchronous_commit: 'on' } });
  pooler = await startPgBouncer(postgres.port);
});
afterAll(async () => {
  await pooler.stop();
  await postgres.stop();
});
beforeEach(async () => {
  url = await postgres.createDatabase(`d${++databases}`);
  admin = await connectTo(url);
  closing.push(() => admin.end());
  await installOutbox(admin);
});
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

function pool(at = url): Pool {
  const made = databasePool(at, silentLogger);
  closing.push(() => made.end());
  return made;
}

function bus(options: { url?: string; listenUrl?: string; logger?: Logger; name?: string } = {}): ChangeBus {
  const { listenUrl = url, logger = silentLogger, name = 'shop' } = options;
  const made = postgresBus({ ...parts, logger, pool: pool(options.url), listenUrl, name });
  closing.push(() => made.close());
  return made;
}

const sql = (text: string): Promise<unknown> => admin.query(text);
const brief = (heard: Heard): string[] =>
  heard.all.map((entry) => ('id' in entry ? `${entry.action} ${String(entry.pk)}` : `gap ${entry.model ?? 'all'}`));

async function tracked(): Promise<void> {
  await sql('CREATE TABLE shop_product (id bigint PRIMARY KEY, name text, data json)');
  await sql("SELECT bridgehead_track('shop_product', 'shop.Product')");
}

describe('the outbox as a bus', () => {
  it('loses nothing that began earlier and commits later', async () => {
    const { heard } = await startedBus(bus());
    const [early, late] = [await connectTo(url), await connectTo(url)];
    closing.push(
      () => early.end(),
      () => late.end(),
    );
    const insert = (pk: string) =>
      `INSERT INTO bridgehead_change (model, action, pk) VALUES ('a.b', 'updated', '${pk}')`;
    await early.query('BEGIN');
    await early.query(insert('early'));
    await late.query(insert('late'));
    await eventually(() => heard.pks).toEqual(['late']);
    await late.query(insert('later'));
    await eventually(() => heard.pks).toEqual(['late', 'later']);
    await early.query('COMMIT');
    await eventually(() => heard.pks).toEqual(['late', 'later', 'early']);
    expect(heard.gaps).toEqual([]);
  });

  it('tells nothing that was rolled back, also to a savepoint', async () => {
    const { heard } = await startedBus(bus());
    await tracked();
    await sql("BEGIN; INSERT INTO shop_product VALUES (1, 'gone'); ROLLBACK");
    await sql('BEGIN');
    await sql("INSERT INTO shop_product VALUES (2, 'kept')");
    await sql("SAVEPOINT here; INSERT INTO shop_product VALUES (3, 'gone'); ROLLBACK TO here");
    await sql("INSERT INTO shop_product VALUES (4, 'kept')");
    await sql('COMMIT');
    await sql("INSERT INTO shop_product VALUES (5, 'last')");
    await eventually(() => brief(heard)).toEqual(['created 2', 'created 4', 'created 5']);
  });

  it('keeps the order of one row over transactions that wait for each other', async () => {
    const { heard } = await startedBus(bus());
    await tracked();
    await sql("INSERT INTO shop_product VALUES (1, 'x')");
    const [one, two] = [await connectTo(url), await connectTo(url)];
    closing.push(
      () => one.end(),
      () => two.end(),
    );
    // The second has the older number, and its change is the later one.
    await two.query('BEGIN; SELECT pg_current_xact_id()');
    await one.query('BEGIN; UPDATE shop_product SET name = $$y$$ WHERE id = 1');
    const waits = two.query('DELETE FROM shop_product WHERE id = 1');
    await one.query('COMMIT');
    await waits;
    await two.query('COMMIT');
    await eventually(() => brief(heard)).toEqual(['created 1', 'updated 1', 'deleted 1']);
  });

  it('tracks a table whose primary key holds other columns as well, without being made of them', async () => {
    const { heard } = await startedBus(bus());
    await sql('CREATE TABLE shop_product (id bigint, name text, PRIMARY KEY (id) INCLUDE (name))');
    await sql("SELECT bridgehead_track('shop_product', 'shop.Product')");
    await sql("INSERT INTO shop_product VALUES (7, 'x')");
    await eventually(() => brief(heard)).toEqual(['created 7']);
  });

  it('sees each row of one statement, however many', async () => {
    const { heard } = await startedBus(bus());
    await tracked();
    await sql('INSERT INTO shop_product SELECT n, n::text FROM generate_series(1, 3500) n');
    await eventually(() => heard.list.length).toBe(3_500);
    expect(heard.pks).toEqual(Array.from({ length: 3_500 }, (_, n) => n + 1));
    await sql("UPDATE shop_product SET name = 'x' WHERE id <= 1500");
    await sql('DELETE FROM shop_product WHERE id > 3000');
    await eventually(() => heard.list.length).toBe(5_500);
    expect(heard.list.slice(3_500).filter(({ action }) => action === 'updated')).toHaveLength(1_500);
    expect(heard.list.slice(5_000).every(({ action, pk }) => action === 'deleted' && Number(pk) > 3_000)).toBe(true);
  });

  it('tells a new primary key as one row deleted and one created', async () => {
    const { heard } = await startedBus(bus());
    await tracked();
    await sql("INSERT INTO shop_product VALUES (1, 'a'), (9007199254740993, 'b')");
    await sql('UPDATE shop_product SET id = id + 1 WHERE id = 1');
    await eventually(() => brief(heard)).toEqual(['created 1', 'created 9007199254740993', 'deleted 1', 'created 2']);
    expect(heard.list.map(({ pk }) => typeof pk)).toEqual(['number', 'string', 'number', 'number']);
    expect(heard.list[0]?.model).toBe('shop.product');
  });

  it('sees COPY, ON CONFLICT, MERGE and what a foreign key deletes, and a TRUNCATE as a gap of the model', async () => {
    const { heard } = await startedBus(bus());
    await tracked();
    await sql(
      'CREATE TABLE "Odd ""names" ("the ""key" uuid PRIMARY KEY, of bigint REFERENCES shop_product ON DELETE CASCADE)',
    );
    await sql(`SELECT bridgehead_track('"Odd ""names"', 'shop.odd')`);
    await sql("INSERT INTO shop_product VALUES (1, 'a')");
    await sql("INSERT INTO shop_product VALUES (1, 'b'), (2, 'c') ON CONFLICT (id) DO UPDATE SET name = excluded.name");
    await sql(`INSERT INTO "Odd ""names" VALUES ('00000000-0000-4000-8000-000000000001', 2)`);
    await sql(`MERGE INTO shop_product p USING (VALUES (1), (3)) v(id) ON p.id = v.id
               WHEN MATCHED THEN UPDATE SET name = 'm' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'n')`);
    await sql('DELETE FROM shop_product WHERE id = 2');
    await sql('UPDATE shop_product SET name = name WHERE id = 99');
    await sql('TRUNCATE shop_product CASCADE');
    await eventually(() => heard.gaps).toHaveLength(2);
    const odd = '00000000-0000-4000-8000-000000000001';
    expect(brief(heard).toSorted()).toEqual(
      [
        'created 1',
        'created 2',
        'updated 1',
        `created ${odd}`,
        'created 3',
        'updated 1',
        'deleted 2',
        `deleted ${odd}`,
        'gap shop.product',
        'gap shop.odd',
      ].toSorted(),
    );
  });

  it('sees what somebody writes who may not read the outbox', async () => {
    const { heard } = await startedBus(bus());
    await tracked();
    await sql(`CREATE ROLE writer${databases} LOGIN; GRANT INSERT ON shop_product TO writer${databases}`);
    const writer = await connectTo(url.replace('shop@', `writer${databases}@`));
    closing.push(() => writer.end());
    await writer.query('CREATE TEMP TABLE bridgehead_change (model text, action text, pk text)');
    await writer.query("INSERT INTO shop_product VALUES (1, 'a')");
    await expect(writer.query('SELECT * FROM public.bridgehead_change')).rejects.toThrow('permission denied');
    await eventually(() => brief(heard)).toEqual(['created 1']);
  });

  it('refuses tables whose primary key is not one column, and says what it tracks', async () => {
    await sql('CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b)); CREATE TABLE bare (a int)');
    await expect(sql("SELECT bridgehead_track('pair', 'a.pair')")).rejects.toThrow(
      /pair: its primary key has 2 columns/,
    );
    await expect(sql("SELECT bridgehead_track('bare', 'a.bare')")).rejects.toThrow(/has 0 columns/);
    await tracked();
    // Twice, like the schema itself: harmless.
    await sql("SELECT bridgehead_track('shop_product', 'shop.product')");
    await installOutbox(admin);
    const { rows } = await admin.query('SELECT target::text, model, enabled FROM bridgehead_tracked');
    expect(rows).toEqual([{ target: 'shop_product', model: 'shop.product', enabled: 'O' }]);
    await sql("SELECT bridgehead_untrack('shop_product'); SELECT bridgehead_untrack('bare')");
    await sql("INSERT INTO shop_product VALUES (1, 'a')");
    expect((await admin.query('SELECT * FROM bridgehead_change')).rows).toEqual([]);
  });

  it('is taken away without a trace', async () => {
    await tracked();
    await removeOutbox(admin);
    await sql("INSERT INTO shop_product VALUES (1, 'a'); UPDATE shop_product SET id = 2; TRUNCATE shop_product");
    const left = `SELECT relname AS name FROM pg_class WHERE relname LIKE 'bridgehead%'
                  UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'bridgehead%'`;
    expect((await admin.query(left)).rows).toEqual([]);
    await removeOutbox(admin);
  });

  it('stays in its own schema, whatever the search path of the writer', async () => {
    await sql('CREATE SCHEMA apart; SET search_path TO apart');
    await installOutbox(admin);
    await sql("CREATE TABLE note (id int PRIMARY KEY); SELECT bridgehead_track('note', 'apart.note')");
    await sql('SET search_path TO public; INSERT INTO apart.note VALUES (5)');
    expect((await admin.query('SELECT model, pk FROM apart.bridgehead_change')).rows).toEqual([
      { model: 'apart.note', pk: '5' },
    ]);
    expect((await admin.query('SELECT * FROM public.bridgehead_change')).rows).toEqual([]);
  });

  it('reads on after a crash of the server: nothing is missed, and a gap told, for it may have lost what was shown', async () => {
    const one = await startedBus(bus());
    await one.bus.publish([change(1)]);
    await eventually(() => one.heard.pks).toEqual([1]);
    await postgres.crash();
    await postgres.restart();
    const next = change(2);
    const published = (): Promise<boolean> =>
      one.bus.publish([next]).then(
        () => true,
        () => false,
      );
    await eventually(published).toBe(true);
    await eventually(() => one.heard.pks).toEqual([1, 2]);
    await eventually(() => one.heard.gaps).toContainEqual({ reason: 'reconnect' });
    admin = await connectTo(url);
  });

  it('brings changes by time where LISTEN brings nothing, and says what to set', async () => {
    const said: string[] = [];
    const logger = { ...silentLogger, warn: (_: object, message: string) => said.push(message) };
    const pooled = pooler.urlOf(url);
    const one = await startedBus(bus({ url: pooled, listenUrl: pooled, logger }));
    await one.bus.publish([change(1)]);
    await eventually(() => one.heard.pks).toEqual([1]);
    await eventually(() => said.join('\n')).toContain('DATABASE_LISTEN_URL');
  });

  it('says how to install the outbox, and is up by itself once it is there', async () => {
    await removeOutbox(admin);
    const late = bus();
    const heard = new Heard();
    late.subscribe(heard);
    await late.start(100);
    await eventually(() => late.detail).toContain('bridgehead_triggers install');
    expect(late.state).toBe('starting');
    const refusal = await late.publish([change(1)]).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(BusUnavailableError);
    expect((refusal as Error).message).toContain('bridgehead_triggers install');
    await installOutbox(admin);
    await eventually(() => late.state).toBe('up');
  });

  it('tells a gap instead of a row that is no change', async () => {
    const { heard } = await startedBus(bus());
    await sql(`INSERT INTO bridgehead_change (model, action, pk)
               VALUES ('a.b', 'updated', '1'), ('a.b', 'updated', repeat('x', 300)), ('a.b', 'updated', '2')`);
    await eventually(() => brief(heard)).toEqual(['updated 1', 'gap a.b', 'updated 2']);
  });
});

describe('two deployments on one database', () => {
  it('share the changes; a push reaches its own alone, and one that names nobody everybody', async () => {
    const [shop, staging] = [await startedBus(bus()), await startedBus(bus({ name: 'staging' }))];
    const [own, foreign] = [
      push({ kind: 'all' }, { kind: 'toast', text: 'Hello', level: 'info' }),
      push({ kind: 'all' }, { kind: 'toast', text: 'Staging', level: 'info' }),
    ];
    await shop.bus.publishPush(own);
    await staging.bus.publishPush(foreign);
    await sql(`INSERT INTO bridgehead_change (id, model, action, pk)
               VALUES ('by-hand', '', 'push', '{"push":{"to":{"all":true},"toast":"By hand"}}')`);
    await shop.bus.publish([change(1)]);
    for (const { heard } of [shop, staging]) await eventually(() => heard.pks).toEqual([1]);
    expect(shop.heard.pushes.map(({ id }) => id)).toEqual([own.id, 'by-hand']);
    expect(staging.heard.pushes.map(({ id }) => id)).toEqual([foreign.id, 'by-hand']);
  });
});

describe('trimming the outbox', () => {
  const insert = (pk: number) =>
    sql(`INSERT INTO bridgehead_change (model, action, pk) VALUES ('a.b', 'updated', '${pk}')`);
  const read = async (from: Pool, since: string): Promise<OutboxItem[]> => {
    const items: OutboxItem[] = [];
    await readOutbox(from, since, (item) => void items.push(item));
    return items;
  };

  it('takes away what is old and was seen, and tells a gap only to whoever missed it', async () => {
    const own = pool();
    const before = await currentSnapshot(own);
    for (let pk = 1; pk <= 20; pk++) await insert(pk);
    const after = await currentSnapshot(own);
    expect(await trimOutbox(own, 60_000, after)).toBe(0);
    expect(await trimOutbox(own, 0, before)).toBe(0);
    expect(await trimOutbox(own, 0, after)).toBe(20);
    await insert(21);
    expect(await read(own, before)).toMatchObject([{ kind: 'gap', gap: { reason: 'trimmed' } }, { kind: 'changes' }]);
    expect(await read(own, after)).toMatchObject([{ kind: 'changes', changes: [{ pk: 21 }] }]);
  });

  it('tells no gap over and over while a long transaction is open', async () => {
    const own = pool();
    const long = await connectTo(url);
    closing.push(() => long.end());
    await long.query('BEGIN; SELECT pg_current_xact_id()');
    await insert(1);
    const seen = await currentSnapshot(own);
    await insert(2);
    const after = await currentSnapshot(own);
    expect(await trimOutbox(own, 0, seen)).toBe(1);
    expect(await read(own, after)).toEqual([]);
  });

  it('is done by one of many at a time: the others pass by at once', async () => {
    const own = pool();
    await insert(1);
    const seen = await currentSnapshot(own);
    const other = await connectTo(url);
    closing.push(() => other.end());
    await other.query('BEGIN; SELECT FROM bridgehead_trimmed FOR UPDATE');
    expect(await trimOutbox(own, 0, seen)).toBe(0);
    await other.query('ROLLBACK');
    expect(await trimOutbox(own, 0, seen)).toBe(1);
  });

  it('takes away all of it, however many try', async () => {
    const own = pool();
    await sql(
      "INSERT INTO bridgehead_change (model, action, pk) SELECT 'a.b', 'updated', n::text FROM generate_series(1, 12000) n",
    );
    const seen = await currentSnapshot(own);
    const counts = await Promise.all([1, 2, 3].map(() => trimOutbox(own, 0, seen)));
    expect(counts.reduce((sum, count) => sum + count, 0) + (await trimOutbox(own, 0, seen))).toBe(12_000);
    expect(await read(own, seen)).toEqual([]);
  });

  it('notices a server that went back in time', async () => {
    expect(await read(pool(), '99999999:99999999:')).toMatchObject([{ kind: 'gap' }]);
  });
});

describe('the relay of the outbox', () => {
  /** A bus that many processes share, whose service can be away. */
  function sharedBus(): { bus: ChangeBus; heard: Heard; published: string[]; isAway: boolean } {
    const inner = memoryBus(parts);
    const heard = new Heard();
    inner.subscribe(heard);
    const shared = { bus: inner, heard, published: [] as string[], isAway: false };
    shared.bus = {
      ...inner,
      publish: async (changes) => {
        if (shared.isAway) throw new BusUnavailableError('away');
        shared.published.push(...changes.map(({ id }) => id));
        await inner.publish(changes);
      },
      publishGap: (gap) => inner.publishGap(gap),
    };
    return shared;
  }

  function relay(
    to: ChangeBus,
    instance: string,
    options: { name?: string; elected?: boolean; url?: string } = {},
  ): OutboxRelay {
    const { name = 'shop', elected = true } = options;
    const made = outboxRelay({
      ...parts,
      pool: pool(options.url),
      listenUrl: url,
      bus: to,
      name,
      instance,
      elected,
      required: true,
    });
    closing.push(() => made.close());
    return made;
  }

  /** One that relays, and the bus that it brings the outbox to. */
  async function relaying(): Promise<{ shared: ReturnType<typeof sharedBus>; one: OutboxRelay }> {
    const shared = sharedBus();
    const one = relay(shared.bus, 'one');
    await eventually(() => one.state).toBe('relaying');
    return { shared, one };
  }

  const insert = (pk: number) =>
    sql(`INSERT INTO bridgehead_change (model, action, pk) VALUES ('a.b', 'updated', '${pk}')`);

  it('is done by one sidecar, each row once, and goes on in another when that one leaves', async () => {
    const { shared, one } = await relaying();
    const two = relay(shared.bus, 'two', { url: pooler.urlOf(url) });
    await eventually(() => two.state).toBe('standby');
    for (let pk = 1; pk <= 5; pk++) await insert(pk);
    await eventually(() => shared.heard.pks).toEqual([1, 2, 3, 4, 5]);
    await one.close();
    await insert(6);
    await eventually(() => two.state).toBe('relaying');
    await insert(7);
    await eventually(() => shared.heard.pks).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(shared.published).toHaveLength(7);
    expect(shared.heard.gaps).toEqual([]);
  });

  it('brings pushes, and passes over a row that is none', async () => {
    const { shared } = await relaying();
    const hello = push({ kind: 'all' }, { kind: 'toast', text: 'Hello', level: 'info' });
    await writePush(pool(), hello, 'shop');
    await writePush(pool(), push({ kind: 'all' }, { kind: 'toast', text: 'Elsewhere', level: 'info' }), 'staging');
    await sql(`INSERT INTO bridgehead_change (model, action, pk) VALUES ('', 'push', '{"push":{"to":{}}}')`);
    await insert(1);
    await eventually(() => shared.heard.pks).toEqual([1]);
    expect(shared.heard.pushes).toEqual([hello]);
    expect(shared.heard.gaps).toEqual([]);
  });

  it('goes on in another when the first dies without a word', async () => {
    const { shared, one } = await relaying();
    await insert(1);
    await eventually(() => shared.heard.pks).toEqual([1]);
    await one.close();
    // As if it held its lease still, and had told a row without saying so.
    await sql("UPDATE bridgehead_cursor SET until = now() + interval '4 seconds'");
    await insert(2);
    const two = relay(shared.bus, 'two');
    await eventually(() => two.state).toBe('standby');
    await eventually(() => two.state).toBe('relaying');
    await eventually(() => shared.heard.pks).toEqual([1, 2]);
  });

  it('tells a gap where the server was away: it may have lost what was told', async () => {
    const { shared } = await relaying();
    await insert(1);
    await eventually(() => shared.heard.pks).toEqual([1]);
    expect(shared.heard.gaps).toEqual([]);
    await postgres.crash();
    await postgres.restart();
    await eventually(() => shared.heard.gaps.length).toBeGreaterThan(0);
    admin = await connectTo(url);
    await insert(2);
    await eventually(() => shared.heard.pks).toEqual([1, 2]);
  });

  it('waits for a bus that is away, and then brings everything', async () => {
    const { shared, one } = await relaying();
    shared.isAway = true;
    await insert(1);
    await eventually(() => one.state).toBe('down');
    await insert(2);
    shared.isAway = false;
    await eventually(() => shared.heard.pks).toEqual([1, 2]);
    expect(shared.heard.gaps).toEqual([]);
  });

  /** Holds up what is published until told to go on. */
  function held(shared: { bus: ChangeBus }): { waits: () => boolean; go: () => void } {
    const { bus: inner } = shared;
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    let waits = false;
    shared.bus = {
      ...inner,
      publish: async (changes) => {
        waits = true;
        await gate;
        await inner.publish(changes);
      },
    };
    return { waits: () => waits, go };
  }
  const backlog = (rows: number) =>
    sql(
      `INSERT INTO bridgehead_change (model, action, pk) SELECT 'a.b', 'updated', n::text FROM generate_series(1, ${rows}) n`,
    );
  const lapsed = async (at: string): Promise<boolean> =>
    (await admin.query<{ lapsed: boolean }>('SELECT now() > $1::timestamptz AS lapsed', [at])).rows[0]?.lapsed === true;

  it('is kept by one sidecar over a backlog that takes longer than its lease, each row once', async () => {
    const shared = sharedBus();
    const gate = held(shared);
    const one = relay(shared.bus, 'one');
    await eventually(() => one.state).toBe('relaying');
    await backlog(5_000);
    await eventually(gate.waits).toBe(true);
    const two = relay(shared.bus, 'two');
    await eventually(() => two.state).toBe('standby');
    const { rows } = await admin.query<{ until: string }>('SELECT until::text FROM bridgehead_cursor');
    await eventually(() => lapsed(rows[0]?.until ?? '')).toBe(true);
    expect([one.state, two.state]).toEqual(['relaying', 'standby']);
    gate.go();
    await eventually(() => new Set(shared.published).size).toBe(5_000);
    // Its place has moved: what comes next is told alone.
    await insert(6_000);
    await eventually(() => shared.heard.pks.at(-1)).toBe(6_000);
    expect(shared.published).toHaveLength(5_001);
    expect([one.state, two.state]).toEqual(['relaying', 'standby']);
  });

  it('ends amid a backlog where the lease is lost, and says so', async () => {
    const shared = sharedBus();
    const gate = held(shared);
    const one = relay(shared.bus, 'one');
    await eventually(() => one.state).toBe('relaying');
    await backlog(5_000);
    await eventually(gate.waits).toBe(true);
    await sql("UPDATE bridgehead_cursor SET holder = 'two', until = now() + interval '1 hour'");
    // It finds out when it would renew, every two seconds or so.
    const { rows } = await admin.query<{ soon: string }>("SELECT (now() + interval '4 seconds')::text AS soon");
    await eventually(() => lapsed(rows[0]?.soon ?? '')).toBe(true);
    gate.go();
    await eventually(() => one.state).toBe('standby');
    expect(shared.published).toHaveLength(250);
  });

  it('ends at once amid a backlog when it is closed, and another one goes on', async () => {
    const shared = sharedBus();
    const gate = held(shared);
    const one = relay(shared.bus, 'one');
    await eventually(() => one.state).toBe('relaying');
    await backlog(5_000);
    await eventually(gate.waits).toBe(true);
    const closed = one.close();
    gate.go();
    await closed;
    expect(shared.published).toHaveLength(250);
    const two = relay(shared.bus, 'two');
    await eventually(() => new Set(shared.published).size).toBe(5_000);
    await eventually(() => two.state).toBe('relaying');
  });

  it('brings every deployment everything, and every sidecar where each reads for itself', async () => {
    const [shop, staging, own, other] = [sharedBus(), sharedBus(), sharedBus(), sharedBus()];
    const relays = [
      relay(shop.bus, 'one'),
      relay(staging.bus, 'two', { name: 'staging' }),
      relay(own.bus, 'three', { elected: false }),
      relay(other.bus, 'four', { elected: false }),
    ];
    await eventually(() => relays.map(({ state }) => state)).toEqual(relays.map(() => 'relaying'));
    await insert(1);
    for (const { heard } of [shop, staging, own, other]) await eventually(() => heard.pks).toEqual([1]);
  });

  it('waits for an outbox that is not there yet', async () => {
    await removeOutbox(admin);
    const shared = sharedBus();
    const one = relay(shared.bus, 'one');
    await eventually(() => one.state).toBe('absent');
    await installOutbox(admin);
    await eventually(() => one.state).toBe('relaying');
    await insert(1);
    await eventually(() => shared.heard.pks).toEqual([1]);
  });

  it('tells a gap where the outbox was trimmed beyond its place', async () => {
    const shared = sharedBus();
    const first = relay(shared.bus, 'one');
    await eventually(() => first.state).toBe('relaying');
    await first.close();
    await insert(1);
    const own = pool();
    await trimOutbox(own, 0, await currentSnapshot(own));
    const second = relay(shared.bus, 'two');
    await eventually(() => second.state).toBe('relaying');
    await eventually(() => brief(shared.heard)).toEqual(['gap all']);
  });
});
