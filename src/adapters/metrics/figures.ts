import type { EventLossReason, HandlerMeter, Metrics, RefusalReason, SessionCloseReason } from '../../ports/index.ts';
import type { GapReason } from '../../protocol/change.ts';
import type { Tier } from '../../protocol/tier.ts';
import { BOUNDS, Durations } from './durations.ts';
import { LiveFigures } from './live-figures.ts';
import { CLOSE_REASONS, GAP_REASONS, LOSS_REASONS, REFUSAL_REASONS } from './reasons.ts';
import { Tally } from './tally.ts';

/** Beyond this many handlers all further ones share `other`: each costs a scrape some fifteen lines. */
const MAX_HANDLERS = 1000;
const OTHER = 'other';

export type EventTier = Tier | 'worker';
export const EVENT_TIERS: readonly EventTier[] = ['none', 'auth_only', 'full', 'worker'];

class HandlerFigures implements HandlerMeter {
  none = 0;
  auth_only = 0;
  full = 0;
  worker = 0;
  readonly shadowed: Record<Tier, number> = { none: 0, auth_only: 0, full: 0 };
  wrong = 0;
  readonly firstUpdates = new Durations();
  readonly state: string;
  readonly handler: string;

  constructor(state: string, handler: string) {
    this.state = state;
    this.handler = handler;
  }

  event(tier: EventTier): void {
    this[tier]++;
  }

  firstUpdate(seconds: number): void {
    this.firstUpdates.observe(seconds);
  }

  shadow(tier: Tier, events: number): void {
    this.shadowed[tier] += events;
  }

  shadowWrong(events: number): void {
    this.wrong += events;
  }
}

/** Totals since the start; the difference of two is what happened between them. */
export interface MetricsSnapshot {
  readonly sessions: number;
  readonly sessionsOpened: number;
  readonly sessionsClosed: number;
  readonly events: Readonly<Record<EventTier, number>>;
  readonly firstUpdates: readonly number[];
  readonly refusals: number;
  readonly eventsLost: number;
  readonly eventsDelayed: number;
  readonly clientBytesIn: number;
  readonly clientBytesOut: number;
  readonly uploads: number;
}

/** The `Metrics` port as plain numbers, exact and without labels to hash per event. */
export class Figures extends LiveFigures implements Metrics {
  readonly handlers = new Map<string, HandlerFigures>();
  readonly opened = new Tally();
  readonly closed = new Tally(CLOSE_REASONS);
  readonly refusals = new Tally(REFUSAL_REASONS);
  readonly toPeers = new Tally({ request: 0, websocket: 0 });
  readonly losses = new Tally(LOSS_REASONS);
  readonly uploads = new Tally({ ok: 0, refused: 0, aborted: 0, upstream_error: 0 });
  readonly connects = new Tally({ ok: 0, failed: 0 });
  readonly links = new Tally({ up: 0, down: 0, refused: 0 });
  readonly moves = new Tally({ drained: 0, crashed: 0, resumed: 0 });
  readonly accessRefusals = new Tally({ login: 0, forbidden: 0, unknown: 0 });
  readonly authLookups = new Tally({ memory: 0, redis: 0, source: 0, unavailable: 0 });
  readonly published = new Tally({ ok: 0, failed: 0 });
  readonly gaps = new Tally(GAP_REASONS);
  readonly changeLags = new Durations();
  readonly connectDurations = new Durations();
  #readDeadLetters = (): number => 0;
  changesIn = 0;
  messagesMissed = 0;
  uploadBytes = 0;
  clientBytesIn = 0;
  clientBytesOut = 0;
  delayed = 0;
  forged = 0;
  annotations = 0;
  resolverErrors = 0;

  handler(state: string, handler: string): HandlerMeter {
    const name = `${state}\n${handler}`;
    const known = this.handlers.get(name);
    if (known) return known;
    // One place is kept for `other` itself.
    const full = this.handlers.size >= MAX_HANDLERS - (this.handlers.has(`${OTHER}\n${OTHER}`) ? 0 : 1);
    if (full && !(state === OTHER && handler === OTHER)) return this.handler(OTHER, OTHER);
    const figures = new HandlerFigures(state, handler);
    this.handlers.set(name, figures);
    return figures;
  }

  sessionOpened(transport: string): void {
    this.opened.add(transport);
  }

  sessionClosed(reason: SessionCloseReason): void {
    this.closed.add(reason);
  }

  refused(reason: RefusalReason): void {
    this.refusals.add(reason);
  }

  passedToPeer(what: 'request' | 'websocket'): void {
    this.toPeers.add(what);
  }

  eventLost(reason: EventLossReason, count: number): void {
    this.losses.add(reason, count);
  }

  messagesLost(count: number): void {
    this.messagesMissed += count;
  }

  clientBytes(direction: 'in' | 'out', bytes: number): void {
    if (direction === 'in') this.clientBytesIn += bytes;
    else this.clientBytesOut += bytes;
  }

  eventDelayed(): void {
    this.delayed++;
  }

  forgedAnnotation(): void {
    this.forged++;
  }

  annotated(): void {
    this.annotations++;
  }

  resolverError(): void {
    this.resolverErrors++;
  }

  upload(result: 'ok' | 'refused' | 'aborted' | 'upstream_error', bytes: number): void {
    this.uploads.add(result);
    this.uploadBytes += bytes;
  }

  upstreamConnect(result: 'ok' | 'failed', seconds: number): void {
    this.connects.add(result);
    this.connectDurations.observe(seconds);
  }

  accessRefused(verdict: 'login' | 'forbidden' | 'unknown'): void {
    this.accessRefusals.add(verdict);
  }

  authLookup(where: 'memory' | 'redis' | 'source' | 'unavailable'): void {
    this.authLookups.add(where);
  }

  linkState(event: 'up' | 'down' | 'refused'): void {
    this.links.add(event);
  }

  sessionMoved(how: 'drained' | 'crashed' | 'resumed'): void {
    this.moves.add(how);
  }

  changesPublished(result: 'ok' | 'failed', count: number): void {
    this.published.add(result, count);
  }

  changesReceived(count: number, lag: number): void {
    this.changesIn += count;
    this.changeLags.observe(lag);
  }

  changeGap(reason: GapReason): void {
    this.gaps.add(reason);
  }

  get deadLettersWaiting(): number {
    return this.#readDeadLetters();
  }

  deadLetters(read: () => number): void {
    this.#readDeadLetters = read;
  }

  snapshot(): MetricsSnapshot {
    const events: Record<EventTier, number> = { none: 0, auth_only: 0, full: 0, worker: 0 };
    const firstUpdates = Array.from({ length: BOUNDS.length + 1 }, () => 0);
    for (const figures of this.handlers.values()) {
      for (const tier of EVENT_TIERS) events[tier] += figures[tier];
      figures.firstUpdates.counts.forEach((count, bucket) => {
        firstUpdates[bucket] = (firstUpdates[bucket] ?? 0) + count;
      });
    }
    const [opened, closed] = [this.opened.total(), this.closed.total()];
    return {
      sessions: opened - closed,
      sessionsOpened: opened,
      sessionsClosed: closed,
      events,
      firstUpdates,
      refusals: this.refusals.total(),
      eventsLost: this.losses.total(),
      eventsDelayed: this.delayed,
      clientBytesIn: this.clientBytesIn,
      clientBytesOut: this.clientBytesOut,
      uploads: this.uploads.total(),
    };
  }
}
