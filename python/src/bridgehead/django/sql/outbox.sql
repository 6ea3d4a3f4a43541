-- Bridgehead's outbox for PostgreSQL 13 and later (docs/PROTOCOL.md, "Changes"): what a transaction changes is written down in the
-- same transaction, so that nothing is told that was rolled back, and nothing is missed. One statement, in the current schema; running
-- it again brings everything up to date.
DO $install$
DECLARE
  before text := current_setting('search_path');
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('bridgehead_change', 0));
  -- Functions keep this path, so that no table of another schema can stand in the way of theirs.
  PERFORM set_config('search_path', format('%I, pg_temp', current_schema()), true);

  -- action gap: changes of the model (of all, if it is empty) may be missing; push: pk is a message with a push. tags: a list of texts, or null.
  CREATE TABLE IF NOT EXISTS bridgehead_change (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id text NOT NULL DEFAULT gen_random_uuid()::text,
    model text NOT NULL,
    action text NOT NULL CHECK (action IN ('created', 'updated', 'deleted', 'gap', 'push')),
    pk text NOT NULL,
    tags jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
  );
  CREATE INDEX IF NOT EXISTS bridgehead_change_tx ON bridgehead_change (tx);

  -- Up to which snapshot the outbox was relayed for a deployment, and by whom.
  CREATE TABLE IF NOT EXISTS bridgehead_cursor (
    name text PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    holder text NOT NULL,
    until timestamptz NOT NULL
  );

  -- What was trimmed: of transactions up to this one, and only rows that this snapshot saw. A reader whose own snapshot is older, and
  -- that waits for such a transaction, may have missed something.
  CREATE TABLE IF NOT EXISTS bridgehead_trimmed (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    upto xid8 NOT NULL,
    seen pg_snapshot NOT NULL
  );
  INSERT INTO bridgehead_trimmed (upto, seen) VALUES ('0', '1:1:') ON CONFLICT DO NOTHING;

  -- A wake-up without payload, once for each transaction: what changed is read from the table.
  CREATE OR REPLACE FUNCTION bridgehead_wake() RETURNS trigger LANGUAGE plpgsql AS $body$
  BEGIN
    IF EXISTS (SELECT FROM bridgehead_new) THEN
      PERFORM pg_notify('bridgehead_changes', '');
    END IF;
    RETURN NULL;
  END
  $body$;
  DROP TRIGGER IF EXISTS bridgehead_wake ON bridgehead_change;
  CREATE TRIGGER bridgehead_wake AFTER INSERT ON bridgehead_change
    REFERENCING NEW TABLE AS bridgehead_new FOR EACH STATEMENT EXECUTE FUNCTION bridgehead_wake();

  -- Arguments: the model's label, the primary key's column. It runs as its owner: whoever may write to a table need not know of the outbox.
  CREATE OR REPLACE FUNCTION bridgehead_record() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $body$
  DECLARE
    model text := TG_ARGV[0];
    key text := quote_ident(TG_ARGV[1]);
  BEGIN
    CASE TG_OP
      WHEN 'INSERT' THEN
        EXECUTE format(
          $q$INSERT INTO bridgehead_change (model, action, pk) SELECT $1, 'created', %1$s::text FROM bridgehead_new$q$, key
        ) USING model;
      WHEN 'UPDATE' THEN
        -- A new primary key is another row: the old one is deleted, the new one created.
        EXECUTE format(
          $q$INSERT INTO bridgehead_change (model, action, pk)
             SELECT $1,
                    CASE WHEN n.k IS NULL THEN 'deleted' WHEN o.k IS NULL THEN 'created' ELSE 'updated' END,
                    coalesce(n.k, o.k)::text
             FROM (SELECT %1$s AS k FROM bridgehead_old) o
             FULL JOIN (SELECT %1$s AS k FROM bridgehead_new) n ON o.k = n.k
             ORDER BY n.k IS NULL DESC$q$, key
        ) USING model;
      WHEN 'DELETE' THEN
        EXECUTE format(
          $q$INSERT INTO bridgehead_change (model, action, pk) SELECT $1, 'deleted', %1$s::text FROM bridgehead_old$q$, key
        ) USING model;
      WHEN 'TRUNCATE' THEN
        INSERT INTO bridgehead_change (model, action, pk) VALUES (model, 'gap', '');
    END CASE;
    RETURN NULL;
  END
  $body$;

  -- Else whoever may make a table could write into the outbox.
  REVOKE ALL ON FUNCTION bridgehead_record() FROM PUBLIC;

  -- Begins to record a table's changes, by whomever they are made.
  CREATE OR REPLACE FUNCTION bridgehead_track(target regclass, model text) RETURNS void LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $body$
  DECLARE
    keys text[];
    event text;
  BEGIN
    SELECT array_agg(a.attname::text) INTO keys
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = target AND i.indisprimary;
    IF coalesce(cardinality(keys), 0) <> 1 THEN
      RAISE EXCEPTION 'Bridgehead cannot track %: its primary key has % columns', target, coalesce(cardinality(keys), 0)
        USING ERRCODE = 'feature_not_supported', HINT = 'Only tables whose primary key is one column can be live.';
    END IF;
    PERFORM bridgehead_untrack(target);
    FOREACH event IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'] LOOP
      EXECUTE format(
        'CREATE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION bridgehead_record(%L, %L)',
        'bridgehead_' || lower(event), event, target,
        CASE event
          WHEN 'INSERT' THEN 'REFERENCING NEW TABLE AS bridgehead_new'
          WHEN 'UPDATE' THEN 'REFERENCING OLD TABLE AS bridgehead_old NEW TABLE AS bridgehead_new'
          WHEN 'DELETE' THEN 'REFERENCING OLD TABLE AS bridgehead_old'
          ELSE ''
        END,
        lower(model), keys[1]
      );
    END LOOP;
  END
  $body$;

  -- Ends it. Harmless where the table is not tracked.
  CREATE OR REPLACE FUNCTION bridgehead_untrack(target regclass) RETURNS void LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $body$
  DECLARE
    event text;
  BEGIN
    FOREACH event IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
      EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', 'bridgehead_' || event, target);
    END LOOP;
  END
  $body$;

  -- Tables whose changes are recorded. enabled: O always, D never, R and A by session_replication_role.
  CREATE OR REPLACE VIEW bridgehead_tracked AS
    SELECT t.tgrelid::regclass AS target,
           convert_from(substring(t.tgargs FROM 1 FOR position('\x00'::bytea IN t.tgargs) - 1), 'UTF8') AS model,
           t.tgenabled AS enabled
    FROM pg_trigger t
    WHERE t.tgfoid = 'bridgehead_record'::regproc AND t.tgname = 'bridgehead_insert' AND NOT t.tgisinternal;

  PERFORM set_config('search_path', before, true);
END
$install$;
