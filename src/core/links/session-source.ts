import type { HandlerCall } from '../../ports/virtual-session.ts';
import type { BackendPool } from '../backends/backend-pool.ts';
import type { ClientInfo } from '../relay/client-info.ts';
import type { ChannelSource, SessionChannel, SessionChannelSink, TokenClaim } from '../relay/session-channel.ts';
import { LinkedChannel, type LinkedChannelParts } from './linked-channel.ts';

/** Workers dial again within seconds: so long a session waits for one rather than going to an unmodified backend. Milliseconds. */
const LINK_GRACE = 6_000;

/** Gives a session a linked worker, or, where no worker links, a connection of its own to a backend. */
export class SessionSource implements ChannelSource {
  readonly #pool: BackendPool;
  readonly #linked: LinkedChannelParts | undefined;

  /** `linked` undefined: sessions never come over links. */
  constructor(pool: BackendPool, linked: LinkedChannelParts | undefined) {
    this.#pool = pool;
    this.#linked = linked;
  }

  async open(
    client: ClientInfo,
    sink: SessionChannelSink,
    signal: AbortSignal,
    claim: TokenClaim,
    background: readonly HandlerCall[],
  ): Promise<SessionChannel> {
    const linked = this.#linked;
    if (linked === undefined) return this.#pool.open(client, sink, signal);
    await untilLinked(linked, signal);
    signal.throwIfAborted();
    if (linked.workers.any) return new LinkedChannel(client, sink, claim, background, linked);
    return this.#openEither(client, sink, signal, claim, background, linked);
  }

  /** Whichever is there first. */
  async #openEither(
    client: ClientInfo,
    sink: SessionChannelSink,
    signal: AbortSignal,
    claim: TokenClaim,
    background: readonly HandlerCall[],
    linked: LinkedChannelParts,
  ): Promise<SessionChannel> {
    const isLinked = new AbortController();
    const forget = whenLinked(linked, () => isLinked.abort());
    try {
      return await this.#pool.open(client, sink, AbortSignal.any([signal, isLinked.signal]));
    } catch (cause) {
      if (!isLinked.signal.aborted || signal.aborted) throw cause;
      return new LinkedChannel(client, sink, claim, background, linked);
    } finally {
      forget();
    }
  }
}

/** Calls as soon as a worker takes sessions, unless the returned function is called before. */
function whenLinked({ workers }: LinkedChannelParts, callback: () => void): () => void {
  const look = (): void => {
    if (workers.any) callback();
    else forget = workers.onceChanged(look);
  };
  let forget = workers.onceChanged(look);
  return () => forget();
}

/** Until a worker takes sessions, or none is to be expected. */
async function untilLinked(linked: LinkedChannelParts, signal: AbortSignal): Promise<void> {
  const { workers, clock, wait } = linked;
  const patience = Math.min(wait, LINK_GRACE) - workers.bare;
  if (workers.any || patience <= 0) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      forget();
      timer.cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const look = (): void => {
      if (workers.any || workers.bare === Infinity) done();
      else forget = workers.onceChanged(look);
    };
    let forget = workers.onceChanged(look);
    const timer = clock.setTimeout(done, patience);
    signal.addEventListener('abort', done, { once: true });
  });
}
