import type { AuthResult } from '../../ports/auth.ts';
import type { Access } from '../../ports/tiers.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { exceedsCodePoints } from '../../protocol/engine-io.ts';
import { tokenHash } from '../../protocol/keys.ts';
import { insertAnnotation, parseReflexPacket, stripAnnotation, type ReflexEvent } from '../../protocol/reflex-event.ts';
import { encodeConnectError, SocketPacket, type PacketHeader } from '../../protocol/socket-io.ts';
import { askedOf, checkAccess, type Verdict } from '../access/access-policy.ts';
import { refusalUpdate } from '../access/refusal-update.ts';
import type { ClientIdentity } from '../auth/client-identity.ts';
import type { Decision } from '../tiers/tier-resolver.ts';
import { noteOf, type Note } from './annotator.ts';
import type { ClientInfo } from './client-info.ts';
import type { LatencyWatch } from './latency-watch.ts';
import type { RelayContext } from './relay-context.ts';
import type { SessionChannel } from './session-channel.ts';

/** What becomes of a packet on its way up. A text is handed on: the packet itself where nothing had to change. */
export type Prepared =
  | string
  /** It must not pass, and the session with it. */
  | { readonly kind: 'invalid' }
  /** The edge answers the client instead; the worker sees nothing. */
  | { readonly kind: 'refused'; readonly answer: string }
  /** The user must be found first: try again after `until`, which never rejects. */
  | { readonly kind: 'wait'; readonly until: Promise<void> };

/** As much of what sessions share as an event's way up needs. */
export type PipelineContext = Pick<
  RelayContext,
  'namespace' | 'tiers' | 'annotator' | 'users' | 'workerEnforces' | 'loginUrl' | 'clock' | 'metrics'
>;

/** Where the packet goes. */
export type PacketTarget = Pick<SessionChannel, 'maxPayload' | 'linkedAs'>;

const INVALID: Prepared = { kind: 'invalid' };
const UNKNOWN: AuthResult = { kind: 'unavailable', cause: 'no source' };

/** Parse, tier, user, access, strip, annotate. One for each session. */
export class EventPipeline {
  readonly identity: ClientIdentity;
  readonly #context: PipelineContext;
  readonly #client: ClientInfo;
  readonly #latency: LatencyWatch;
  #token: ClientToken;
  #tokenHash: string | undefined;
  /** How the packet that was prepared last was decided, where it was a Reflex event. */
  decision: Decision | undefined;
  /** Events that went through. */
  count = 0;
  /** The page that the last one came from, by the client's own word. */
  path = '';

  constructor(context: PipelineContext, client: ClientInfo, identity: ClientIdentity, latency: LatencyWatch) {
    this.#context = context;
    this.#client = client;
    this.#token = client.token;
    this.identity = identity;
    this.#latency = latency;
  }

  get token(): ClientToken {
    return this.#token;
  }

  set token(token: ClientToken) {
    this.#token = token;
    this.#tokenHash = undefined;
  }

  /** Called as the packet is handed to the worker, so that an annotation never waits. */
  prepare(packet: string, header: PacketHeader, target: PacketTarget): Prepared {
    this.decision = undefined;
    if (header.namespace !== this.#context.namespace) return packet;
    const parsed = parseReflexPacket(packet, header);
    switch (parsed.kind) {
      case 'invalid':
        return INVALID;
      case 'other':
        return packet;
      case 'event':
        return this.#event(packet, parsed.event, header, target);
    }
  }

  #event(packet: string, event: ReflexEvent, header: PacketHeader, target: PacketTarget): Prepared {
    const { tiers, metrics, users, clock } = this.#context;
    const decision = tiers.decide(event, this.#client);
    if (event.path !== '' && event.path.length <= MAX_PATH) this.path = event.path;
    const access = askedOf(event.name, decision.access);
    const user = this.#user(decision.tier, access);
    if (user === 'wait') {
      if (users === undefined) return INVALID;
      return { kind: 'wait', until: this.identity.find(users.resolver, users.cookie, clock) };
    }
    const verdict = checkAccess(access, user ?? UNKNOWN);
    if (verdict !== 'allow' && !(verdict === 'unknown' && this.#canDelegate(target, packet))) {
      return this.#refuse(verdict, event, header);
    }
    decision.meter.event(decision.tier);
    this.decision = decision;
    this.count++;
    this.#latency.begin(decision.meter, clock.monotonic());
    if (event.forged) metrics.forgedAnnotation();
    const clean = event.forged ? stripAnnotation(packet, event) : packet;
    // Of a state that the manifest lacks the rules are a guess: the companion there asks its own table.
    if (!decision.known) return clean;
    const note = { ...noteOf(decision.tier, user), ...(verdict === 'unknown' && { rules: access }) };
    return this.#annotated(clean, event, note, target.maxPayload);
  }

  /** undefined: nobody asked, since nobody needs to know. */
  #user(tier: Decision['tier'], access: readonly Access[]): AuthResult | 'wait' | undefined {
    const { users, clock } = this.#context;
    if (tier === 'none' && access.length === 0) return undefined;
    if (users === undefined) return undefined;
    return this.identity.known(users.resolver, users.cookie, clock) ?? 'wait';
  }

  /** Whether the worker can be told to enforce the rules itself. One that no link leads to may not know of any. */
  #canDelegate({ linkedAs, maxPayload }: PacketTarget, packet: string): boolean {
    return linkedAs !== undefined && this.#context.workerEnforces && packet.length + MAX_ANNOTATION <= maxPayload;
  }

  #refuse(verdict: Exclude<Verdict, 'allow'>, event: ReflexEvent, header: PacketHeader): Prepared {
    const { namespace, loginUrl, metrics } = this.#context;
    metrics.accessRefused(verdict);
    if (header.type === SocketPacket.connect) {
      return { kind: 'refused', answer: encodeConnectError(namespace, 'This event may not run.') };
    }
    return { kind: 'refused', answer: refusalUpdate(verdict, { namespace, loginUrl, path: event.path }) };
  }

  #annotated(packet: string, event: ReflexEvent, note: Note, accepted: number): string {
    const { annotator, metrics } = this.#context;
    if (annotator === undefined) return packet;
    this.#tokenHash ??= tokenHash(this.#token);
    const session = annotator.cookie === null ? '' : this.identity.session(annotator.cookie);
    const annotation = annotator.annotate({ token: this.#tokenHash, session }, event.name, note);
    const annotated = insertAnnotation(packet, event, annotation);
    if (exceedsCodePoints(annotated, accepted)) return packet;
    metrics.annotated();
    return annotated;
  }
}

const MAX_PATH = 1_024;
/** No annotation is longer: payload, mac and the key around them. Characters. */
const MAX_ANNOTATION = 8_400;
