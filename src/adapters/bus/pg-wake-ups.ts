import { Client } from 'pg';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import { Backoff } from './backoff.ts';
import { causeOf } from './bounded.ts';

export interface PgWakeUpsOptions {
  /** Of PostgreSQL itself: through a PgBouncer in transaction mode nothing can be listened to. */
  readonly url: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Something may have been committed: also after each new connection. */
  readonly onWakeUp: () => void;
  /** A connection that was listened on is over: the server may have gone. */
  readonly onLost: () => void;
}

const CHANNEL = 'bridgehead_changes';
const CONNECT_TIMEOUT = 2_000;
/** How often an idle connection is asked whether it lives, and how long it may take to say so. Milliseconds. */
const ASK_INTERVAL = 5_000;
const ASK_TIMEOUT = 3_000;
const TRY_INTERVAL = 100;

/**
 * LISTEN on a connection of its own, for ever. It only makes things fast: whoever reads the outbox also does so by time, so that no
 * wake-up that is lost matters.
 */
export class PgWakeUps {
  readonly #options: PgWakeUpsOptions;
  readonly #backoff: Backoff;
  #running: Promise<void> | undefined;
  #client: Client | undefined;
  #isClosed = false;
  #wasHeard = false;
  #said: string | undefined;

  constructor(options: PgWakeUpsOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#backoff.close();
    destroy(this.#client);
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      const cause = await this.#listen();
      if (this.#isClosed) return;
      this.#say(`PostgreSQL cannot be listened to (${cause}): changes come some seconds late; trying on`);
      await this.#backoff.wait();
    }
  }

  /** Resolves when the connection is over, with the cause. */
  async #listen(): Promise<string> {
    const { clock, onLost, onWakeUp } = this.#options;
    const client = this.#connection();
    this.#client = client;
    let asking: Timer | undefined;
    let cause = 'connection lost';
    try {
      const ended = new Promise<void>((resolve) => {
        client.once('end', resolve);
        client.on('error', (error) => {
          cause = causeOf(error);
          resolve();
        });
      });
      this.#wasHeard = false;
      client.on('notification', () => {
        this.#wasHeard = true;
        onWakeUp();
      });
      await client.connect();
      await client.query(`LISTEN ${CHANNEL}`);
      onWakeUp();
      this.#backoff.reset();
      if (await isPooled(client)) await this.#tryOut();
      else this.#say(undefined);
      asking = clock.setInterval(() => void client.query('SELECT 1').catch(() => destroy(client)), ASK_INTERVAL);
      await ended;
      if (!this.#isClosed) onLost();
    } catch (error) {
      cause = causeOf(error);
    }
    asking?.cancel();
    destroy(client);
    return cause;
  }

  #connection(): Client {
    const client = new Client({
      connectionString: this.#options.url,
      application_name: 'bridgehead-listen',
      connectionTimeoutMillis: CONNECT_TIMEOUT,
      query_timeout: ASK_TIMEOUT,
      keepAlive: true,
    });
    client.on('error', () => undefined);
    return client;
  }

  /** A pooler may keep a connection for each client, or not: somebody else calls, and it is heard or not. */
  async #tryOut(): Promise<void> {
    const other = this.#connection();
    try {
      await other.connect();
      await other.query(`SELECT pg_notify('${CHANNEL}', '')`);
    } finally {
      destroy(other);
    }
    for (let tries = 0; tries < 10 && !this.#wasHeard && !this.#isClosed; tries++) {
      await new Promise<void>((resolve) => this.#options.clock.setTimeout(resolve, TRY_INTERVAL));
    }
    if (this.#wasHeard) this.#say(undefined);
    else {
      this.#say(
        'LISTEN brings nothing here, as through a PgBouncer in transaction mode: changes come some seconds late; ' +
          'set DATABASE_LISTEN_URL to an address of PostgreSQL itself',
      );
    }
  }

  /** Each once, until it is over. */
  #say(trouble: string | undefined): void {
    if (trouble === this.#said) return;
    const { logger } = this.#options;
    if (trouble === undefined) logger.info({}, 'PostgreSQL is listened to again');
    else logger.warn({}, trouble);
    this.#said = trouble;
  }
}

/** Whether the server that answers is another one than the one that was connected to. */
async function isPooled(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return rows[0]?.pid !== (client as unknown as { readonly processID: number }).processID;
}

/** `end` waits for a server that may be gone. */
function destroy(client: Client | undefined): void {
  if (client === undefined) return;
  (client as unknown as { readonly connection: { readonly stream: { destroy(): void } } }).connection.stream.destroy();
}
