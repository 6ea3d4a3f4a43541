import { randomUUID } from 'node:crypto';
import { BusUnavailableError } from './ports/change-bus.ts';
import { systemClock } from './ports/clock.ts';
import { silentLogger, type Logger } from './ports/logger.ts';
import {
  ChangeError,
  encodeChanges,
  encodePush,
  readPublished,
  type Change,
  type ChangeAction,
} from './protocol/change.ts';
import { pushBody, PushError, readPush, type Push } from './protocol/push.ts';

/** A change as a program publishes it. */
export interface PublishedChange {
  /** Publishing twice with one id is harmless; default: a new one. */
  readonly id?: string;
  /** `shop.product` */
  readonly model: string;
  readonly action: ChangeAction;
  readonly pk: number | bigint | string;
  /** Whom it concerns, such as `tenant:acme`: at most 8 texts of 1 to 100 characters. */
  readonly tags?: readonly string[];
}

/** Whose sessions, and what. */
export type PublishedPush = {
  /** Pushing twice with one id is harmless; default: a new one. */
  readonly id?: string;
  readonly to:
    | { readonly session: string }
    | { readonly user: string | number }
    | { readonly group: string }
    | { readonly path: string }
    | { readonly all: true };
} & (
  | { readonly event: { readonly name: string; readonly payload?: Readonly<Record<string, unknown>> } }
  | { readonly toast: string | { readonly text: string; readonly level?: 'info' | 'success' | 'warning' | 'error' } }
  | { readonly redirect: string }
  | { readonly script: string }
);

/** One of: the deployment's Redis, its database, or the admin listener of a sidecar. */
export type PublisherOptions = { readonly logger?: Logger } & (
  | {
      readonly redisUrl: string;
      /** The deployment's; default `default`. */
      readonly name?: string;
      /** The sidecars' `live.bus`; default `redis`. */
      readonly bus?: 'redis' | 'redis-streams';
    }
  | {
      readonly databaseUrl: string;
      /** The deployment's, for pushes: changes are everybody's who reads this database. Default `default`. */
      readonly name?: string;
    }
  | {
      /** Of the admin listener, `http://127.0.0.1:8081`. */
      readonly url: string;
      readonly apiKey: string;
    }
);

export interface Publisher {
  /**
   * Publishes one change or up to 1,000, in order; resolves with their number once the bus has them. Rejects with ChangeError for what is
   * no change, and with BusUnavailableError, within 10 s, where they did not get through: publish them again, with ids of your own if
   * they must not come twice.
   */
  publish(changes: PublishedChange | readonly PublishedChange[]): Promise<number>;
  /**
   * Starts a handler in somebody's sessions, or shows something in their browsers; resolves once the bus has it. Which handlers and scripts are
   * allowed the sidecars' configuration says. Rejects with PushError for what is no push, else as `publish` does.
   */
  push(push: PublishedPush): Promise<void>;
  /** Closes its connections. */
  close(): Promise<void>;
}

interface Way {
  send(changes: readonly Change[]): Promise<void>;
  push(push: Push): Promise<void>;
  close(): Promise<void> | void;
}

const HTTP_TIMEOUT = 10_000;

/** Publishes changes from any program of the deployment. It connects when it first publishes. */
export function createPublisher(options: PublisherOptions): Publisher {
  let way: Promise<Way> | undefined;
  return {
    async publish(changes) {
      const read = readChanges(changes);
      way ??= openWay(options);
      await (await way).send(read);
      return read.length;
    },
    async push(push) {
      const read = readPush(push, { id: randomUUID(), now: systemClock.now() });
      way ??= openWay(options);
      await (await way).push(read);
    },
    async close() {
      await (await way)?.close();
      way = undefined;
    },
  };
}

function readChanges(changes: PublishedChange | readonly PublishedChange[]): Change[] {
  const plain = (change: PublishedChange): object => {
    // What is no object is refused below, with the reason.
    if (typeof change !== 'object' || typeof change.pk !== 'bigint') return change;
    return { ...change, pk: change.pk.toString() };
  };
  const body = Array.isArray(changes)
    ? { changes: (changes as readonly PublishedChange[]).map(plain) }
    : plain(changes as PublishedChange);
  return readPublished(body, { id: () => randomUUID(), now: systemClock.now() });
}

/** Drivers are loaded where they are used. */
async function openWay(options: PublisherOptions): Promise<Way> {
  const { logger = silentLogger } = options;
  if ('url' in options) return httpWay(options.url, options.apiKey);
  const { publishing } = await import('./adapters/bus/bounded.ts');
  if ('databaseUrl' in options) {
    const { databasePool } = await import('./adapters/auth/database-pool.ts');
    const { writeOutbox, writePush } = await import('./adapters/bus/outbox.ts');
    const { databaseUrl, name = 'default' } = options;
    const pool = databasePool(databaseUrl, logger);
    return {
      send: (changes) => publishing('PostgreSQL', systemClock, () => writeOutbox(pool, changes)),
      push: (push) => publishing('PostgreSQL', systemClock, () => writePush(pool, push, name)),
      close: () => pool.end(),
    };
  }
  const { name = 'default', bus = 'redis', redisUrl } = options;
  const { closeRedis, connectRedis, redisClient } = await import('./adapters/redis/redis-client.ts');
  const { publishToChannel } = await import('./adapters/bus/redis-bus.ts');
  const { appendToStream } = await import('./adapters/bus/redis-stream.ts');
  const client = redisClient({ url: redisUrl, role: 'commands', logger });
  const publish = bus === 'redis' ? publishToChannel : appendToStream;
  const send = (messages: string[]): Promise<void> =>
    publishing('Redis', systemClock, async () => {
      await connectRedis(client);
      await publish(client, name, messages);
    });
  return {
    send: (changes) => send(encodeChanges(changes)),
    push: (push) => send([encodePush(push)]),
    close: () => closeRedis(client),
  };
}

function httpWay(url: string, apiKey: string): Way {
  const send = async (path: string, body: object, refusal: (message: string) => Error): Promise<void> => {
    const target = new URL(path, url);
    const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' };
    const response = await ask(target, { method: 'POST', headers, body: JSON.stringify(body) });
    if (response.ok) return;
    const message = await messageOf(response);
    if (response.status === 400) throw refusal(message);
    const text = `the sidecar at ${target.origin} answers ${response.status}: ${message}`;
    if (response.status >= 500) throw new BusUnavailableError(text);
    throw new Error(text);
  };
  return {
    send: (changes) =>
      send(
        '/api/publish',
        { changes: changes.map(({ id, model, action, pk, tags }) => ({ id, model, action, pk, tags })) },
        (message) => new ChangeError('The request', 'was refused', message),
      ),
    push: (push) =>
      send('/api/push', pushBody(push), (message) => new PushError('The request', 'was refused', message)),
    close: () => undefined,
  };
}

async function ask(target: URL, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(target, { ...init, signal: AbortSignal.timeout(HTTP_TIMEOUT), redirect: 'error' });
    return response;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const why = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : 'no answer';
    throw new BusUnavailableError(`no sidecar answers at ${target.origin} (${why})`, { cause: error });
  }
}

async function messageOf(response: Response): Promise<string> {
  try {
    const { error } = (await response.json()) as { readonly error?: { readonly message?: unknown } };
    return typeof error?.message === 'string' ? error.message : response.statusText;
  } catch {
    return 'is this the admin listener of a Bridgehead?';
  }
}
