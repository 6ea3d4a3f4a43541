/** A process of browser tabs, driven by messages from its parent (see `tabs.ts`). */
import { setTimeout as delay } from 'node:timers/promises';
import { Journal, Tab } from './tab.ts';
import type { TabsCommand, TabsReply } from './tabs.ts';

let tabs: Tab[] = [];
let journal = new Journal();

function answer(reply: TabsReply): void {
  process.send?.(reply);
}

function open({ port, prefix, tabs: count, atOnce }: Extract<TabsCommand, { kind: 'open' }>): Promise<void> {
  if (tabs.length === 0) journal = new Journal();
  const first = tabs.length;
  return new Promise((resolve) => {
    let hydrated = 0;
    const next = (): void => {
      const serial = tabs.length;
      if (serial - first >= count) return;
      const tab = new Tab(`${prefix}-${serial}`, port, serial, journal);
      tabs.push(tab);
      tab.onHydrated = () => {
        tab.onHydrated = () => undefined;
        hydrated += 1;
        if (hydrated === count) resolve();
        else next();
      };
    };
    for (let lane = 0; lane < atOnce; lane++) next();
  });
}

async function load(milliseconds: number): Promise<number> {
  let answered = 0;
  let running = true;
  const began = performance.now();
  for (const tab of tabs) {
    tab.onAnswer = () => {
      answered += 1;
      if (running) tab.act();
    };
    tab.act();
  }
  await delay(milliseconds);
  running = false;
  for (const tab of tabs) tab.onAnswer = () => undefined;
  return (answered * 1000) / (performance.now() - began);
}

async function close(): Promise<void> {
  for (const tab of tabs) tab.close();
  tabs = [];
  const { events, cuts, newTokens, toasts, outOfOrder, refused } = journal;
  answer({ kind: 'report', report: { events, cuts, newTokens, toasts: [...toasts], outOfOrder, refused } });
  return Promise.resolve();
}

async function run(command: TabsCommand): Promise<void> {
  switch (command.kind) {
    case 'open':
      await open(command);
      break;
    case 'send':
      for (const tab of tabs) tab.repeat(1000 / command.perSecond);
      break;
    case 'silence':
      for (const tab of tabs) tab.silence();
      break;
    case 'load':
      return answer({ kind: 'loaded', perSecond: await load(command.milliseconds) });
    case 'cut':
      for (const tab of tabs) tab.lose();
      break;
    case 'status': {
      const hydrated = tabs.filter((tab) => tab.hydrated).length;
      return answer({ kind: 'status', hydrated, pending: tabs.reduce((sum, tab) => sum + tab.pending, 0) });
    }
    case 'close':
      return close();
  }
  answer({ kind: 'done' });
}

process.on('message', (command: TabsCommand) => {
  run(command).catch((error: Error) => answer({ kind: 'failed', message: error.message }));
});
process.on('disconnect', () => process.exit(0));
