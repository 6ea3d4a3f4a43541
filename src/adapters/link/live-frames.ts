import { randomUUID } from 'node:crypto';
import type { Clock } from '../../ports/clock.ts';
import type { Change, Gap } from '../../protocol/change.ts';
import { LinkFrame } from '../../protocol/link.ts';
import { changesMessage, readWatch, readWorkerChanges, readWorkerGap } from '../../protocol/link-live.ts';
import type { LinkConnection } from './link-connection.ts';

/** Takes what a worker publishes; resolves with whether the bus has it. Never rejects. */
export interface WorkerPublishing {
  published(changes: readonly Change[]): Promise<boolean>;
  missed(gap: Gap): Promise<boolean>;
}

/** What a worker publishes waits for the bus: so many frames at a time, further ones are to be sent again. */
const MAX_OPEN = 64;

/** Changes on one link, both ways (docs/PROTOCOL.md, "Live changes on a link"). */
export class LiveFrames {
  readonly #connection: LinkConnection;
  readonly #publishing: WorkerPublishing;
  readonly #clock: Clock;
  /** null: every model; undefined: it wants to hear nothing. */
  #watched: ReadonlySet<string> | null | undefined;
  #open = 0;
  /** The link was slow: changes were left out. */
  #missed = false;

  constructor(connection: LinkConnection, publishing: WorkerPublishing, clock: Clock) {
    this.#connection = connection;
    this.#publishing = publishing;
    this.#clock = clock;
  }

  /** Throws FrameError. */
  changes(body: Readonly<Record<string, unknown>>): void {
    const { n, changes } = readWorkerChanges(body, { id: () => randomUUID(), now: this.#clock.now() });
    void this.#answer(n, () => (changes.length === 0 ? Promise.resolve(true) : this.#publishing.published(changes)));
  }

  /** Throws FrameError. */
  gap(body: Readonly<Record<string, unknown>>): void {
    const { n, model } = readWorkerGap(body);
    void this.#answer(n, () => this.#publishing.missed({ reason: 'reported', ...(model !== undefined && { model }) }));
  }

  /** Throws FrameError. */
  watch(body: Readonly<Record<string, unknown>>): void {
    this.#watched = readWatch(body);
  }

  tell(changes: readonly Change[]): void {
    const watched = this.#watched;
    if (watched === undefined) return;
    const wanted = watched === null ? changes : changes.filter(({ model }) => watched.has(model));
    if (wanted.length === 0) return;
    // It reads too slowly to be told each: it is told once that it missed some.
    if (this.#connection.slow) this.#missed = true;
    else this.#connection.send(LinkFrame.changes, changesMessage(wanted));
  }

  tellGap({ model }: Gap): void {
    const watched = this.#watched;
    if (watched === undefined) return;
    if (model !== undefined && watched !== null && !watched.has(model)) return;
    if (this.#connection.slow) this.#missed = true;
    else this.#connection.send(LinkFrame.gap, model === undefined ? {} : { model });
  }

  drained(): void {
    if (!this.#missed) return;
    this.#missed = false;
    this.#connection.send(LinkFrame.gap, {});
  }

  async #answer(n: number, publish: () => Promise<boolean>): Promise<void> {
    if (this.#open >= MAX_OPEN) return this.#connection.send(LinkFrame.changed, { n, ok: false });
    this.#open++;
    const ok = await publish();
    this.#open--;
    this.#connection.send(LinkFrame.changed, { n, ok });
  }
}
