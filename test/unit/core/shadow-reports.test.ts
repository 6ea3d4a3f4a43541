import { describe, expect, it } from 'vitest';
import { Figures } from '../../../src/adapters/metrics/figures.ts';
import { ShadowReports } from '../../../src/core/tiers/shadow-reports.ts';
import type { ShadowHandler, ShadowReport } from '../../../src/protocol/shadow-report.ts';
import type { Tier } from '../../../src/protocol/tier.ts';

interface Given {
  readonly handler?: string;
  readonly events?: number;
  readonly lowest?: Tier;
  readonly wrong?: number;
  readonly missing?: string;
}

function handler({
  handler: name = 'add',
  events = 1,
  lowest = 'none',
  wrong = 0,
  missing = 'user',
}: Given): ShadowHandler {
  return {
    state: 'root.cart',
    class: 'shop.cart.Cart',
    handler: name,
    events,
    lowest,
    cells: [{ now: 'full', would: 'none', events, queries: 2 * events, bridgeMs: events, ms: 3 * events }],
    needs: wrong === 0 ? {} : { [missing]: wrong },
    wrong: wrong === 0 ? [] : [{ would: 'none', source: 'rule', missing: [missing], events: wrong }],
  };
}

function report(run: string, ...handlers: Given[]): ShadowReport {
  return { run, since: 1_000, handlers: handlers.map(handler) };
}

function start(): { reports: ShadowReports; metrics: Figures; counted: () => [number, number] } {
  const metrics = new Figures();
  const counted = (): [number, number] => {
    const found = metrics.handlers.get('shop.cart.Cart\nadd');
    return [found?.shadowed.none ?? 0, found?.wrong ?? 0];
  };
  return { reports: new ShadowReports(metrics), metrics, counted };
}

describe('reports of shadow mode', () => {
  it('are absolute: what comes twice counts once', () => {
    const { reports, counted } = start();
    reports.report('w1', report('r1', { events: 3, wrong: 1 }));
    reports.report('w1', report('r1', { events: 3, wrong: 1 }));
    expect(reports.sum()).toMatchObject({
      workers: 1,
      since: 1_000,
      handlers: [{ events: 3, wrong: [{ events: 1 }] }],
    });
    expect(counted()).toEqual([3, 1]);
    reports.report('w1', report('r1', { events: 5, wrong: 2 }));
    expect(reports.sum().handlers).toEqual([handler({ events: 5, wrong: 2 })]);
    expect(counted()).toEqual([5, 2]);
  });

  it('leave out what has no news, which then stays', () => {
    const { reports } = start();
    reports.report('w1', report('r1', { events: 1 }, { handler: 'clear', events: 7 }));
    reports.report('w1', report('r1', { events: 2 }));
    expect(reports.sum().handlers.map((one) => [one.handler, one.events])).toEqual([
      ['add', 2],
      ['clear', 7],
    ]);
  });

  it('are summed over the workers, kind by kind', () => {
    const { reports, counted } = start();
    reports.report('w1', report('r1', { events: 3, lowest: 'auth_only', wrong: 1 }));
    reports.report('w2', report('r2', { events: 4, lowest: 'none', wrong: 2 }));
    reports.report('w3', report('r3', { events: 1, lowest: 'full', wrong: 1, missing: 'messages' }));
    const { workers, handlers } = reports.sum();
    expect(workers).toBe(3);
    expect(handlers).toMatchObject([
      {
        events: 8,
        lowest: 'full',
        cells: [{ now: 'full', would: 'none', events: 8, queries: 16, bridgeMs: 8, ms: 24 }],
        needs: { user: 3, messages: 1 },
        wrong: [
          { missing: ['user'], events: 3 },
          { missing: ['messages'], events: 1 },
        ],
      },
    ]);
    expect(counted()).toEqual([8, 4]);
  });

  it('of a new run take the place of the former one, and counters only grow', () => {
    const { reports, counted } = start();
    reports.report('w1', report('r1', { events: 9, wrong: 9 }));
    reports.report('w1', report('r2'));
    expect(reports.sum()).toMatchObject({ workers: 1, handlers: [] });
    reports.report('w1', report('r2', { events: 1 }));
    expect(reports.sum().handlers).toMatchObject([{ events: 1, wrong: [] }]);
    expect(counted()).toEqual([10, 9]);
  });

  it('outlive the worker, until the rules change', () => {
    const { reports } = start();
    reports.report('gone', report('r1', { events: 1 }));
    reports.report('linked', report('r2', { events: 2 }));
    reports.forget(new Set(['linked']));
    expect(reports.sum()).toMatchObject({ workers: 1, handlers: [{ events: 2 }] });
  });

  it('are bounded: of too many workers the oldest become one sum, and none counts twice', () => {
    const { reports } = start();
    for (let worker = 0; worker < 500; worker++) reports.report(`w${worker}`, report(`r${worker}`, { events: 1 }));
    // The first one is no longer told apart: what it says again must not be added again.
    reports.report('w0', report('r0', { events: 2 }));
    expect(reports.sum()).toMatchObject({ workers: 500, handlers: [{ events: 500 }] });
    const many = Array.from({ length: 1_000 }, (_, index) => ({ handler: `h${index}` }));
    for (let worker = 0; worker < 100; worker++) reports.report(`v${worker}`, report(`s${worker}`, ...many));
    const { workers, handlers } = reports.sum();
    expect(workers).toBe(600);
    expect(handlers.find((one) => one.handler === 'h999')?.events).toBe(100);
    expect(handlers.length).toBeLessThanOrEqual(2_000);
  });
});
