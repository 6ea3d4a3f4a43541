/**
 * Reflex events inside Socket.IO packets: `["event",{name,payload,router_data}]`, and since Reflex 0.10 the boot event
 * in the CONNECT payload, `{"event":{…},"state_schema":"…"}`.
 */
import {
  closingBrace,
  findMembers,
  hasEscapedKey,
  isEmptyObject,
  nestingDepth,
  opensMoreThan,
  readValue,
  removeMembers,
  secondElement,
} from './json-scan.ts';
import { SocketPacket, type PacketHeader } from './socket-io.ts';

/** The key of the annotation in `router_data`; see docs/PROTOCOL.md. */
export const ANNOTATION_KEY = '_bridgehead';

/** Deeper JSON is refused: CPython's own parser gives up at about 1,000, a Reflex event needs fewer than 20. */
export const MAX_JSON_DEPTH = 100;

export interface ReflexEvent {
  /** The full name: states joined by dots, then the handler. */
  readonly name: string;
  /** `router_data.pathname`: the client's own word. */
  readonly path: string;
  readonly payload: Readonly<Record<string, unknown>>;
  /** Whether the client put an annotation of its own there. */
  readonly forged: boolean;
  /** Where the event's object begins in the packet's text. */
  readonly start: number;
}

export type ParsedPacket =
  | { readonly kind: 'event'; readonly event: ReflexEvent }
  /** Nothing for the pipeline: a ping, a client error, a CONNECT without a boot event. */
  | { readonly kind: 'other' }
  | { readonly kind: 'invalid'; readonly reason: 'json' | 'depth' | 'event' };

const OTHER: ParsedPacket = { kind: 'other' };

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Looks for a Reflex event in a packet of Reflex's namespace. `text` is the packet, `header` what was read of it. */
export function parseReflexPacket(text: string, header: PacketHeader): ParsedPacket {
  const { type, dataStart } = header;
  const isEvent = type === SocketPacket.event || type === SocketPacket.binaryEvent;
  if (!isEvent && type !== SocketPacket.connect) return OTHER;
  if (dataStart >= text.length) return OTHER;
  if (isTooDeep(text, dataStart)) return { kind: 'invalid', reason: 'depth' };
  let data: unknown;
  try {
    data = JSON.parse(text.slice(dataStart));
    if (hasEscapedKey(text, dataStart)) data = readValue(text, dataStart);
  } catch {
    return { kind: 'invalid', reason: 'json' };
  }
  if (isEvent) {
    if (!Array.isArray(data) || data[0] !== 'event') return OTHER;
    return readEvent(data[1], () => secondElement(text, dataStart));
  }
  if (!isObject(data) || data['event'] === undefined || data['event'] === null) return OTHER;
  return readEvent(data['event'], () => findMembers(text, dataStart, 'event').at(-1)?.valueStart ?? -1);
}

function isTooDeep(text: string, start: number): boolean {
  // Nearly every event is told by its few brackets, which are found much faster than strings are passed over.
  return opensMoreThan(text, start, MAX_JSON_DEPTH) && nestingDepth(text, start, MAX_JSON_DEPTH) > MAX_JSON_DEPTH;
}

/** A worker would take a string here for JSON once more, and fail on everything else: neither may pass unread. */
function readEvent(value: unknown, locate: () => number): ParsedPacket {
  if (!isObject(value) || typeof value['name'] !== 'string') return { kind: 'invalid', reason: 'event' };
  const { router_data: router, payload } = value;
  if (router !== undefined && !isObject(router)) return { kind: 'invalid', reason: 'event' };
  const pathname = router?.['pathname'];
  const event: ReflexEvent = {
    name: value['name'],
    path: typeof pathname === 'string' ? pathname : '',
    payload: isObject(payload) ? payload : {},
    forged: router !== undefined && Object.hasOwn(router, ANNOTATION_KEY),
    start: locate(),
  };
  return event.start < 0 ? { kind: 'invalid', reason: 'event' } : { kind: 'event', event };
}

/** The packet without what a client wrote under the annotation's key. */
export function stripAnnotation(text: string, event: ReflexEvent): string {
  const router = findMembers(text, event.start, 'router_data').at(-1);
  return router === undefined ? text : removeMembers(text, router.valueStart, ANNOTATION_KEY);
}

/** The packet with our annotation as the last member of `router_data`, which is made where it is missing. */
export function insertAnnotation(text: string, event: ReflexEvent, annotation: string): string {
  const member = `"${ANNOTATION_KEY}":"${annotation}"`;
  const router = findMembers(text, event.start, 'router_data').at(-1);
  if (router === undefined) return insertMember(text, event.start, `"router_data":{${member}}`);
  return insertMember(text, router.valueStart, member);
}

function insertMember(text: string, objectStart: number, member: string): string {
  const end = closingBrace(text, objectStart);
  const separator = isEmptyObject(text, objectStart) ? '' : ',';
  return text.slice(0, end) + separator + member + text.slice(end);
}
