import { userKey, type AuthResult } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { LiveMetrics, PushDelivery } from '../../ports/live-metrics.ts';
import type { Logger } from '../../ports/logger.ts';
import type { HandlerCall } from '../../ports/virtual-session.ts';
import type { Push, PushTarget } from '../../protocol/push.ts';
import { redirectUpdate, scriptUpdate, toastUpdate } from '../../protocol/reflex-update.ts';
import { compileGlob } from '../tiers/glob.ts';
import { Lookups } from './lookups.ts';
import { Rounds } from './rounds.ts';

/** A session as pushes see it. */
export interface PushSession {
  /** The page it shows, as its client said last; empty where it has not. */
  readonly path: string;
  /** The user it was last known to be, as `userKey` writes it. */
  readonly user: string | undefined;
  /** Who its client is now, where that is at hand. */
  known(): AuthResult | undefined;
  /** Finds out. Never rejects. */
  find(): Promise<AuthResult>;
  /** Sends a message that the worker did not make: the Engine.IO frame. */
  tell(frame: Buffer): PushDelivery;
  run(call: HandlerCall): PushDelivery;
}

export interface PushSessions {
  all(): Iterable<PushSession>;
  /** By id or client token. */
  named(id: string): readonly PushSession[];
}

/** What is allowed now. */
export interface PushRules {
  /** `handler`: `module.Class.handler`. */
  allows(handler: string): boolean;
  readonly scripts: boolean;
}

export interface PushParts {
  readonly sessions: PushSessions;
  readonly namespace: string;
  readonly rules: () => PushRules;
  /** The full name of `module.Class.handler` in Reflex; undefined where no known worker has it. */
  readonly fullName: (handler: string) => string | undefined;
  readonly clock: Clock;
  readonly metrics: LiveMetrics;
  readonly logger: Logger;
}

type Deliver = (session: PushSession) => PushDelivery;

/** Pushes that wait while others are brought to many sessions, and how large they may be together. */
const MAX_WAITING = 10_000;
const MAX_BYTES = 64 * 1024 * 1024;

/** Brings what comes over the bus to the sessions of this process. A session gets pushes in the order in which they came. */
export class Pushes {
  readonly #parts: PushParts;
  readonly #lookups: Lookups;
  readonly #rounds: Rounds<PushSession>;
  readonly #said = new Set<string>();

  constructor(parts: PushParts) {
    this.#parts = parts;
    this.#lookups = new Lookups(parts.clock);
    this.#rounds = new Rounds(() => parts.sessions.all());
  }

  push(push: Push): void {
    if (this.#rounds.waiting >= MAX_WAITING || this.#rounds.bytes >= MAX_BYTES) {
      this.#parts.metrics.pushDelivered('full', 1);
      return this.#say('pushes come faster than they can be brought to the sessions: some are dropped');
    }
    this.#deliver(push);
  }

  #deliver({ id, to, what }: Push): void {
    const { namespace, rules, fullName } = this.#parts;
    const tell = (packet: string): void => {
      const frame = Buffer.from(`4${packet}`);
      this.#each(to, (session) => session.tell(frame), frame.length);
    };
    switch (what.kind) {
      case 'toast':
        return tell(toastUpdate(namespace, { id: `bridgehead-push-${id}`, level: what.level, text: what.text }));
      case 'redirect':
        return tell(redirectUpdate(namespace, what.path));
      case 'script':
        if (rules().scripts) return tell(scriptUpdate(namespace, what.code));
        return this.#refuse('a script was pushed and live.scripts is false here');
      case 'event': {
        const { name, payload } = what;
        if (!rules().allows(name)) return this.#refuse('a handler was pushed that live.push does not allow here');
        const full = fullName(name);
        if (full === undefined) {
          this.#parts.metrics.pushDelivered('unknown', 1);
          return this.#say('a handler was pushed that no linked worker has');
        }
        return this.#each(to, (session) => session.run({ name: full, payload }), JSON.stringify(payload).length);
      }
    }
  }

  #refuse(message: string): void {
    this.#parts.metrics.pushDelivered('refused', 1);
    this.#say(message);
  }

  /** Once each. */
  #say(message: string): void {
    if (this.#said.has(message)) return;
    this.#said.add(message);
    this.#parts.logger.warn({}, `${message} (said once)`);
  }

  #each(to: PushTarget, deliver: Deliver, bytes: number): void {
    const { sessions, metrics } = this.#parts;
    const visit = this.#visitor(to, (session) => metrics.pushDelivered(deliver(session), 1));
    if (to.kind !== 'session') return this.#rounds.add(visit, bytes);
    for (const session of sessions.named(to.id)) {
      this.#rounds.reach(session);
      visit(session);
    }
  }

  /** What to do with each session, so that those whom the push is for get it. */
  #visitor(to: PushTarget, deliver: (session: PushSession) => void): (session: PushSession) => void {
    switch (to.kind) {
      case 'all':
      case 'session':
        return deliver;
      case 'path': {
        const glob = compileGlob(to.pattern);
        return (session) => {
          if (session.path !== '' && glob.matches(session.path)) deliver(session);
        };
      }
      case 'user':
      case 'group':
        return (session) => this.#identify(session, to, deliver);
    }
  }

  #identify(
    session: PushSession,
    to: PushTarget & { kind: 'user' | 'group' },
    deliver: (session: PushSession) => void,
  ): void {
    // A session never becomes another user's by itself.
    if (to.kind === 'user' && session.user !== undefined && !isUser(session.user, to)) return;
    const known = session.known();
    if (known !== undefined) {
      if (this.#fits(known, to)) deliver(session);
      return;
    }
    const { metrics } = this.#parts;
    const isTaken = this.#lookups.add(
      async () => {
        if (this.#fits(await session.find(), to)) deliver(session);
      },
      () => metrics.pushDelivered('expired', 1),
    );
    if (!isTaken) metrics.pushDelivered('full', 1);
  }

  #fits(who: AuthResult, to: PushTarget & { kind: 'user' | 'group' }): boolean {
    // It may have been for this session: nobody can tell.
    if (who.kind === 'unavailable') this.#parts.metrics.pushDelivered('unavailable', 1);
    if (who.kind !== 'user') return false;
    if (to.kind === 'user') return isUser(userKey(who.user), to);
    if (who.groups === undefined) this.#say('a group was pushed to, and the source of users tells no groups');
    return who.groups?.includes(to.name) === true;
  }
}

function isUser(key: string, { id, model }: PushTarget & { kind: 'user' }): boolean {
  if (model !== undefined) return key === `${model}:${id}`;
  return key.slice(key.indexOf(':') + 1) === id;
}
