import { readFile } from 'node:fs/promises';
import pg from 'pg';

const FOLDER = new URL('../../python/src/bridgehead/django/sql/', import.meta.url);

export const installOutbox = (on: pg.Client | pg.Pool): Promise<unknown> => runFile(on, 'outbox.sql');
export const removeOutbox = (on: pg.Client | pg.Pool): Promise<unknown> => runFile(on, 'outbox_remove.sql');

async function runFile(on: pg.Client | pg.Pool, name: string): Promise<unknown> {
  return on.query(await readFile(new URL(name, FOLDER), 'utf8'));
}

/** A connection that may break without ending the process. */
export async function connectTo(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}
