import { randomUUID } from 'node:crypto';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Headers, SendResult } from '../../ports/transport.ts';
import type {
  AttachAnswer,
  BackgroundHandler,
  HandlerCall,
  Outcome,
  VirtualEnd,
  VirtualSession,
} from '../../ports/virtual-session.ts';
import type { Subscription } from '../../protocol/link-live.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { SocketPacket, type PacketHeader } from '../../protocol/socket-io.ts';
import { withToken } from '../http/query.ts';
import type { LiveHub } from '../live/live-hub.ts';
import type { ClientInfo } from '../relay/client-info.ts';
import type { Waiting } from '../relay/inbound-queue.ts';
import {
  NOTHING_LEFT,
  type Leftovers,
  type SessionChannel,
  type SessionChannelSink,
  type TokenClaim,
} from '../relay/session-channel.ts';
import type { Decision } from '../tiers/tier-resolver.ts';
import { Attachment, type AttachmentEvents } from './attachment.ts';
import type { Berth } from './berth.ts';
import { BerthSearch } from './berth-search.ts';
import { Connects } from './connects.ts';
import { InFlight, type Aftermath } from './in-flight.ts';
import { Injections, type InjectionHost } from './injections.ts';
import type { LinkedWorkers } from './linked-workers.ts';
import { Restores } from './restores.ts';
import type { Slot } from './slots.ts';

export interface LinkedChannelParts {
  readonly workers: LinkedWorkers;
  readonly namespace: string;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** undefined: nobody can subscribe to changes. */
  readonly live: LiveHub | undefined;
  /** How long packets wait for a worker. Milliseconds. */
  readonly wait: number;
}

/** A worker whose link is lost may be back within this, and knows then what it received. Milliseconds. */
const RETURN = 500;
/** So long it keeps its sessions; where no other worker could take them, nothing is gained by giving it up sooner. Milliseconds. */
const KEPT = 5_000;
/** How long a worker may take to let go of a session that leaves for good. Milliseconds. */
const LEAVE = 5_000;
/** What was said longer ago than this has certainly arrived, whatever became of the link afterwards. Milliseconds. */
const ARRIVED = 10_000;
/** How long a worker may take to connect the client's namespaces again. Milliseconds. */
const JOIN_TIMEOUT = 15_000;
/** So long before the worker's time is over its unfinished sessions are taken away. Milliseconds. */
const MARGIN = 1_000;

/**
 * `placing`: no worker has the session. `attaching`: one was asked. `joining`: the client's namespaces are being connected there again.
 * `open`: packets pass. `leaving`: the worker stops; what it has is finished, nothing new is given. `returning`: the link is lost, and the
 * worker may be back. `closing`: the session ends.
 */
type State = 'placing' | 'attaching' | 'joining' | 'open' | 'leaving' | 'returning' | 'closing' | 'closed';

/** A session's way to whichever linked worker has it; the session never notices when that changes. */
export class LinkedChannel implements SessionChannel, AttachmentEvents, InjectionHost {
  readonly #parts: LinkedChannelParts;
  readonly #client: ClientInfo;
  readonly #sink: SessionChannelSink;
  readonly linkedAs = randomUUID();
  readonly #inFlight = new InFlight();
  readonly #connects: Connects;
  #search: BerthSearch;
  #state: State = 'placing';
  #attachment: Attachment | undefined;
  #claim: TokenClaim;
  /** The worker that had the session before, by its name in Reflex's records of tokens. */
  #from: string | undefined;
  #build: string | undefined;
  #token: ClientToken;
  /** Path and query of the handshake, with the token that the tab has now. */
  #target: string;
  /** A place for the next event, for as long as the session is asked whether it has one. */
  #slot: Slot | undefined;
  #attachSlot: Slot | undefined;
  /** The client's own CONNECT is sent again: its page was still loading. */
  #reconnects = false;
  readonly #restores = new Restores();
  /**
   * While `returning`: when the link was lost, and whether what was not received had certainly not run by then. `asked`: the worker may have taken
   * the session back, and gone on with it. `blind`: it was asked before over another link, whose answer was lost with it.
   */
  #lost: { readonly certain: boolean; readonly at: number; asked: boolean; blind: boolean } | undefined;
  /** When something last passed, either way. */
  #passed = -Infinity;
  /** Made when something is first to be started; `gone`: the client is. */
  #injections: Injections | 'gone' | undefined;
  #paused = false;
  #owed = 0;
  #timer: Timer | undefined;
  #deadline: Timer | undefined;
  /** The deadline has passed while a worker was asked. */
  #overdue = false;
  #onLeft: (() => void) | undefined;
  /** What the session left as it was closed. */
  #leftovers: Leftovers = NOTHING_LEFT;
  /** The worker was told to stop what it does for the session, which moves. */
  #letsGo = false;
  /** Somebody wants to hear what the worker says until it has let go. */
  #hasHeir = false;
  /** What the worker cannot take now stays in the session's queue; what was sent is the link's. */
  readonly bufferedBytes = 0;

