import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { waitUntil } from '../../tools/process.ts';
import { eventually } from '../support/eventually.ts';
import { LedgerFleet, linksOf, sampleOf } from '../support/ledger-fleet.ts';
import { expectSound, expectUnnoticed } from '../support/soundness.ts';
import { Tab } from '../support/tab.ts';
import { TcpProxy, type Direction } from '../support/tcp-proxy.ts';

let fleet: LedgerFleet;
let proxy: TcpProxy;
let tab: Tab;

beforeAll(async () => {
  fleet = await LedgerFleet.start();
  const sidecar = await fleet.addSidecar();
  proxy = await TcpProxy.start(Number(new URL(sidecar.linkUrl).port));
  // It dials through the stretch of network that fails.
  await fleet.addWorker({ linkUrls: [`tcp://127.0.0.1:${proxy.port}`] });
});

afterEach(async () => {
  tab.ask('quiet');
  await tab.leave();
});

afterAll(async () => {
  await fleet?.stop();
  await proxy?.stop();
});

const enter = async (): Promise<void> => {
  tab = await Tab.open(fleet.first.url);
  await tab.shows([tab.send()]);
};

const lostLinks = (): Promise<number> => sampleOf(fleet.first, 'bridgehead_link_events_total{event="down"}');

const linked = (count: number): Promise<void> =>
  waitUntil(async () => (await linksOf(fleet.first)).length === count, { what: `${count} links` });

describe('a link that is cut while its worker lives', () => {
  const cuts: readonly (readonly [Direction, number])[] = [
    ['up', 1],
    ['down', 1],
    ['up', 333],
    ['down', 1_003],
    ['down', 7],
    ['up', 2_500],
  ];

  it('in the middle of a frame, either way, again and again: nothing runs twice, nothing is out of order', async () => {
    await enter();
    for (const [direction, bytes] of cuts) {
      await tab.sendDuring(proxy.cutAfter(bytes, direction));
      await linked(1);
      await tab.shows([tab.send()]);
    }
    // Its worker was there again each time, and knew what it had received.
    expectUnnoticed(fleet, tab);
  });

  it('and leads nowhere without a word: the session goes on over a new one', async () => {
    await enter();
    await fleet.idle();
    const lost = await lostLinks();
    proxy.forget();
    const first = tab.send();
    await eventually(lostLinks).toBe(lost + 1);
    await linked(1);
    await tab.shows([tab.send()]);
    expectSound(fleet, tab);
    // It was on its way when the connection was forgotten: told, or still answered.
    if (!tab.ids.includes(first)) expect(tab.toasts).toHaveLength(1);
    expect(tab.isOpen).toBe(true);
  });

  it('and leads nowhere while another worker is there: the session goes on at that one, and the first lets go of it', async () => {
    await enter();
    tab.ask('tick');
    await eventually(() => tab.ticks).toBeGreaterThan(1);
    await fleet.idle();
    const { worker, pid } = await fleet.holder();
    const near = await fleet.addWorker();
    proxy.refuses = true;
    proxy.forget();
    const during = tab.send();
    await fleet.movedFrom(worker);
    await tab.shows([tab.send()]);
    const before = tab.ticks;
    await eventually(() => tab.ticks, { timeout: 30_000 }).toBeGreaterThan(before + 2);
    // Cut off it cannot be told; it stops of itself what it began for the session.
    const ended = (): boolean => fleet.lines(tab.token).some((line) => line.kind === 'tick.ended' && line.pid === pid);
    await eventually(ended, { timeout: 30_000 }).toBe(true);
    proxy.refuses = false;
    await linked(2);
    await tab.shows([tab.send()]);
    expectSound(fleet, tab);
    if (!tab.ids.includes(during)) expect(tab.toasts).toHaveLength(1);
    expect((await fleet.holder()).worker).toBe(near);
    expect(tab.isOpen).toBe(true);
    await fleet.endWorker(near, 'SIGKILL');
  });
});
