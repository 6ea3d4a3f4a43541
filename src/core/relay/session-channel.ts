import type { HandlerCall } from '../../ports/virtual-session.ts';
import type { SendResult } from '../../ports/transport.ts';
import type { ChannelEnd } from '../../ports/upstream.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import type { Decision } from '../tiers/tier-resolver.ts';
import type { ClientInfo } from './client-info.ts';
import type { Waiting } from './inbound-queue.ts';

/** A worker that lets go in order does all that it was given. */
export const NOTHING_LEFT: Leftovers = { again: [], unsure: 0, background: [] };

/** What a session hears from its channel. No call comes after `ended`, which comes at most once, and never after `close`. */
export interface SessionChannelSink {
  /** The Engine.IO frame as it came. The buffer is the adapter's: copy what outlives the call. */
  message(frame: Buffer, binary: boolean): void;
  /** Ask again whether the channel is ready. */
  drained(): void;
  /** These never ran: they go back to the head of the queue, in this order. */
  returned(items: readonly Waiting[]): void;
  /** So many events may have run or not, and will not be repeated: the client must be told. */
  interrupted(events: number): void;
  /** The packet of the client that waits first. */
  first(): Waiting | undefined;
  /** The Cookie header that is the tab's now: a handler may have given it another session than its handshake's. */
  cookies(cookieName: string | null): string | undefined;
  /** Somebody else came to the worker with this token: does the client live? If not, what it has missed goes to the other. */
  probe(): Promise<ProbeAnswer>;
  ended(reason: ChannelEnd | 'slow' | 'no_worker'): void;
}

/** `kept`: Engine.IO texts, with their leading `4`, or `b` and base64. */
export interface ProbeAnswer {
  readonly alive: boolean;
  readonly kept: readonly string[];
}

/** One session's way to a worker, whatever carries it. */
export interface SessionChannel {
  /** The backend's address, or the worker's instance; empty while there is none. */
  readonly where: string;
  /** Largest message the worker takes, in code points of a text. */
  readonly maxPayload: number;
  /** What workers call the session, over whose link it comes: they run the companion. undefined: a backend that may be anything. */
  readonly linkedAs: string | undefined;
  /** Bytes that the worker has not taken. */
  readonly bufferedBytes: number;
  /** `away`: no worker has the session now. `unknown`: this channel cannot tell whether a handler runs. */
  readonly work: 'busy' | 'idle' | 'unknown' | 'away';
  /** Whether a packet may be handed over now. Where not, `drained` tells when to ask again. */
  ready(): boolean;
  /** `item`: what the frame was made from. `event`: how it was decided, where it is a Reflex event. */
  send(frame: string | Buffer, binary: boolean, item: Waiting, event: Decision | undefined): SendResult;
  /** Runs a handler in the session, after what the user does. `unable`: this channel cannot; `away`: the client is gone. */
  run(call: HandlerCall): 'queued' | 'full' | 'unable' | 'away';
  /** The worker gave the tab another token: from now on the session is known by that one. */
  rename(token: ClientToken): void;
  /** The client is gone: nothing new is begun for it, and its subscriptions end. */
  clientGone(): void;
  /** Holds the worker back. */
  pause(): void;
  resume(): void;
  /**
   * Ends the worker's session; resolves when the worker has let go of it, or after seconds, with what it will not do. Nothing more is
   * delivered.
   */
  close(how: 'closed' | 'lost' | 'takeover'): Promise<Leftovers>;
}

/** What a worker had of a session and will not do: it is gone, or cannot be asked. */
export interface Leftovers {
  /** These never ran. */
  readonly again: readonly Waiting[];
  /** So many events may have run or not. */
  readonly unsure: number;
  /** Background handlers that ran. */
  readonly background: readonly HandlerCall[];
}

/** Whose token it is: `takeover`: that of a session whose client is gone; `shared`: another client lives with it. */
export type TokenClaim = 'own' | 'takeover' | 'shared';

/** Where sessions get their channels from. */
export interface ChannelSource {
  /**
   * `background`: handlers that ran in a session whose tab this one takes over: where the page that loads does not start them, they are
   * started again. Waits for a worker as long as the configuration allows; rejects after that, or when `signal` ends.
   */
  open(
    client: ClientInfo,
    sink: SessionChannelSink,
    signal: AbortSignal,
    claim: TokenClaim,
    background: readonly HandlerCall[],
  ): Promise<SessionChannel>;
}
