import { describe, expect, it } from 'vitest';
import { prometheusMetrics } from '../../../src/adapters/metrics/index.ts';

async function samples(metrics: ReturnType<typeof prometheusMetrics>): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

describe('prometheusMetrics', () => {
  it('counts exactly what it is told', async () => {
    const metrics = prometheusMetrics();
    const buy = metrics.handler('shop.Cart', 'buy');
    for (let count = 0; count < 1234; count++) buy.event('auth_only');
    buy.event('worker');
    metrics.handler('shop.Cart', 'buy').event('none');
    buy.shadow('none', 5);
    buy.shadow('none', 2);
    buy.shadowWrong(3);
    metrics.sessionOpened('websocket');
    metrics.sessionOpened('websocket');
    metrics.sessionOpened('polling');
    metrics.sessionClosed('ping_timeout');
    metrics.refused('origin');
    metrics.eventLost('queue_full', 3);
    metrics.messagesLost(2);
    metrics.clientBytes('in', 10);
    metrics.clientBytes('out', 20);
    metrics.clientBytes('out', 22);
    metrics.upload('ok', 1e9);
    metrics.linkState('up');
    metrics.linkState('up');
    metrics.linkState('down');
    metrics.forgedAnnotation();
    metrics.annotated();
    metrics.resolverError();
    metrics.eventDelayed();
    const found = await samples(metrics);
    expect(Object.fromEntries([...found].filter(([name]) => !/_(process|nodejs)_/.test(name)))).toMatchObject({
      'bridgehead_events_total{state="shop.Cart",handler="buy",tier="auth_only"}': 1234,
      'bridgehead_events_total{state="shop.Cart",handler="buy",tier="worker"}': 1,
      'bridgehead_events_total{state="shop.Cart",handler="buy",tier="none"}': 1,
      'bridgehead_shadow_events_total{state="shop.Cart",handler="buy",tier="none"}': 7,
      'bridgehead_shadow_wrong_total{state="shop.Cart",handler="buy"}': 3,
      bridgehead_sessions: 2,
      'bridgehead_sessions_opened_total{transport="websocket"}': 2,
      'bridgehead_sessions_opened_total{transport="polling"}': 1,
      'bridgehead_sessions_closed_total{reason="ping_timeout"}': 1,
      'bridgehead_refusals_total{reason="origin"}': 1,
      'bridgehead_events_lost_total{reason="queue_full"}': 3,
      bridgehead_messages_lost_total: 2,
      'bridgehead_client_bytes_total{direction="in"}': 10,
      'bridgehead_client_bytes_total{direction="out"}': 42,
      'bridgehead_uploads_total{result="ok"}': 1,
      bridgehead_upload_bytes_total: 1e9,
      bridgehead_links: 1,
      bridgehead_forged_annotations_total: 1,
      bridgehead_annotations_total: 1,
      bridgehead_resolver_errors_total: 1,
      bridgehead_events_delayed_total: 1,
    });
  });

  it('has every reason from the start, so that the first of each is an increase', async () => {
    const found = await samples(prometheusMetrics());
    expect(found.get('bridgehead_events_lost_total{reason="queue_full"}')).toBe(0);
    expect(found.get('bridgehead_refusals_total{reason="origin"}')).toBe(0);
    expect(found.get('bridgehead_upstream_connects_total{result="failed"}')).toBe(0);
  });

  it('gives the same figures at every scrape', async () => {
    const metrics = prometheusMetrics();
    metrics.handler('a', 'b').event('full');
    await metrics.text();
    expect((await samples(metrics)).get('bridgehead_events_total{state="a",handler="b",tier="full"}')).toBe(1);
  });

  it('fills cumulative buckets, with a bound belonging to its own bucket', async () => {
    const metrics = prometheusMetrics();
    const meter = metrics.handler('a', 'b');
    for (const seconds of [0.0005, 0.001, 0.0011, 9.9, 11]) meter.firstUpdate(seconds);
    const found = await samples(metrics);
    const bucket = (bound: string) =>
      found.get(`bridgehead_first_update_seconds_bucket{state="a",handler="b",le="${bound}"}`);
    expect(['0.001', '0.0025', '5', '10', '+Inf'].map(bucket)).toEqual([2, 3, 3, 4, 5]);
    expect(found.get('bridgehead_first_update_seconds_count{state="a",handler="b"}')).toBe(5);
    expect(found.get('bridgehead_first_update_seconds_sum{state="a",handler="b"}')).toBeCloseTo(20.9026);
  });

  it('knows 1,000 handlers at most; the others share one label and lose no count', async () => {
    const metrics = prometheusMetrics();
    for (let index = 0; index < 1500; index++) metrics.handler('s', `h${index}`).event('none');
    const found = [...(await samples(metrics))].filter(([name]) => name.startsWith('bridgehead_events_total'));
    expect(found).toHaveLength(1000);
    expect(found.reduce((sum, [, count]) => sum + count, 0)).toBe(1500);
    expect(new Map(found).get('bridgehead_events_total{state="other",handler="other",tier="none"}')).toBe(501);
  });

  it('shows the process under its own prefix, and every metric under one name', async () => {
    const metrics = prometheusMetrics({ prefix: 'mine_' });
    const text = await metrics.text();
    const names = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    expect(names).toContain('mine_process_resident_memory_bytes');
    expect(names.every((name) => name?.startsWith('mine_'))).toBe(true);
    expect(new Set(names).size).toBe(names.length);
  });
});
