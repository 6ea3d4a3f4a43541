import { describe, expect, it } from 'vitest';
import type { Berth } from '../../../../src/core/links/berth.ts';
import { BerthSearch } from '../../../../src/core/links/berth-search.ts';
import { LinkedWorkers, type Wish } from '../../../../src/core/links/linked-workers.ts';
import type { LinkedWorker } from '../../../../src/ports/links.ts';
import type { ClientToken } from '../../../../src/protocol/brand.ts';
import { readManifest } from '../../../../src/protocol/manifest.ts';
import { SESSIONS_MANIFEST } from '../../../support/link-worker.ts';
import { upTo } from '../../../support/linked-stage.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const OLD = { build: 'a'.repeat(16), schema: 'old' };
const NEW = { build: 'b'.repeat(16), schema: 'new' };
const WARM = 10_000;

/** Linked workers of a sidecar, and which of them sessions get. */
class Harbour {
  readonly clock = new ManualClock();
  readonly workers = new LinkedWorkers({ clock: this.clock, logger: { info: () => undefined } as never });
  readonly #linked = new Map<string, LinkedWorker>();

  link(instance: string, changes: object = {}, load: Partial<LinkedWorker['load']> = {}): void {
    this.#linked.set(instance, {
      manifest: readManifest({ ...SESSIONS_MANIFEST, instance, ...changes }),
      since: this.clock.monotonic(),
      drainBy: undefined,
      load: { sessions: 0, inFlight: 0, lag: 0, rss: 0, links: 1, ...load },
      attach: () => ({}) as never,
    });
    this.#update();
  }

  unlink(instance: string): void {
    this.#linked.delete(instance);
    this.#update();
  }

  berth(instance: string): Berth {
    return this.workers.byInstance(instance) as Berth;
  }

  /** The worker that a session gets. */
  choose(wish: { token?: string; build?: string; schema?: string } = {}, refused: readonly string[] = []): string {
    const full: Wish = { token: (wish.token ?? '') as ClientToken, build: wish.build, schema: wish.schema };
    const berths = new Set(refused.map((instance) => this.berth(instance)));
    return this.workers.choose(full, berths, true)?.instance ?? 'none';
  }

  /** How many of so many tabs each worker gets. */
  shares(tabs: number): Record<string, number> {
    const shares: Record<string, number> = {};
    for (const n of upTo(tabs)) {
      const chosen = this.choose({ token: `tab-${n}` });
      shares[chosen] = (shares[chosen] ?? 0) + 1;
    }
    return shares;
  }

  /** A session asks for a place there and holds it, or stands in line. */
  come(token: string): void {
    const search = new BerthSearch(this.workers, this.clock, (berth) =>
      berth.sessions.add({ move: async () => undefined }),
    );
    search.any({ token: token as ClientToken, build: undefined, schema: undefined });
  }

  #update(): void {
    this.workers.update([...this.#linked.values()]);
  }
}

describe('a session without a worker', () => {
  it('gets the one with the fewest sessions, whoever holds them', () => {
    const harbour = new Harbour();
    harbour.link('full', {}, { sessions: 100 });
    harbour.link('empty', {}, { sessions: 10 });
    expect(harbour.shares(20)).toEqual({ empty: 20 });
  });

  it('gets the one that works on the fewest events: each weighs as much as twenty sessions', () => {
    const harbour = new Harbour();
    harbour.link('busy', {}, { sessions: 10, inFlight: 10 });
    harbour.link('full', {}, { sessions: 150 });
    expect(harbour.shares(20)).toEqual({ full: 20 });
  });

  it('gets one by its token where they are alike, so that every sidecar chooses the same', () => {
    const [one, other] = [new Harbour(), new Harbour()];
    for (const instance of ['a', 'b']) one.link(instance);
    for (const instance of ['b', 'a']) other.link(instance);
    const tokens = upTo(40).map((n) => `tab-${n}`);
    const chosen = tokens.map((token) => one.choose({ token }));
    expect(tokens.map((token) => other.choose({ token }))).toEqual(chosen);
    expect(new Set(chosen)).toEqual(new Set(['a', 'b']));
  });

  it('that comes with many others gets its share of each: who stands in line is counted', () => {
    const harbour = new Harbour();
    harbour.link('a', {}, { sessions: 100 });
    harbour.link('b', {}, { sessions: 120 });
    for (const n of upTo(400)) harbour.come(`tab-${n}`);
    const [a, b] = [harbour.berth('a'), harbour.berth('b')];
    // Eight at a time: all others stand in line.
    expect([a.sessions.size, b.sessions.size]).toEqual([8, 8]);
    expect(a.coming + b.coming).toBe(384);
    expect(a.coming).toBeLessThan(250);
    expect(b.coming).toBeLessThan(250);
    for (const _ of upTo(100)) harbour.clock.advance(500);
    expect([a.coming, b.coming]).toEqual([0, 0]);
    expect(a.sessions.size + b.sessions.size).toBe(400);
  });
});

