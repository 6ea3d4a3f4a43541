import type { Tier } from '../protocol/tier.ts';

/** What a rule may ask of the user before an event reaches Python. */
export type Access = 'required' | 'staff' | { readonly permission: string };

/**
 * One line of the tier table. Globs: `*` any run of characters, `?` one character, everything else literal.
 * A rule with a `path` may only raise a tier and never carries `login` alone, since the path is the client's own word.
 */
export interface TierRule {
  /** The dotted `module.Class` of the state that handles the event. */
  readonly state?: string | undefined;
  readonly handler?: string | undefined;
  readonly path?: string | undefined;
  readonly tier?: Tier | undefined;
  readonly login?: Access | undefined;
  /** `safe`: the handler may run twice, so its events are repeated where a worker crashed on them. */
  readonly retry?: 'safe' | undefined;
}

export type TierMode = 'inherit' | 'full' | 'smart' | 'none';

/** An event as a `resolve` function sees it. */
export interface ResolvableEvent {
  /** The full name as on the wire, for example `reflex___state____state.shop___cart____cart_state.add`. */
  readonly name: string;
  /** The dotted `module.Class`, from the manifest where a worker sent one. */
  readonly state: string;
  readonly handler: string;
  /** The page's path as the client says it: good to raise a tier, never to lower one. */
  readonly path: string;
  readonly upload: boolean;
  /** The handler's arguments as the client sent them; parsed when first read. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** What a `resolve` function may know of the session. */
export interface ResolvableSession {
  readonly address: string;
  readonly hasSessionCookie: boolean;
  header(name: string): string | undefined;
}

/** Sets the tier of an event, or returns undefined to let the rules decide. Synchronous; a throw means `full`. */
export type ResolveFunction = (event: ResolvableEvent, session: ResolvableSession) => Tier | undefined;
