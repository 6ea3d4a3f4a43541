import { describe, expect, it } from 'vitest';
import { readShadowReport, type ShadowHandler } from '../../../src/protocol/shadow-report.ts';
import { loadVectors } from '../../support/vectors.ts';

const { handlers } = loadVectors('shadow-report.json') as { readonly handlers: readonly ShadowHandler[] };
const REPORT = { run: 'r1', since: 1_795_251_840_000, handlers };
const [first] = handlers as [ShadowHandler];

/** The report with its first handler changed. */
const withHandler = (changes: object): object => ({ ...REPORT, handlers: [{ ...first, ...changes }] });

describe('a report of shadow mode', () => {
  it('is read as the companion writes it', () => {
    expect(readShadowReport({ ...REPORT, later: 'versions may say more' })).toEqual(REPORT);
  });

  it.each([
    ['no run', { ...REPORT, run: 7 }],
    ['no time', { ...REPORT, since: -1 }],
    ['no handlers', { ...REPORT, handlers: {} }],
    ['too many handlers', { ...REPORT, handlers: Array.from({ length: 1_001 }, () => first) }],
    ['a handler that is none', { ...REPORT, handlers: [null] }],
    ['a name that is none', withHandler({ handler: 7 })],
    ['a name without end', withHandler({ state: 'x'.repeat(1_025) })],
    ['a tier that is none', withHandler({ lowest: 'half' })],
    ['events that are none', withHandler({ events: Number.NaN })],
    ['a cell that is none', withHandler({ cells: [{ ...first.cells[0], now: 'half' }] })],
    ['a cell without its time', withHandler({ cells: [{ ...first.cells[0], ms: null }] })],
    ['too many cells', withHandler({ cells: Array.from({ length: 10 }, () => first.cells[0]) })],
    ['needs that are none', withHandler({ needs: [] })],
    ['a need without a count', withHandler({ needs: { user: 'often' } })],
    [
      'wrong events that are none',
      withHandler({ wrong: [{ would: 'none', source: 'rule', events: 1, missing: [7] }] }),
    ],
    ['too many kinds', withHandler({ needs: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`n${i}`, 1])) })],
  ])('with %s is none at all', (_what, body) => {
    expect(readShadowReport(body as Record<string, unknown>)).toBeUndefined();
  });
});
