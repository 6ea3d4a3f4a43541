/** Reads frames of virtual sessions (docs/PROTOCOL.md, "Sessions on a link") with suspicion. */
import { readSubscription, readSubscriptionId } from './link-live.ts';
import { decodeObject, FrameError, type Frame } from './link.ts';
import {
  ATTACH_ERRORS,
  BINARY,
  DETACH_REASONS,
  OUTCOMES,
  SessionFrame,
  WANTS_DONE,
  type SessionHandler,
  type SessionMessage,
} from './link-session.ts';

type Body = Readonly<Record<string, unknown>>;

const MAX_U32 = 0xffff_ffff;
/** An Engine.IO text that is a message begins with this: `4`. */
const MESSAGE = 0x34;
const DETACHED_REASONS = [...DETACH_REASONS, 'slow', 'failed'] as const;

/** What a frame of type 32 or later says; undefined for a later version's type. Throws FrameError. */
export function decodeSession(frame: Frame): SessionMessage | undefined {
  const { type, channel, size } = frame;
  if (channel === 0) throw new FrameError(`frame type ${type} has no channel`);
  switch (type) {
    case SessionFrame.attach:
      return attach(decodeObject(frame.body));
    case SessionFrame.attached:
      return attached(decodeObject(frame.body));
    case SessionFrame.client: {
      expectLength(size >= 5, type);
      const flags = frame.uint8(0);
      const payload = engineFrame(frame.from(5), flags, type);
      const done = (flags & WANTS_DONE) !== 0;
      return { kind: 'client', n: frame.uint32(1), binary: (flags & BINARY) !== 0, done, payload };
    }
    case SessionFrame.server: {
      expectLength(size >= 1, type);
      const flags = frame.uint8(0);
      return { kind: 'server', binary: (flags & BINARY) !== 0, payload: engineFrame(frame.from(1), flags, type) };
    }
    case SessionFrame.received:
      return { kind: 'received', n: onlyNumber(frame) };
    case SessionFrame.done: {
      expectLength(size === 5, type);
      const outcome = OUTCOMES[frame.uint8(4)];
      if (outcome === undefined) throw new FrameError('DONE has an unknown outcome');
      return { kind: 'done', n: frame.uint32(0), outcome };
    }
    case SessionFrame.credit:
      return { kind: 'credit', bytes: onlyNumber(frame) };
    case SessionFrame.detach:
      return { kind: 'detach', reason: oneOf(decodeObject(frame.body), 'reason', DETACH_REASONS) };
    case SessionFrame.detached: {
      const message = decodeObject(frame.body);
      const background = list(message, 'background').map((item) => handler(item));
      const reason = oneOf(message, 'reason', DETACHED_REASONS);
      return { kind: 'detached', reason, background, ...numbers(message, 'unrun') };
    }
    case SessionFrame.resync:
      return { kind: 'resync', n: onlyNumber(frame) };
    case SessionFrame.background: {
      const message = decodeObject(frame.body);
      const [id, state] = [text(message, 'id'), oneOf(message, 'state', ['started', 'ended'] as const)];
      return state === 'ended'
        ? { kind: 'background', id, state }
        : { kind: 'background', id, state, handler: handler(message) };
    }
    case SessionFrame.inject: {
      expectLength(size > 4, type);
      const message = decodeObject(frame.from(4));
      const { name, payload } = handler(message);
      const background = flag(message, 'background');
      return { kind: 'inject', n: frame.uint32(0), name, payload: payload ?? {}, background };
    }
    case SessionFrame.probe:
      decodeObject(frame.body);
      return { kind: 'probe' };
    case SessionFrame.probed: {
      const message = decodeObject(frame.body);
      const kept = list(message, 'kept').map((item) => asText(item, 'kept'));
      const seen = message['seen'] === undefined ? {} : { seen: count(message, 'seen') };
      return { kind: 'probed', alive: flag(message, 'alive'), kept, ...seen };
    }
    case SessionFrame.subscribe:
      return { kind: 'subscribe', subscription: readSubscription(decodeObject(frame.body)) };
    case SessionFrame.unsubscribe:
      return { kind: 'unsubscribe', id: readSubscriptionId(decodeObject(frame.body)) };
    default:
      return undefined;
  }
}

