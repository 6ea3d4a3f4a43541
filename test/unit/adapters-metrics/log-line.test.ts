import { describe, expect, it } from 'vitest';
import { quantile } from '../../../src/adapters/metrics/durations.ts';
import { metricsLog, prometheusMetrics } from '../../../src/adapters/metrics/index.ts';
import type { Clock, Logger } from '../../../src/ports/index.ts';

interface Line {
  readonly level: string;
  readonly fields: Record<string, unknown>;
}

function parts() {
  const lines: Line[] = [];
  const write = (level: string) => (fields: object) =>
    void lines.push({ level, fields: fields as Record<string, unknown> });
  const logger: Logger = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
  let now = 0;
  let tick: (() => void) | undefined;
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    setTimeout: () => ({ cancel: () => undefined }),
    setInterval: (callback) => {
      tick = callback;
      return { cancel: () => void (tick = undefined) };
    },
  };
  const advance = (milliseconds: number) => {
    now += milliseconds;
    tick?.();
  };
  return { lines, logger, clock, advance };
}

describe('metricsLog', () => {
  it('writes what happened in the interval and how things stand', () => {
    const { lines, logger, clock, advance } = parts();
    const metrics = prometheusMetrics();
    metrics.sessionOpened('websocket');
    metrics.handler('a', 'b').event('none');
    metricsLog({ metrics, logger, clock, intervalSeconds: 10, level: 'debug' });
    const meter = metrics.handler('a', 'b');
    for (let count = 0; count < 99; count++) {
      meter.event('auth_only');
      meter.firstUpdate(0.004);
    }
    meter.event('full');
    meter.firstUpdate(3);
    metrics.sessionOpened('polling');
    metrics.eventLost('upstream_lost', 2);
    metrics.clientBytes('in', 5);
    advance(10_000);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({
      level: 'debug',
      fields: {
        seconds: 10,
        sessions: 2,
        opened: 1,
        events: { none: 0, auth_only: 99, full: 1, worker: 0 },
        eventsPerSecond: 10,
        lost: 2,
        bytesIn: 5,
        refused: 0,
      },
    });
    expect(lines[0]?.fields['p50Ms']).toBeGreaterThan(2.5);
    expect(lines[0]?.fields['p50Ms']).toBeLessThan(5);
    expect(lines[0]?.fields['rss']).toBeGreaterThan(1e6);
    advance(10_000);
    expect(lines[1]?.fields).toMatchObject({ events: { auth_only: 0 }, p50Ms: null, sessions: 2, opened: 0 });
  });

  it('writes a last line at its stop and none after it', () => {
    const { lines, logger, clock, advance } = parts();
    const log = metricsLog({ metrics: prometheusMetrics(), logger, clock, intervalSeconds: 10, level: 'info' });
    advance(10_000);
    log.stop();
    advance(10_000);
    expect(lines).toHaveLength(2);
  });
});

/** All of them in one bucket. */
const at = (bucket: number, count: number) => Array.from({ length: 14 }, (_, index) => (index === bucket ? count : 0));

describe('quantile', () => {
  it('lies inside the bucket that holds it', () => {
    expect(quantile(at(3, 10), 0.5)).toBeCloseTo(0.0075);
    expect(quantile(at(0, 1), 1)).toBeCloseTo(0.001);
  });

  it('is the last bound beyond all bounds, and undefined without values', () => {
    expect(quantile(at(13, 10), 0.5)).toBe(10);
    expect(quantile(at(0, 0), 0.5)).toBeUndefined();
  });
});
