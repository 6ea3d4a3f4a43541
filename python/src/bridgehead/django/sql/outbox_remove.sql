-- Takes away all that outbox.sql and bridgehead_track() made in the current schema, with the changes that nobody has read.
DO $remove$
BEGIN
  DROP VIEW IF EXISTS bridgehead_tracked;
  -- With the triggers of every tracked table.
  DROP FUNCTION IF EXISTS bridgehead_record() CASCADE;
  DROP FUNCTION IF EXISTS bridgehead_track(regclass, text);
  DROP FUNCTION IF EXISTS bridgehead_untrack(regclass);
  DROP TABLE IF EXISTS bridgehead_change, bridgehead_cursor, bridgehead_trimmed;
  DROP FUNCTION IF EXISTS bridgehead_wake();
END
$remove$;