describe('a new worker', () => {
  it('gets a share that grows while its code is cold', () => {
    const harbour = new Harbour();
    harbour.link('warm', {}, { sessions: 50 });
    harbour.clock.advance(WARM);
    harbour.link('new', {}, { sessions: 9 });
    expect(harbour.shares(10)).toEqual({ warm: 10 });
    harbour.clock.advance(WARM / 2);
    expect(harbour.shares(10)).toEqual({ new: 10 });
  });

  it('is not cold again because its link was lost', () => {
    const harbour = new Harbour();
    harbour.link('a', {}, { sessions: 50 });
    harbour.link('b', {}, { sessions: 20 });
    harbour.clock.advance(WARM);
    harbour.unlink('b');
    harbour.link('b', {}, { sessions: 20 });
    expect(harbour.shares(10)).toEqual({ b: 10 });
  });
});

describe('a page', () => {
  it('keeps to its build while such a worker is there', () => {
    const harbour = new Harbour();
    harbour.link('old', OLD, { sessions: 1_000 });
    harbour.link('new', NEW);
    expect(harbour.choose({ build: OLD.build })).toBe('old');
    harbour.unlink('old');
    expect(harbour.choose({ build: OLD.build })).toBe('new');
  });

  it('keeps to it when it comes back and its own worker has gone', () => {
    const harbour = new Harbour();
    harbour.link('a1', OLD);
    harbour.link('a2', OLD, { sessions: 1_000 });
    harbour.link('b', NEW);
    harbour.workers.remember('tab' as ClientToken, harbour.berth('a1'));
    expect(harbour.choose({ token: 'tab' })).toBe('a1');
    harbour.unlink('a1');
    expect(harbour.choose({ token: 'tab' })).toBe('a2');
  });

  it('that was loaded anew goes to a worker it was made for, not to the one that had its tab', () => {
    const harbour = new Harbour();
    harbour.link('old', OLD);
    harbour.link('new', NEW, { sessions: 1_000 });
    harbour.workers.remember('tab' as ClientToken, harbour.berth('old'));
    expect(harbour.choose({ token: 'tab', schema: NEW.schema })).toBe('new');
    expect(harbour.choose({ token: 'tab', schema: OLD.schema })).toBe('old');
    expect(harbour.choose({ token: 'tab', schema: 'of no worker' })).toBe('old');
  });

  it('waits where the only worker of its build refuses it once', () => {
    const harbour = new Harbour();
    harbour.link('old', OLD);
    harbour.link('new', NEW);
    expect(harbour.choose({ build: OLD.build }, ['old'])).toBe('none');
  });

  it('goes to another build where those of its own refuse it again and again', () => {
    const harbour = new Harbour();
    harbour.link('old', OLD);
    harbour.link('new', NEW);
    const asked: string[] = [];
    const search = new BerthSearch(harbour.workers, harbour.clock, (berth, slot) => {
      slot.release();
      asked.push(berth.instance);
      search.refusedBy(berth);
      if (berth.instance === 'old') search.any({ token: '' as ClientToken, build: OLD.build, schema: undefined });
    });
    search.any({ token: '' as ClientToken, build: OLD.build, schema: undefined });
    for (const _ of upTo(4)) harbour.clock.advance(500);
    expect(asked).toEqual(['old', 'old', 'old', 'old', 'new']);
  });
});
