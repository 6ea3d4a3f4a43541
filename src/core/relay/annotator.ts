import type { Clock } from '../../ports/clock.ts';
import type { UserSnapshot } from '../../ports/auth.ts';
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
  /** What the worker must ask of the user, since nobody could here. */
  readonly rule?: Access;
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
    const { tier, user, rule } = note;
    const claims: AnnotationClaims = {
      n: this.#name,
      t: client.token,
      s: client.session,
      h: handler,
      iat,
      exp: Math.max(iat, Math.min(iat + ANNOTATION_LIFETIME, note.expires ?? Infinity)),
      ...(tier !== 'worker' && { tier }),
      ...(user !== undefined && { u: user }),
      ...(rule !== undefined && { r: rule }),
    };
    return signAnnotation(claims, this.#key);
  }
}
