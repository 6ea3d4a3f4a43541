/** The signed note on one event (docs/PROTOCOL.md, "Annotation"). */
import type { Key, Keyring } from './keys.ts';
import { openNote, signNote, type NoteFault } from './signed-note.ts';
import { isTier, type Tier } from './tier.ts';

/** How long an annotation lives, and how far two clocks may be apart. Milliseconds. */
export const ANNOTATION_LIFETIME = 15_000;
export const CLOCK_SKEW = 5_000;

export interface AnnotationClaims {
  /** The deployment's name. */
  readonly n: string;
  /** Token hash. */
  readonly t: string;
  /** Session hash; empty without a session cookie. */
  readonly s: string;
  /** The event's full name. */
  readonly h: string;
  /** Absent: the worker's own resolver decides. */
  readonly tier?: Tier;
  /** Unix time in milliseconds. */
  readonly iat: number;
  readonly exp: number;
  /** Absent: not known. null: anonymous. */
  readonly u?: object | null;
  /** Access rules that the worker must enforce, all of them. */
  readonly r?: readonly (string | { readonly permission: string })[];
}

export function signAnnotation(claims: AnnotationClaims, key: Key): string {
  return signNote(claims, key);
}

/** Why an annotation is ignored. */
export type AnnotationFault = NoteFault | 'name' | 'token' | 'session' | 'handler' | 'expired' | 'future';

export type AnnotationResult =
  | { readonly valid: true; readonly claims: AnnotationClaims }
  | { readonly valid: false; readonly reason: AnnotationFault };

/** What the verifier knows of the event at hand: hashes as in the claims, `now` in Unix milliseconds. */
export interface AnnotationContext {
  readonly name: string;
  readonly token: string;
  readonly session: string;
  readonly handler: string;
  readonly now: number;
}

const invalid = (reason: AnnotationFault): AnnotationResult => ({ valid: false, reason });

/** Never throws: whatever it is given is either valid or has a reason. */
export function verifyAnnotation(value: unknown, keys: Keyring, context: AnnotationContext): AnnotationResult {
  const note = openNote(value, keys);
  if (!note.valid) return note;
  const claims = readClaims(note.claims);
  return claims === undefined ? invalid('claims') : checkClaims(claims, context);
}

function checkClaims(
  claims: AnnotationClaims,
  { name, token, session, handler, now }: AnnotationContext,
): AnnotationResult {
  if (claims.n !== name) return invalid('name');
  if (claims.t !== token) return invalid('token');
  if (claims.s !== session) return invalid('session');
  if (claims.h !== handler) return invalid('handler');
  if (now > claims.exp + CLOCK_SKEW) return invalid('expired');
  if (now < claims.iat - CLOCK_SKEW) return invalid('future');
  return { valid: true, claims };
}

function readClaims(claims: Readonly<Record<string, unknown>>): AnnotationClaims | undefined {
  const { n, t, s, h, tier, iat, exp, u, r } = claims;
  if (![n, t, s, h].every((claim) => typeof claim === 'string')) return undefined;
  if (!Number.isSafeInteger(iat) || !Number.isSafeInteger(exp)) return undefined;
  const life = (exp as number) - (iat as number);
  if (life < 0 || life > ANNOTATION_LIFETIME) return undefined;
  if (tier !== undefined && !isTier(tier)) return undefined;
  if (u !== undefined && u !== null && (typeof u !== 'object' || Array.isArray(u))) return undefined;
  if (r !== undefined && !(Array.isArray(r) && r.length > 0 && r.every(isRule))) return undefined;
  return claims as unknown as AnnotationClaims;
}

/** A rule of a later version is one too: whoever enforces it without knowing it refuses. */
function isRule(rule: unknown): boolean {
  return typeof rule === 'string' || (typeof rule === 'object' && rule !== null && !Array.isArray(rule));
}
