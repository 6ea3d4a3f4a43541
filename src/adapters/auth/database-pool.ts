import { Pool } from 'pg';
import type { Logger } from '../../ports/logger.ts';

/** The sidecar caches: a few connections are enough. */
const MAX_CONNECTIONS = 5;
/** To get one, and to keep an idle one. Milliseconds. */
const CONNECT_TIMEOUT = 1_000;
const IDLE_TIMEOUT = 30_000;

/** Connections for reading sessions and users, also through PgBouncer: no settings of a connection are needed. */
export function databasePool(connectionString: string, logger: Logger): Pool {
  const pool = new Pool({
    connectionString,
    application_name: 'bridgehead',
    max: MAX_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT,
    idleTimeoutMillis: IDLE_TIMEOUT,
    keepAlive: true,
    allowExitOnIdle: true,
  });
  // An idle connection that breaks is replaced when the next query comes.
  pool.on('error', (error) => logger.debug({ cause: error.name }, 'an idle database connection was lost'));
  return pool;
}
