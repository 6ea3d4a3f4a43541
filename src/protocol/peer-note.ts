/** What a sidecar says of a request that it passes on to another one (docs/PROTOCOL.md, "Between sidecars"). */
import type { Key, Keyring } from './keys.ts';
import { openNote, signNote } from './signed-note.ts';

/** A note has its own header: a client's is never passed on, and whoever gets one passes the request on no further. */
export const PEER_HEADER = 'x-bridgehead-peer';
/** How long a note holds, and how far two clocks may be apart. Milliseconds. */
const LIFETIME = 10_000;
const CLOCK_SKEW = 5_000;

/** The request that a note is about. */
export interface PeerRequest {
  /** The deployment's name. */
  readonly name: string;
  readonly sid: string;
  readonly method: 'GET' | 'POST' | 'WEBSOCKET';
}

/** The client's address as the sender decided it; that there is a note says that its origin is allowed. */
export function signPeerNote({ name, sid, method }: PeerRequest, address: string, now: number, key: Key): string {
  return signNote({ n: name, s: sid, m: method, a: address, iat: now }, key);
}

/** The client's address; undefined where the note is not about this request, or not of now, or not of a peer. */
export function readPeerNote(value: unknown, request: PeerRequest, now: number, keys: Keyring): string | undefined {
  const note = openNote(value, keys);
  if (!note.valid) return undefined;
  const { n, s, m, a, iat } = note.claims;
  if (n !== request.name || s !== request.sid || m !== request.method) return undefined;
  if (typeof iat !== 'number' || now > iat + LIFETIME + CLOCK_SKEW || now < iat - CLOCK_SKEW) return undefined;
  return typeof a === 'string' ? a : undefined;
}
