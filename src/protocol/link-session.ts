/** Frames of virtual sessions (docs/PROTOCOL.md, "Sessions on a link"): what they say, and how it is written. */
import { encodeFrame, frameBuffer, FRAME_HEAD } from './link.ts';
import type { Subscription } from './link-live.ts';

export const SessionFrame = {
  attach: 32,
  attached: 33,
  client: 34,
  server: 35,
  received: 36,
  done: 37,
  credit: 38,
  detach: 39,
  detached: 40,
  resync: 41,
  background: 42,
  inject: 43,
  probe: 44,
  probed: 45,
  subscribe: 46,
  unsubscribe: 47,
} as const;

/** Bytes of Engine.IO frames that each side may send for a session before the other gives credit back. */
export const SESSION_WINDOW = 262_144;

export const ATTACH_ERRORS = ['elsewhere', 'draining', 'failed', 'unknown', 'taken'] as const;
export const DETACH_REASONS = ['closed', 'lost', 'takeover', 'move'] as const;
/** The place of an outcome in this list is its number. */
export const OUTCOMES = ['ended', 'raised', 'cancelled'] as const;

export const BINARY = 1;
export const WANTS_DONE = 2;

type Payload = Readonly<Record<string, unknown>>;

export interface SessionHandler {
  readonly name: string;
  /** null: it was too large to be told. */
  readonly payload: Payload | null;
}

export interface AttachMessage {
  readonly kind: 'attach';
  readonly session: string;
  readonly target: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly client: string;
  readonly protocol: string | null;
  readonly takeover: boolean;
  readonly resume: boolean;
  readonly force: boolean;
  readonly seen: number;
  /** With `takeover`: the `tokens` of the worker that had the session before. */
  readonly from?: string;
}

/** What a frame of the types 32 to 47 says. Payloads that were read are views of the reader's buffer. */
export type SessionMessage =
  | AttachMessage
  | {
      readonly kind: 'attached';
      readonly received: number;
      readonly sent: number;
      /** With `resume`: the numbers up to `received` whose DONE has still to come. */
      readonly open?: readonly number[];
    }
  | {
      readonly kind: 'refused';
      readonly error: (typeof ATTACH_ERRORS)[number];
      readonly message: string;
      /** With `elsewhere`: the `tokens` of the worker that holds the token. */
      readonly instance: string | null;
    }
  | {
      readonly kind: 'client';
      readonly n: number;
      readonly binary: boolean;
      readonly done: boolean;
      readonly payload: string | Buffer;
    }
  | { readonly kind: 'server'; readonly binary: boolean; readonly payload: string | Buffer }
  | { readonly kind: 'received'; readonly n: number }
  | { readonly kind: 'done'; readonly n: number; readonly outcome: (typeof OUTCOMES)[number] }
  | { readonly kind: 'credit'; readonly bytes: number }
  | { readonly kind: 'detach'; readonly reason: (typeof DETACH_REASONS)[number] }
  | {
      readonly kind: 'detached';
      readonly reason: (typeof DETACH_REASONS)[number] | 'slow' | 'failed';
      readonly background: readonly SessionHandler[];
      /** With `move`: numbers that were received and have certainly not run. */
      readonly unrun?: readonly number[];
    }
  | { readonly kind: 'resync'; readonly n: number }
  | { readonly kind: 'background'; readonly id: string; readonly state: 'started'; readonly handler: SessionHandler }
  | { readonly kind: 'background'; readonly id: string; readonly state: 'ended' }
  | {
      readonly kind: 'inject';
      readonly n: number;
      readonly name: string;
      readonly payload: Payload;
      readonly background: boolean;
    }
  | { readonly kind: 'probe' }
  /** `seen`: SERVER frames that came since the PROBE and are in `kept`, or with the client. Absent: nobody counted. */
  | { readonly kind: 'probed'; readonly alive: boolean; readonly kept: readonly string[]; readonly seen?: number }
  | { readonly kind: 'subscribe'; readonly subscription: Subscription }
  | { readonly kind: 'unsubscribe'; readonly id: string };

