import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BridgeheadProcess } from '../../tools/bridgehead.ts';
import { waitUntil } from '../../tools/process.ts';
import { eventually } from '../support/eventually.ts';
import { LedgerFleet, linksOf } from '../support/ledger-fleet.ts';
import { expectSound, expectUnnoticed } from '../support/soundness.ts';
import { Tab } from '../support/tab.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

let fleet: LedgerFleet;
let one: BridgeheadProcess;
let two: BridgeheadProcess;

beforeAll(async () => {
  fleet = await LedgerFleet.start();
  one = await fleet.addSidecar({ shutdownDelay: 1 });
  two = await fleet.addSidecar();
  await fleet.addWorker();
  await fleet.addWorker();
  await waitUntil(async () => (await linksOf(two)).length === 2, { what: 'both workers at both sidecars' });
});

afterAll(() => fleet?.stop());

const enter = async (sidecar: BridgeheadProcess, token?: string): Promise<Tab> => {
  const tab = await Tab.open(sidecar.url, token === undefined ? {} : { token });
  await tab.shows([tab.send()]);
  return tab;
};

describe('a client of one sidecar that comes to another', () => {
  it('because its connection is half dead finds its state, and what it missed', async () => {
    const proxy = await TcpProxy.start(one.port);
    const tab = await Tab.open(`http://127.0.0.1:${proxy.port}`);
    await tab.shows([tab.send()]);
    tab.ask('tick');
    await eventually(() => tab.ticks).toBeGreaterThan(1);
    proxy.forget();
    const ticks = tab.ticks;
    // More ticks than one: what the tab would miss.
    const ran = (): number => fleet.lines(tab.token).filter(({ kind }) => kind === 'tick').length;
    await eventually(ran).toBeGreaterThan(ticks + 3);
    await tab.comeBack(two.url);
    const last = tab.send();
    await tab.shows([last]);
    expect(tab.newTokens).toEqual([]);
    expectSound(fleet, tab);
    await eventually(() => tab.ticks).toBeGreaterThan(ticks + 3);
    tab.ask('quiet');
    await tab.leave();
    await proxy.stop();
  });

  it('while it lives there too is another tab, and gets a token of its own, as from plain Reflex', async () => {
    const first = await enter(one);
    for (const sidecar of [one, two]) {
      const second = await Tab.open(sidecar.url, { token: first.token });
      expect(second.newTokens).toHaveLength(1);
      await second.shows([second.send()]);
      expect(second.ids).toEqual(second.sent);
      await second.leave();
    }
    await first.shows([first.send()]);
    expectUnnoticed(fleet, first);
    await first.leave();
  });

  it('because that one is told to stop leaves in order: unready, then a closed transport and no DISCONNECT', async () => {
    const tab = await enter(one);
    const slow = tab.send('slow', { seconds: 2 });
    await eventually(() => fleet.lines(tab.token).some(({ kind, id }) => kind === 'begun' && id === slow)).toBe(true);
    one.process.signal('SIGTERM');
    const ready = async (): Promise<number> => (await fetch(`${one.url}/_bridgehead/ready`)).status;
    await eventually(ready).toBe(503);
    // It serves on while balancers notice, and finishes what runs.
    expect(tab.isOpen).toBe(true);
    await tab.shows([slow]);
    await tab.client.untilClosed();
    expect(tab.client.closed?.code).toBe(1012);
    expect(tab.client.messages.filter((text) => text.startsWith('1'))).toEqual([]);
    expect((await one.process.exited).code).toBe(0);
    await tab.comeBack(two.url);
    await tab.shows([tab.send()]);
    expect(tab.toasts).toEqual([]);
    expectSound(fleet, tab);
    expect(tab.ids).toEqual(tab.sent);
    await tab.leave();
  });

  it('because that one is killed keeps its state and its token', async () => {
    const third = await fleet.addSidecar();
    await fleet.addWorker({ linkUrls: [two.linkUrl, third.linkUrl], links: false });
    await waitUntil(async () => (await linksOf(third)).length === 1, { what: 'a worker at the third sidecar' });
    const tab = await enter(third);
    third.process.signalGroup('SIGKILL');
    await tab.client.untilClosed();
    await tab.comeBack(two.url);
    await tab.shows([tab.send()]);
    expectSound(fleet, tab);
    expect(tab.ids).toEqual(tab.sent);
    await tab.leave();
  });
});
