import { expect } from 'vitest';
import type { LedgerFleet } from './ledger-fleet.ts';
import type { Tab } from './tab.ts';

/**
 * What must hold of a tab's events whatever failed: none ran twice, those that ran did so in order, every one is in the tab's state or the
 * tab was told, its state was never lost, and nobody gave it another token.
 */
export function expectSound(fleet: LedgerFleet, tab: Tab): void {
  const ran = fleet.ran(tab.token);
  const shown = [...tab.ids];
  expect(tab.newTokens).toEqual([]);
  expect(ran).toEqual([...new Set(ran)].sort((left, right) => left - right));
  expect(ran).toEqual(expect.arrayContaining(shown));
  const missing = tab.sent.filter((id) => !shown.includes(id));
  if (missing.length > 0) expect(tab.toasts).not.toEqual([]);
  for (const [index, ids] of tab.history.entries()) {
    expect(ids.slice(0, tab.history[index - 1]?.length ?? 0)).toEqual(tab.history[index - 1] ?? []);
  }
}

/** As above, and nobody lost anything: every event ran, nothing was said, the connection is the first one. */
export function expectUnnoticed(fleet: LedgerFleet, tab: Tab): void {
  expectSound(fleet, tab);
  expect(tab.ids).toEqual(tab.sent);
  expect(tab.toasts).toEqual([]);
  expect(tab.isOpen).toBe(true);
}