/** The bytes of one frame. Throws RangeError where a number is beyond 32 bits. */
export function encodeSession(channel: number, message: SessionMessage): Buffer {
  switch (message.kind) {
    case 'attach': {
      const { kind: _, ...body } = message;
      return encodeJson(SessionFrame.attach, channel, body);
    }
    case 'attached': {
      const { kind: _, ...body } = message;
      return encodeJson(SessionFrame.attached, channel, body);
    }
    case 'refused': {
      const { error, message: text, instance } = message;
      return encodeJson(SessionFrame.attached, channel, {
        error,
        message: text,
        ...(instance === null ? {} : { instance }),
      });
    }
    case 'client':
      return encodeClient(channel, message.n, message.payload, message.binary, message.done);
    case 'server':
      return encodeServer(channel, message.payload, message.binary);
    case 'received':
      return encodeNumber(SessionFrame.received, channel, message.n);
    case 'done': {
      const body = Buffer.allocUnsafe(5);
      body.writeUInt32BE(message.n, 0);
      body.writeUInt8(OUTCOMES.indexOf(message.outcome), 4);
      return encodeFrame(SessionFrame.done, channel, body);
    }
    case 'credit':
      return encodeNumber(SessionFrame.credit, channel, message.bytes);
    case 'detach':
      return encodeJson(SessionFrame.detach, channel, { reason: message.reason });
    case 'detached': {
      const { kind: _, ...body } = message;
      return encodeJson(SessionFrame.detached, channel, body);
    }
    case 'resync':
      return encodeNumber(SessionFrame.resync, channel, message.n);
    case 'background': {
      const { id, state } = message;
      return encodeJson(SessionFrame.background, channel, { id, state, ...(state === 'started' && message.handler) });
    }
    case 'inject': {
      const { name, payload, background } = message;
      const body = Buffer.from(`\0\0\0\0${JSON.stringify({ name, payload, background })}`);
      body.writeUInt32BE(message.n, 0);
      return encodeFrame(SessionFrame.inject, channel, body);
    }
    case 'probe':
      return encodeJson(SessionFrame.probe, channel, {});
    case 'probed':
      return encodeJson(SessionFrame.probed, channel, {
        alive: message.alive,
        kept: message.kept,
        ...(message.seen !== undefined && { seen: message.seen }),
      });
    case 'subscribe': {
      const { id, model, pks, tags, handler } = message.subscription;
      return encodeJson(SessionFrame.subscribe, channel, { id, model, pks, tags, handler });
    }
    case 'unsubscribe':
      return encodeJson(SessionFrame.unsubscribe, channel, { id: message.id });
  }
}

/** A CLIENT frame, with no copy of the payload but the one into the frame. */
export function encodeClient(
  channel: number,
  n: number,
  payload: string | Buffer,
  binary: boolean,
  done: boolean,
): Buffer {
  const frame = frameBuffer(SessionFrame.client, channel, 5 + Buffer.byteLength(payload));
  frame.writeUInt8((binary ? BINARY : 0) | (done ? WANTS_DONE : 0), FRAME_HEAD);
  frame.writeUInt32BE(n, FRAME_HEAD + 1);
  put(payload, frame, FRAME_HEAD + 5);
  return frame;
}

function encodeServer(channel: number, payload: string | Buffer, binary: boolean): Buffer {
  const frame = frameBuffer(SessionFrame.server, channel, 1 + Buffer.byteLength(payload));
  frame.writeUInt8(binary ? BINARY : 0, FRAME_HEAD);
  put(payload, frame, FRAME_HEAD + 1);
  return frame;
}

function put(payload: string | Buffer, frame: Buffer, offset: number): void {
  if (typeof payload === 'string') frame.write(payload, offset);
  else payload.copy(frame, offset);
}

function encodeNumber(type: number, channel: number, number: number): Buffer {
  const frame = frameBuffer(type, channel, 4);
  frame.writeUInt32BE(number, FRAME_HEAD);
  return frame;
}

function encodeJson(type: number, channel: number, message: object): Buffer {
  return encodeFrame(type, channel, Buffer.from(JSON.stringify(message)));
}