function attach(body: Body): SessionMessage {
  const from = textOrNull(body, 'from');
  return {
    kind: 'attach',
    session: text(body, 'session'),
    target: text(body, 'target'),
    headers: list(body, 'headers').map((pair): readonly [string, string] => {
      if (!Array.isArray(pair) || pair.length !== 2) throw new FrameError('a header must be [name, value]');
      return [asText(pair[0], 'headers'), asText(pair[1], 'headers')];
    }),
    client: text(body, 'client'),
    protocol: textOrNull(body, 'protocol'),
    takeover: flag(body, 'takeover'),
    resume: flag(body, 'resume'),
    force: flag(body, 'force'),
    seen: count(body, 'seen'),
    ...(from !== null && { from }),
  };
}

function attached(body: Body): SessionMessage {
  if (!('error' in body)) {
    const [received, sent] = [count(body, 'received'), count(body, 'sent')];
    return { kind: 'attached', received, sent, ...numbers(body, 'open') };
  }
  const error = oneOf(body, 'error', ATTACH_ERRORS);
  const instance = textOrNull(body, 'instance');
  if (error === 'elsewhere' && instance === null) throw new FrameError('instance: expected a string');
  return { kind: 'refused', error, message: text(body, 'message'), instance };
}

function handler(value: unknown): SessionHandler {
  const body = asObject(value, 'background');
  const payload = body['payload'] ?? null;
  return { name: text(body, 'name'), payload: payload === null ? null : asObject(payload, 'payload') };
}

function engineFrame(payload: Buffer, flags: number, type: number): Buffer {
  if ((flags & BINARY) === 0 && payload[0] !== MESSAGE)
    throw new FrameError(`the text in a frame of type ${type} is no Engine.IO message`);
  return payload;
}

function onlyNumber(frame: Frame): number {
  expectLength(frame.size === 4, frame.type);
  return frame.uint32(0);
}

function expectLength(fits: boolean, type: number): void {
  if (!fits) throw new FrameError(`the body of a frame of type ${type} has a wrong length`);
}

function asObject(value: unknown, field: string): Body {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FrameError(`${field}: expected an object`);
  return value as Body;
}

function asText(value: unknown, field: string): string {
  if (typeof value !== 'string') throw new FrameError(`${field}: expected a string`);
  return value;
}

function text(body: Body, field: string): string {
  return asText(body[field], field);
}

function textOrNull(body: Body, field: string): string | null {
  return body[field] === undefined || body[field] === null ? null : text(body, field);
}

function flag(body: Body, field: string): boolean {
  const { [field]: value = false } = body;
  if (typeof value !== 'boolean') throw new FrameError(`${field}: expected a boolean`);
  return value;
}

function count(body: Body, field: string): number {
  return asCount(body[field] === undefined ? 0 : body[field], field);
}

/** The field alone, where it is there. */
function numbers<const F extends string>(body: Body, field: F): { readonly [K in F]?: readonly number[] } {
  if (body[field] === undefined || body[field] === null) return {};
  return { [field]: list(body, field).map((item) => asCount(item, field)) } as { [K in F]: number[] };
}

function asCount(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > MAX_U32)
    throw new FrameError(`${field}: expected an integer of 32 bits`);
  return value;
}

function list(body: Body, field: string): readonly unknown[] {
  const { [field]: value = [] } = body;
  if (!Array.isArray(value)) throw new FrameError(`${field}: expected a list`);
  return value;
}

function oneOf<const T extends string>(body: Body, field: string, words: readonly T[]): T {
  const value = words.find((word) => word === body[field]);
  if (value === undefined) throw new FrameError(`${field}: expected one of ${words.join(', ')}`);
  return value;
}
