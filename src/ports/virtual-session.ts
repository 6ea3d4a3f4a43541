import type { Subscription } from '../protocol/link-live.ts';
import type { SendResult } from './transport.ts';

/** What a worker must know to hold a client's session (docs/PROTOCOL.md, "Attaching"). */
export interface AttachRequest {
  /** The sidecar's own id of the session, the same on every worker it is moved to. */
  readonly session: string;
  /** Path and query of the client's handshake. */
  readonly target: string;
  /** `[name, value]`, as a direct connection would have them. */
  readonly headers: readonly (readonly [string, string])[];
  /** The client's address. */
  readonly client: string;
  readonly protocol: string | undefined;
  /** The token belonged to a session whose client or worker is gone: no `new_token`. */
  readonly takeover: boolean;
  /**
   * With `takeover`: the worker that had the session before, by its manifest's `tokens`. Where the token is another's by now, that one's client
   * is asked first. undefined: whoever has the token is to lose it.
   */
  readonly from: string | undefined;
  /** Both holders of the token live: the worker must not look for the other one. */
  readonly force: boolean;
  /** Take up the session again that this worker held on a former link. `seen`: server messages that arrived over it. */
  readonly resume: { readonly seen: number } | undefined;
}

/** How a worker answered. */
export type AttachAnswer =
  /**
   * `received`: the last number of a former attach; `sent`: server messages of it; `open`: the numbers up to `received` whose `done` has
   * still to come, while that of all others came or was lost. 0, 0 and none without `resume`.
   */
  | {
      readonly kind: 'attached';
      readonly received: number;
      readonly sent: number;
      readonly open: readonly number[];
    }
  /** Another worker holds the token: the one whose manifest's `tokens` is `holder`. */
  | { readonly kind: 'elsewhere'; readonly holder: string }
  /** `taken`: the tab lives in another session. */
  | { readonly kind: 'refused'; readonly code: 'draining' | 'failed' | 'unknown' | 'taken'; readonly message: string };

/** A handler and its arguments, to be run in a session. */
export interface HandlerCall {
  readonly name: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** A background handler that ran. `payload` null: too large to be told, so it cannot be run again. */
export interface BackgroundHandler {
  readonly name: string;
  readonly payload: Readonly<Record<string, unknown>> | null;
}

/** What became of a numbered packet's handlers. */
export type Outcome = 'ended' | 'raised' | 'cancelled';

/**
 * Why a virtual session is over: `detached` answers the sidecar's own wish, `unanswered` says that nothing did in time, so that nobody can tell
 * what became of it; `closed`, `slow`, `failed` are the worker's. `lost`: the
 * link's stream was read to its end, so that what was not received has not run. `silent`: nobody can tell, which is also so after a TCP
 * reset: the kernel of a killed worker may have dropped its last receipts.
 */
export type VirtualEnd = 'detached' | 'unanswered' | 'closed' | 'slow' | 'failed' | 'lost' | 'silent';

/** What a virtual session brings. No call comes after `ended`, which comes exactly once. */
export interface VirtualSink {
  /** First of all, once. After any other kind than `attached` nothing else comes, not even `ended`. */
  answered(answer: AttachAnswer): void;
  /** The Engine.IO frame: text with its leading `4`, or binary. The buffer is the adapter's: copy what outlives the call. */
  message(frame: Buffer, binary: boolean): void;
  /** The worker takes every packet up to this number. */
  received(number: number): void;
  done(number: number, outcome: Outcome): void;
  background(id: string, handler: BackgroundHandler | 'ended'): void;
  /** The session wants live events; one with the same id is replaced. */
  subscribe(subscription: Subscription): void;
  unsubscribe(id: string): void;
  /** Somebody wants this token: does the client still live? Answer with `VirtualSession.probed`. */
  probe(): void;
  /** There is credit again, or the link has been written out. */
  drained(): void;
  /** `background`: what `move` cancelled; `unrun`: the numbers that were received and have certainly not run. */
  ended(end: VirtualEnd, background: readonly BackgroundHandler[], unrun: readonly number[]): void;
}

export type DetachReason = 'closed' | 'lost' | 'takeover' | 'move';

/** A client's session on a worker's link. */
export interface VirtualSession {
  /** Nothing more should be sent until `drained`: no credit, or the link is slow. One message may overdraw. */
  readonly blocked: boolean;
  /** A client's packet with its number; `tellDone` asks for `done`. */
  send(number: number, frame: string | Buffer, binary: boolean, tellDone: boolean): SendResult;
  /** Runs a handler as if the browser had sent its event. `background`: one that ran on another worker. */
  inject(number: number, call: HandlerCall, background: boolean): SendResult;
  /** Asks for the whole state as a delta; `done` tells. */
  resync(number: number): SendResult;
  /** Gives credit back for so many bytes of messages: the client's connection has taken them. */
  taken(bytes: number): void;
  /**
   * Answers `probe`. With `alive` false, `kept` (Engine.IO texts: with their leading `4`, or `b` and base64) follow the newcomer's CONNECT, and then
   * what the worker said after the first `seen` messages since it asked.
   */
  probed(alive: boolean, kept: readonly string[], seen: number): void;
  /** Asks for the end; `ended` tells, also where the worker does not answer within seconds. */
  detach(reason: DetachReason): void;
}
