import type { Clock } from '../../ports/clock.ts';
import type { AuthResult, UserSnapshot } from '../../ports/auth.ts';
import type { Access } from '../../ports/tiers.ts';
import { ANNOTATION_LIFETIME, signAnnotation, type AnnotationClaims } from '../../protocol/annotation.ts';
import type { Key } from '../../protocol/keys.ts';
import type { Tier } from '../../protocol/tier.ts';

/** What an annotation says of a client, hashed once for each session. */
export interface ClientHashes {
  readonly token: string;
  readonly session: string;
}

/** What an annotation says of an event, beside whose it is. */
export interface Note {
  readonly tier: Tier | 'worker';
  /** undefined: not known. null: anonymous. */
  readonly user?: UserSnapshot | null;
  /** When the session ends, if that is known: Unix milliseconds. The annotation does not outlive it. */
  readonly expires?: number;
  /** What the worker must ask of the user, all of it, since nobody could here. */
  readonly rules?: readonly Access[];
}

/** What the worker is told of a user: nothing where none is needed, or nobody knows. */
export function noteOf(tier: Note['tier'], user: AuthResult | undefined): Note {
  if (tier === 'none' || user === undefined || user.kind === 'unavailable') return { tier };
  if (user.kind === 'anonymous') return { tier, user: null };
  return { tier, user: user.user, ...(user.expires !== undefined && { expires: user.expires }) };
}

/** Makes annotations while a linked worker is known (docs/PROTOCOL.md, "Annotation"). */
export class Annotator {
  readonly #name: string;
  readonly #key: Key;
  readonly #clock: Clock;
  /** The session cookie's name; null where the app has no Django sessions. */
  readonly cookie: string | null;

  constructor(parts: { name: string; key: Key; clock: Clock; cookie: string | null }) {
    this.#name = parts.name;
    this.#key = parts.key;
    this.#clock = parts.clock;
    this.cookie = parts.cookie;
  }

  annotate(client: ClientHashes, handler: string, note: Note): string {
    const iat = this.#clock.now();
    const { tier, user, rules = [] } = note;
    const claims: AnnotationClaims = {
      n: this.#name,
      t: client.token,
      s: client.session,
      h: handler,
      iat,
      exp: Math.max(iat, Math.min(iat + ANNOTATION_LIFETIME, note.expires ?? Infinity)),
      ...(tier !== 'worker' && { tier }),
      ...(user !== undefined && { u: user }),
      ...(rules.length > 0 && { r: rules }),
    };
    return signAnnotation(claims, this.#key);
  }
}
