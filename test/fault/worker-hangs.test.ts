import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { LedgerFleet, linksOf, sampleOf } from '../support/ledger-fleet.ts';
import { expectSound, expectUnnoticed } from '../support/soundness.ts';
import { Tab } from '../support/tab.ts';

let fleet: LedgerFleet;
let tab: Tab;

beforeAll(async () => {
  fleet = await LedgerFleet.start();
  await fleet.addSidecar();
  await fleet.addWorker();
});

afterEach(async () => {
  tab.ask('quiet');
  await tab.leave();
});

afterAll(() => fleet?.stop());

const lostLinks = (): Promise<number> => sampleOf(fleet.first, 'bridgehead_link_events_total{event="down"}');

describe('a worker that is slow', () => {
  it('keeps its sessions, through handlers of three seconds and an event loop that stands still for as long', async () => {
    tab = await Tab.open(fleet.first.url);
    const other = await Tab.open(fleet.first.url);
    const before = await lostLinks();
    const slow = tab.send('slow', { seconds: 3 });
    const quick = other.send();
    await other.shows([quick], 2_500);
    await tab.shows([slow]);
    const blocked = tab.send('block', { seconds: 3 });
    await eventually(() => fleet.lines(tab.token).some(({ kind, id }) => kind === 'begun' && id === blocked)).toBe(
      true,
    );
    const waiting = [other.send(), other.send()];
    await other.shows(waiting);
    await tab.shows([blocked, tab.send()]);
    expectUnnoticed(fleet, tab);
    expectUnnoticed(fleet, other);
    expect(await lostLinks()).toBe(before);
    await other.leave();
  });
});

describe('a worker that hangs', () => {
  it('loses its sessions to another, and runs nothing of them when it wakes up', async () => {
    tab = await Tab.open(fleet.first.url);
    tab.ask('tick');
    await eventually(() => tab.ticks).toBeGreaterThan(1);
    await tab.shows([tab.send()]);
    await fleet.idle();
    const { worker, pid } = await fleet.holder();
    const other = await fleet.addWorker();
    worker.process.signalGroup('SIGSTOP');
    const lost = [tab.send(), tab.send(), tab.send()];
    expect(await fleet.movedFrom(worker)).toBe(other);
    // It may have had them: they are told, and not sent again.
    await tab.shows([tab.send()]);
    expect(tab.toasts).toHaveLength(1);
    const count = fleet.lines(tab.token).filter((line) => line.pid === pid).length;
    worker.process.signalGroup('SIGCONT');
    await eventually(async () => (await linksOf(fleet.first)).length).toBe(2);
    const ended = (): boolean => fleet.lines(tab.token).some((line) => line.kind === 'tick.ended' && line.pid === pid);
    await eventually(ended, { timeout: 30_000 }).toBe(true);
    await tab.shows([tab.send()]);
    // What it does in the moment before it looks is one turn of what already ran; nothing new begins.
    const woken = fleet.lines(tab.token).filter((line) => line.pid === pid);
    expect(woken.filter(({ kind }) => kind === 'ran')).toHaveLength(1);
    expect(woken.slice(count).filter(({ kind }) => kind === 'tick').length).toBeLessThanOrEqual(30);
    expect(tab.ids.filter((id) => lost.includes(id))).toEqual([]);
    expectSound(fleet, tab);
    expect(tab.isOpen).toBe(true);
  });
});

describe('a worker with another secret', () => {
  it('is refused, told so, and gets no session; the others go on', async () => {
    tab = await Tab.open(fleet.first.url);
    const links = (await linksOf(fleet.first)).length;
    const stranger = await fleet.addWorker({
      links: false,
      env: { BRIDGEHEAD_SECRET: 'another secret that is long enough for a key' },
    });
    await eventually(stranger.log).toContain('AUTH');
    await eventually(() => sampleOf(fleet.first, 'bridgehead_link_events_total{event="refused"}')).toBeGreaterThan(0);
    expect((await linksOf(fleet.first)).length).toBe(links);
    await tab.shows([tab.send()]);
    expectUnnoticed(fleet, tab);
  });
});