  /** `background`: handlers that ran in a session whose tab this one takes over, and whose worker is gone. */
  constructor(
    client: ClientInfo,
    sink: SessionChannelSink,
    claim: TokenClaim,
    background: readonly HandlerCall[],
    parts: LinkedChannelParts,
  ) {
    this.#client = client;
    this.#sink = sink;
    this.#claim = claim;
    this.#token = client.token;
    this.#target = client.request.target;
    this.#parts = parts;
    this.#connects = new Connects(parts.namespace);
    this.#restores.ran(background);
    this.#search = new BerthSearch(parts.workers, parts.clock, (berth, slot) => this.#attach(berth, slot));
    this.#place();
  }

  get where(): string {
    return this.#attachment?.berth.instance ?? '';
  }

  get maxPayload(): number {
    return this.#attachment?.berth.worker.manifest.maxPayload ?? 0;
  }

  get work(): SessionChannel['work'] {
    if (this.#isAway) return 'away';
    return this.#isBusy ? 'busy' : 'idle';
  }

  get #isAway(): boolean {
    return this.#state === 'placing' || this.#state === 'returning';
  }

  /** The worker has something of the session's to do. */
  get #isBusy(): boolean {
    return this.#inFlight.busy || this.#restores.busy;
  }

  get #session(): VirtualSession | undefined {
    return this.#attachment?.session;
  }

  ready(): boolean {
    const attachment = this.#attachment;
    if (this.#state !== 'open' || attachment?.session === undefined) {
      if (this.#isAway) this.#search.hurry();
      if (this.#isAway || this.#state === 'attaching' || this.#state === 'joining') this.#watchDeadline();
      return false;
    }
    if (attachment.session.blocked) return false;
    if (this.#slot !== undefined || attachment.berth.events.free) return true;
    attachment.berth.events.wait(this.#granted);
    return false;
  }

  send(frame: string | Buffer, _: boolean, item: Waiting, event: Decision | undefined): SendResult {
    const session = this.#session;
    if (session === undefined || this.#state !== 'open') return 'dropped';
    this.#passed = this.#parts.clock.monotonic();
    const result =
      item.kind === 'packet' ? this.#sendPacket(session, frame, item, event) : this.#sendBinary(session, item);
    this.#pump();
    return result;
  }

  #sendPacket(
    session: VirtualSession,
    frame: string | Buffer,
    item: Waiting & { kind: 'packet' },
    event: Decision | undefined,
  ): SendResult {
    const isConnect = this.#connects.noteClient(item);
    if (isConnect && !this.#connects.loads) this.#forgetHandlers();
    const isEvent = isConnect || isEventPacket(item.header);
    const slot = isEvent ? (this.#slot ?? this.#attachment?.berth.events.take()) : undefined;
    if (isEvent) this.#slot = undefined;
    const number = this.#inFlight.add(item, { isEvent, isConnect, repeatable: event?.retry === true, slot });
    // With binary frames it is an event once the last of them is there.
    return session.send(number, frame, false, isEvent && item.header.attachments === 0);
  }

  /** Its page loads by later events (reflex 0.9): nobody can tell which handlers it starts itself. */
  #forgetHandlers(): void {
    const lost = this.#restores.take().length;
    if (lost > 0) this.#sink.interrupted(lost);
  }

  #sendBinary(session: VirtualSession, item: Waiting & { kind: 'attachment' }): SendResult {
    const sent = this.#inFlight.addBinary(item);
    return sent === undefined ? 'dropped' : session.send(sent.number, item.data, true, sent.endsEvent);
  }

  /** Where a handler may be started. */
  get open(): Berth | undefined {
    const attachment = this.#attachment;
    const isOpen = this.#state === 'open' && !this.#connects.pending && attachment?.session?.blocked === false;
    return isOpen ? attachment?.berth : undefined;
  }

  get userWaits(): boolean {
    return this.#sink.first() !== undefined;
  }

  inject(call: HandlerCall): number {
    const number = this.#inFlight.number();
    this.#session?.inject(number, call, false);
    return number;
  }

  run(call: HandlerCall): ReturnType<SessionChannel['run']> {
    const injections = this.#injecting();
    if (injections === undefined) return 'away';
    return injections.push(call) ? 'queued' : 'full';
  }

  rename(token: ClientToken): void {
    this.#token = token;
    this.#target = withToken(this.#target, token);
    const berth = this.#attachment?.berth;
    if (berth !== undefined) this.#parts.workers.remember(token, berth);
  }

  clientGone(): void {
    this.#present?.close();
    this.#injections = 'gone';
  }

  started(handler: BackgroundHandler): void {
    this.#restores.started(handler);
  }

  subscribe(subscription: Subscription): void {
    this.#injecting()?.subscribe(subscription);
  }

  unsubscribe(id: string): void {
    this.#present?.unsubscribe(id);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#owed > 0) this.#session?.taken(this.#owed);
    this.#owed = 0;
  }

  async close(how: 'closed' | 'lost' | 'takeover'): Promise<Leftovers> {
    if (this.#state === 'closed' || this.#state === 'closing') return NOTHING_LEFT;
    const session = this.#session;
    const isAway = this.#isAway;
    const held = this.#state !== 'attaching';
    this.#rest();
    this.#forgetDeadline();
    this.#left();
    if (session === undefined || isAway) {
      // Where the worker is asked to take the session back, it must not keep it.
      session?.detach(how);
      this.#leave('gone', isCertain(this.#lost));
      return this.#leftovers;
    }
    this.#state = 'closing';
    this.#hasHeir = how === 'takeover';
    await new Promise<void>((resolve) => {
      this.#onLeft = resolve;
      const detach = (): void => {
        this.#timer = this.#parts.clock.setTimeout(() => this.#leave('gone', false), LEAVE);
        session.detach(how);
      };
      if (held) this.#leaveInTurn(detach);
      else detach();
    });
    return this.#leftovers;
  }

  move(by: number): Promise<void> {
    // Before it is open it has nothing to finish there, and leaves as soon as it is.
    if (this.#state !== 'open') return Promise.resolve();
    const { clock } = this.#parts;
    return new Promise((resolve) => {
      this.#onLeft = resolve;
      this.#timer = clock.setTimeout(() => this.#detach(), Math.max(0, by - MARGIN - clock.monotonic()));
      this.#state = 'leaving';
      this.#releaseSlot();
      this.#detachWhenDone();
    });
  }

  answered(answer: AttachAnswer): void {
    if (this.#state === 'closing') return answer.kind === 'attached' ? undefined : this.#leave('done', true);
    if (answer.kind === 'attached') return this.#attached(answer);
    const berth = this.#attachment?.berth;
    if (this.#state === 'returning') return this.#notReturned(answer.kind === 'refused' && answer.code === 'unknown');
    this.#dropAttachment();
    // The tab has come back over another sidecar, and lives there.
    if (answer.kind === 'refused' && answer.code === 'taken') return this.#end('lost');
    if (answer.kind !== 'elsewhere') {
      if (berth !== undefined) this.#search.refusedBy(berth);
      return this.#place();
    }
    const holder = this.#parts.workers.byTokens(answer.holder);
    if (holder?.open === false) {
      // It gives its sessions to others, which can then be asked whether the other client lives.
      this.#state = 'placing';
      if (this.userWaits) this.#watchDeadline();
      return this.#search.later(() => this.#place());
    }
    // Nobody who is linked has it: its worker is gone, and the record is all that is left of it.
    if (holder === undefined || holder === berth) {
      this.#claim = 'takeover';
      this.#from = answer.holder;
    }
    const next = holder ?? berth;
    if (next === undefined) this.#place();
    else this.#search.at(next, () => this.#place());
  }

  message(frame: Buffer, binary: boolean): void {
    if (this.#state === 'closing' && !this.#hasHeir) return;
    this.#passed = this.#parts.clock.monotonic();
    if (this.#paused) this.#owed += frame.length;
    else this.#session?.taken(frame.length);
    switch (binary ? 'pass' : this.#connects.noteWorker(frame)) {
      case 'connected':
        this.#sink.message(frame, binary);
        return this.#restore();
      case 'pass':
        return this.#sink.message(frame, binary);
      case 'joined':
        return this.#state === 'joining' ? this.#opened() : this.#restore();
      case 'refused':
        return this.#end('refused');
      case 'swallow':
    }
  }

  received(number: number): void {
    this.#inFlight.received(number);
    this.#present?.received(number);
    this.#detachWhenDone();
  }

  done(number: number, outcome: Outcome): void {
    const wasConnecting = this.#inFlight.connecting;
    this.#inFlight.done(number);
    this.#restores.done(number);
    this.#present?.done(number, outcome);
    if (!this.#inFlight.connecting && this.#state !== 'closing') {
      this.#releaseAttach();
      // The page has loaded, and its own handlers run.
      if (wasConnecting && this.#state === 'open' && !this.#connects.pending) this.#restore();
    }
    this.#detachWhenDone();
  }

  drained(): void {
    this.#sink.drained();
    this.#pump();
  }

  probe(): void {
    if (this.#attachment !== undefined) void this.#answerProbe(this.#attachment);
  }

  /** The answer has all that came until it is given; what comes later the worker hands on itself. */
  async #answerProbe(attachment: Attachment): Promise<void> {
    const { seen } = attachment;
    // What came in one piece with the question is not kept yet.
    await Promise.resolve();
    const { alive, kept } = await this.#sink.probe();
    attachment.session?.probed(alive, kept, attachment.seen - seen);
  }

  ended(end: VirtualEnd, background: readonly BackgroundHandler[], unrun: readonly number[]): void {
    if (this.#state === 'closing') {
      if (end !== 'detached') return this.#leave('gone', end === 'lost');
      return this.#letsGo ? this.#leave('moved', true, background, unrun) : this.#leave('done', true);
    }
    switch (end) {
      case 'closed':
        return this.#end('closed');
      case 'slow':
      case 'failed':
        // Its events may have run or not.
        this.#tellLost(this.#inFlight.takeAll(false, unrun));
        return this.#end(end === 'slow' ? 'slow' : 'lost');
      case 'detached':
        return this.#departed(background, unrun);
      case 'unanswered':
        return this.#crashed(false);
      case 'lost':
      case 'silent':
        return this.#cut(end === 'lost');
    }
  }

  readonly #granted = (slot: Slot): void => {
    if (this.#state !== 'open' || this.#slot !== undefined) return slot.release();
    this.#slot = slot;
    this.#sink.drained();
    // Whoever wanted it may have nothing left to send: the next in line gets it. Who has more stands in line again.
    this.#returnSlot();
  };

  #place(): void {
    this.#state = 'placing';
    if (this.#overdue) return this.#end('no_worker');
    // Nobody asks again whether it is ready where a worker was asked and refused.
    if (this.userWaits) this.#watchDeadline();
    this.#search.any({ token: this.#token, build: this.#build, schema: this.#schema });
  }

  /** Of the page's own CONNECT, which may wait still. */
  get #schema(): string | undefined {
    const first = this.#sink.first();
    return (first?.kind === 'packet' ? this.#connects.schemaIn(first) : undefined) ?? this.#connects.schema;
  }

  #attach(berth: Berth, slot: Slot): void {
    const before = this.#state === 'returning' ? this.#attachment : undefined;
    if (before === undefined) this.#state = 'attaching';
    else if (this.#lost !== undefined) {
      this.#lost.blind = this.#lost.asked;
      this.#lost.asked = true;
    }
    this.#attachSlot = slot;
    const attachment = new Attachment(berth, this, before);
    this.#attachment = attachment;
    const { headers, protocols } = this.#client.request;
    attachment.session = berth.worker.attach(
      {
        session: this.linkedAs,
        target: this.#target,
        headers: pairsOf({ ...headers, cookie: this.#sink.cookies(berth.worker.manifest.cookie) }),
        client: this.#client.address,
        protocol: protocols[0],
        takeover: this.#claim === 'takeover',
        from: this.#claim === 'takeover' ? this.#from : undefined,
        force: this.#claim === 'shared',
        resume: before === undefined ? undefined : { seen: before.seen },
      },
      attachment,
    );
  }

  #attached(answer: AttachAnswer & { kind: 'attached' }): void {
    const attachment = this.#attachment;
    if (attachment === undefined) return;
    if (this.#state === 'returning') {
      const missed = answer.sent > attachment.seen || this.#lost?.blind === true;
      // Counted anew for each link.
      attachment.seen = 0;
      return this.#returned(answer, missed);
    }
    this.#inFlight.reset();
    const { berth, session } = attachment;
    this.#build = berth.worker.manifest.build;
    this.#parts.workers.remember(this.#token, berth);
    const packets = this.#connects.again(this.#reconnects);
    this.#reconnects = false;
    this.#state = 'joining';
    this.#timer = this.#parts.clock.setTimeout(() => this.#unjoined(berth), JOIN_TIMEOUT);
    for (const packet of packets) session?.send(this.#inFlight.number(), packet, false, true);
    if (!this.#connects.incomplete) this.#opened();
  }

  /** The worker took the session and does not connect it. */
  #unjoined(berth: Berth): void {
    this.#search.refusedBy(berth);
    this.#session?.detach('move');
  }

  /** The worker kept the session while its link was away. */
  #returned({ received, open }: AttachAnswer & { kind: 'attached' }, missed: boolean): void {
    // Nobody says again that a namespace of the client's is connected: another attach does.
    if (missed && this.#connects.unanswered) return this.#crashed(false);
    this.#restores.resumed(received, open);
    if (missed) this.#restores.lacks();
    // The worker tells anew what runs.
    this.#attachment?.running.clear();
    const again = this.#inFlight.takeUnreceived(received, open);
    this.#present?.resumed(received, open);
    this.#parts.metrics.sessionMoved('resumed');
    // Before what came meanwhile, which goes as soon as the session is open.
    if (again.length > 0) this.#sink.returned(again);
    this.#opened();
  }

  /** The worker has the session. */
  #opened(): void {
    this.#state = 'open';
    this.#claim = 'takeover';
    this.#letsGo = false;
    this.#timer?.cancel();
    this.#search.found();
    this.#forgetDeadline();
    if (!this.#connects.pending) this.#restore();
    this.#sink.drained();
    this.#left();
    const by = this.#attachment?.berth.worker.drainBy;
    if (by !== undefined) void this.move(by);
  }

  /** Reflex's namespace is connected: what the session had at its worker before is brought back. */
  #restore(): void {
    const session = this.#session;
    const loads = this.#inFlight.connecting;
    if (session !== undefined) this.#restores.begin(session, () => this.#inFlight.number(), loads);
    if (!loads) this.#releaseAttach();
    this.#pump();
  }

  /** A session's end costs its worker nearly as much as its begin: thousands that end at once must not keep the others waiting. */
  #leaveInTurn(detach: () => void): void {
    const { workers, clock } = this.#parts;
    const berth = this.#attachment?.berth;
    this.#search = new BerthSearch(workers, clock, (_, slot) => {
      this.#attachSlot = slot;
      detach();
    });
    // Somebody waits for it.
    if (this.#hasHeir) this.#search.hurry();
    if (berth === undefined) detach();
    else this.#search.at(berth, detach, 'leaves');
  }

  #detachWhenDone(): void {
    if (this.#state !== 'leaving' || this.#isBusy || this.#present?.busy === true) return;
    this.#detach();
  }

  #detach(): void {
    this.#timer?.cancel();
    if (this.#state !== 'leaving') return;
    this.#letsGo = true;
    this.#session?.detach('move');
  }

  /** The worker has let go: on to another one. */
  #departed(background: readonly BackgroundHandler[], unrun: readonly number[]): void {
    const aftermath = this.#inFlight.takeAll(true, unrun);
    this.#present?.gone(true, unrun);
    this.#restores.gone();
    if (aftermath.unsure > 0) this.#restores.lacks();
    if (this.#persists) this.#moveOn('drained', aftermath, background);
    else this.#beginAnew(aftermath);
  }

  /** The link is gone. The worker may not be: it is given a moment to come back. */
  #cut(certain: boolean): void {
    const attachment = this.#attachment;
    if (attachment === undefined) return this.#place();
    const isHeld = this.#state === 'open' || this.#state === 'leaving';
    this.#rest();
    this.#state = 'returning';
    if (!isHeld) return this.#crashed(certain);
    this.#lost = { certain, at: this.#parts.clock.monotonic(), asked: false, blind: false };
    this.#awaitReturn(attachment.berth, this.#lost);
    // What already waits must not wait for ever.
    this.#sink.drained();
  }

  #awaitReturn(berth: Berth, lost: { certain: boolean; at: number; asked: boolean }): void {
    const { clock, wait } = this.#parts;
    const { at } = lost;
    const passed = clock.monotonic() - at;
    const times = { soon: Math.max(0, RETURN - passed), late: Math.max(0, Math.min(KEPT, wait) - passed) };
    this.#search.returnOf(berth.instance, times, () => this.#crashed(isCertain(lost)));
  }

  /** The worker could not be asked, or (`isUnknown`) says that it has the session no more, and so did not go on with it. */
  #notReturned(isUnknown: boolean): void {
    const lost = this.#lost ?? { certain: false, at: -Infinity, asked: true, blind: true };
    const berth = this.#attachment?.berth;
    this.#releaseAttach();
    if (berth === undefined || berth.linked) this.#crashed(isUnknown && lost.certain && !lost.blind);
    // The next link was cut as well.
    else this.#awaitReturn(berth, lost);
  }

  #crashed(certain: boolean): void {
    const attachment = this.#attachment;
    const background = [...(attachment?.running.values() ?? [])];
    const aftermath = this.#inFlight.takeAll(certain);
    this.#present?.gone(certain, []);
    // Handlers that ran may have changed the state without a word reaching the browser.
    const mayLack = !certain && this.#parts.clock.monotonic() - this.#passed < ARRIVED;
    this.#restores.gone();
    if (mayLack || aftermath.unsure > 0 || background.length > 0) this.#restores.lacks();
    if (this.#persists) this.#moveOn('crashed', aftermath, background);
    else this.#beginAnew(aftermath);
  }

  get #persists(): boolean {
    return this.#attachment?.berth.worker.manifest.persistent !== false;
  }

  /** The state is gone with its worker: only the client itself can begin anew. */
  #beginAnew(aftermath: Aftermath): void {
    this.#tellLost(aftermath);
    this.#end('lost');
  }

  /** Nothing of it goes on. */
  #tellLost({ again, unsure }: Aftermath): void {
    const lost = unsure + again.filter(({ kind }) => kind === 'packet').length;
    if (lost > 0) this.#sink.interrupted(lost);
  }

  #moveOn(how: 'drained' | 'crashed', { again, unsure }: Aftermath, background: readonly BackgroundHandler[]): void {
    // Where it was asked to take the session back and did not answer in time, it must not keep it.
    if (this.#state === 'returning') this.#session?.detach('move');
    this.#rest();
    this.#from = this.#attachment?.berth.worker.manifest.tokens ?? undefined;
    this.#dropAttachment();
    this.#parts.metrics.sessionMoved(how);
    this.#claim = 'takeover';
    this.#reconnects = this.#connects.returned(again);
    this.#restores.ran(background.filter(isCall));
    const lost = unsure + background.filter((handler) => !isCall(handler)).length;
    if (lost > 0) this.#sink.interrupted(lost);
    this.#place();
    if (again.length > 0) this.#sink.returned(again);
    else this.#sink.drained();
  }

  /** A packet waits and no worker has the session: not for ever. */
  #watchDeadline(): void {
    const wait = Math.max(this.#parts.wait, 2 * RETURN);
    this.#deadline ??= this.#parts.clock.setTimeout(() => this.#onDeadline(), wait);
  }

  #onDeadline(): void {
    this.#deadline = undefined;
    // There are workers: its turn comes, and then the answer, or a refusal.
    if (this.#search.inLine) this.#watchDeadline();
    else if (this.#isAway) this.#end('no_worker');
    else this.#overdue = true;
  }

  #forgetDeadline(): void {
    this.#deadline?.cancel();
    this.#deadline = undefined;
    this.#overdue = false;
  }

  #end(reason: Parameters<SessionChannelSink['ended']>[0]): void {
    if (this.#state === 'closed') return;
    this.#session?.detach('closed');
    this.#finish();
    this.#sink.ended(reason);
  }

  /**
   * It is closed. `done`: the worker let go in order, and has done or will do all that it was given; `moved`: it stopped these handlers, and these
   * packets have not run; `gone`: nobody can ask it any more. `certain`: what it had not received has not run.
   */
  #leave(
    how: 'done' | 'moved' | 'gone',
    certain: boolean,
    stopped: readonly BackgroundHandler[] = [],
    unrun: readonly number[] = [],
  ): void {
    const running = how === 'gone' ? [...(this.#attachment?.running.values() ?? [])] : stopped;
    if (how !== 'done') this.#restores.gone();
    const { again, unsure } = how === 'done' ? { again: [], unsure: 0 } : this.#inFlight.takeAll(certain, unrun);
    const background = [...running.filter(isCall), ...this.#restores.take()];
    this.#leftovers = { again, unsure: unsure + running.filter((handler) => !isCall(handler)).length, background };
    this.#finish();
  }

  /** Lets go of everything; nothing is heard from now on. */
  #finish(): void {
    this.#state = 'closed';
    this.#rest();
    this.#forgetDeadline();
    this.#dropAttachment();
    this.#inFlight.takeAll(false);
    this.clientGone();
    this.#left();
  }

  #dropAttachment(): void {
    const attachment = this.#attachment;
    this.#attachment = undefined;
    attachment?.abandon();
    if (attachment !== undefined) this.#parts.workers.left(attachment.berth);
    this.#releaseAttach();
  }

  /** Gives up places and waits. */
  #rest(): void {
    this.#search.stop();
    this.#timer?.cancel();
    this.#releaseSlot();
    this.#releaseAttach();
    this.#present?.leave();
  }

  get #present(): Injections | undefined {
    return this.#injections === 'gone' ? undefined : this.#injections;
  }

  #injecting(): Injections | undefined {
    if (this.#injections === 'gone') return undefined;
    this.#injections ??= new Injections(this, this.#parts);
    return this.#injections;
  }

  /** Nothing of the user's stands in its way, or it may be begun now. */
  #pump(): void {
    this.#present?.pump();
  }

  #left(): void {
    const onLeft = this.#onLeft;
    this.#onLeft = undefined;
    onLeft?.();
  }

  #releaseSlot(): void {
    this.#attachment?.berth.events.leave(this.#granted);
    this.#returnSlot();
  }

  #returnSlot(): void {
    const slot = this.#slot;
    this.#slot = undefined;
    slot?.release();
  }

  #releaseAttach(): void {
    const slot = this.#attachSlot;
    this.#attachSlot = undefined;
    slot?.release();
  }
}

/** Whether what a worker had not received has certainly not run. */
function isCertain(lost: { readonly certain: boolean; readonly asked: boolean } | undefined): boolean {
  return lost?.certain === true && !lost.asked;
}

/** Whether a worker runs something for it, in whatever namespace. */
function isEventPacket({ type }: PacketHeader): boolean {
  return type === SocketPacket.event || type === SocketPacket.binaryEvent;
}

/** Whether it is known well enough to be run again. */
function isCall(handler: BackgroundHandler): handler is HandlerCall {
  return handler.payload !== null;
}

function pairsOf(headers: Headers): [string, string][] {
  return Object.entries(headers).flatMap(([name, value]): [string, string][] => {
    if (value === undefined) return [];
    return typeof value === 'string' ? [[name, value]] : value.map((one): [string, string] => [name, one]);
  });
}
