import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { QueueBudget } from '../../../src/core/limits/queue-budget.ts';
import { InboundQueue, type Waiting } from '../../../src/core/relay/inbound-queue.ts';
import { KeptMessages } from '../../../src/core/relay/kept-messages.ts';
import { LatencyWatch } from '../../../src/core/relay/latency-watch.ts';
import { TokenBucket } from '../../../src/core/relay/token-bucket.ts';
import { parseHeader, type PacketHeader } from '../../../src/protocol/socket-io.ts';

describe('a token bucket', () => {
  it('never gives more than burst + rate x time, and gives that much', () => {
    const steps = fc.array(fc.tuple(fc.nat(3_000), fc.nat(50)), { maxLength: 30 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 500 }),
        fc.integer({ min: 1, max: 100 }),
        steps,
        (perSecond, burst, all) => {
          const bucket = new TokenBucket({ perSecond, burst }, 0);
          let now = 0;
          let taken = 0;
          let model = burst;
          for (const [wait, wanted] of all) {
            now += wait;
            model = Math.min(burst, model + (wait * perSecond) / 1000);
            for (let count = 0; count < wanted; count++) {
              const got = bucket.take(now);
              // Sums of fractions may differ in their last bits.
              if (Math.abs(model - 1) > 1e-6) expect(got).toBe(model >= 1);
              if (got) {
                taken++;
                model -= 1;
              }
            }
          }
          expect(taken).toBeLessThanOrEqual(burst + (now * perSecond) / 1000 + 1e-6);
        },
      ),
    );
  });

  it('tells how long to wait: then there is a token, and not a moment before', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 2_000, noNaN: true }),
        fc.integer({ min: 1, max: 20 }),
        (perSecond, burst) => {
          const bucket = new TokenBucket({ perSecond, burst }, 0);
          for (let count = 0; count < burst; count++) expect(bucket.take(0)).toBe(true);
          const wait = bucket.wait(0);
          expect(wait).toBeGreaterThan(0);
          expect(bucket.take(wait - 1)).toBe(false);
          expect(bucket.take(wait + 1e-3)).toBe(true);
        },
      ),
    );
  });

  it.each([
    ['a rate', { perSecond: 0, burst: 1 }],
    ['a burst', { perSecond: 1, burst: 0 }],
  ])('without %s has no limit', (_what, limit) => {
    const bucket = new TokenBucket(limit, 0);
    for (let count = 0; count < 10_000; count++) expect(bucket.take(0)).toBe(true);
    expect(bucket.wait(0)).toBe(0);
  });
});

describe('a queue of packets', () => {
  const header = parseHeader('42["a"]', 1) as PacketHeader;
  const packet = (bytes: number): Waiting => ({ kind: 'packet', text: 'x', header, bytes });

  it('keeps order, counts its bytes and those of all, and forgets nothing', () => {
    const commands = fc.array(fc.oneof(fc.constant('shift' as const), fc.constant('clear' as const), fc.nat(500)), {
      maxLength: 3_000,
    });
    fc.assert(
      fc.property(commands, (all) => {
        const budget = new QueueBudget(0);
        const [queue, other] = [new InboundQueue(budget), new InboundQueue(budget)];
        other.push(packet(7));
        let model: Waiting[] = [];
        for (const command of all) {
          if (command === 'shift') {
            queue.shift();
            model.shift();
          } else if (command === 'clear' && model.length > 100) {
            expect(queue.clear()).toBe(model.length);
            model = [];
          } else if (typeof command === 'number') {
            const item = packet(command);
            queue.push(item);
            model.push(item);
          }
          const bytes = model.reduce((sum, item) => sum + item.bytes, 0);
          expect([queue.length, queue.bytes, budget.used]).toEqual([model.length, bytes, bytes + 7]);
          expect(queue.peek()).toBe(model[0]);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('takes a packet back at its head', () => {
    const budget = new QueueBudget(0);
    const queue = new InboundQueue(budget);
    const items = [packet(1), packet(2), packet(3)] as const;
    for (const item of items) queue.push(item);
    queue.shift();
    queue.unshift(items[0]);
    expect([queue.peek(), queue.length, queue.bytes, budget.used]).toEqual([items[0], 3, 6, 6]);
    for (const item of items) {
      expect(queue.peek()).toBe(item);
      queue.shift();
    }
    queue.unshift(items[2]);
    expect([queue.peek(), queue.length, budget.used]).toEqual([items[2], 1, 3]);
  });

  it('takes one packet of any size when empty, then keeps to its limit and to that of all', () => {
    const budget = new QueueBudget(100);
    const queue = new InboundQueue(budget);
    expect(queue.admits(90, 10)).toBe('yes');
    queue.push(packet(40));
    expect(queue.admits(10, 50)).toBe('yes');
    expect(queue.admits(11, 50)).toBe('queue_full');
    expect(queue.admits(60, 0)).toBe('yes');
    expect(queue.admits(61, 0)).toBe('total_queue_full');
    expect(new InboundQueue(budget).admits(61, 1_000)).toBe('total_queue_full');
  });

  it('tells how many packets were lost, attachments aside', () => {
    const queue = new InboundQueue(new QueueBudget(0));
    queue.push(packet(1));
    queue.push({ kind: 'attachment', data: Buffer.alloc(3), bytes: 3 });
    queue.push(packet(1));
    queue.shift();
    expect(queue.clear()).toBe(1);
    expect([queue.length, queue.bytes]).toEqual([0, 0]);
  });
});

describe('messages that are kept', () => {
  it('count while they wait, whoever kept them first', () => {
    const budget = new QueueBudget(100);
    const [first, second] = [new KeptMessages(budget, 50), new KeptMessages(budget, 0)];
    expect([first.push(Buffer.alloc(50), false), first.push(Buffer.alloc(1), false)]).toEqual([true, false]);
    expect(budget.used).toBe(50);
    second.adopt([...first.take(), { frame: Buffer.alloc(70), binary: true }]);
    expect([budget.used, budget.crowded]).toEqual([120, true]);
    expect(second.take().map(({ frame }) => frame.length)).toEqual([50, 70]);
    expect([budget.used, budget.crowded]).toEqual([0, false]);
  });

  it('are refused before they crowd out the clients that are here, however many are away', () => {
    const budget = new QueueBudget(100);
    const away = Array.from({ length: 100 }, () => new KeptMessages(budget, 50));
    const kept = away.filter((messages) => messages.push(Buffer.alloc(10), false));
    expect([kept.length, budget.used, budget.crowded]).toEqual([5, 50, false]);
    // Nor may what others have unread.
    budget.add(-30);
    expect(away.filter((messages) => messages.push(Buffer.alloc(10), false))).toHaveLength(3);
  });
});

describe('a watch over latencies', () => {
  const update = Buffer.from('42/_event,["event",{"delta":{}}]');
  const watch = (): { latency: LatencyWatch; seen: number[]; begin: (now: number) => void } => {
    const latency = new LatencyWatch(Buffer.from('42/_event,["event"'));
    const seen: number[] = [];
    const nothing = { event: () => undefined, shadow: () => undefined, shadowWrong: () => undefined };
    const meter = { ...nothing, firstUpdate: (seconds: number) => void seen.push(seconds) };
    return { latency, seen, begin: (now) => latency.begin(meter, now) };
  };

  it('measures from each event to the first update after it', () => {
    const { latency, seen, begin } = watch();
    latency.frame(update, () => 0);
    begin(1_000);
    begin(1_200);
    for (const text of ['42/_event,["ping","pong"]', '42/chat,["event",{}]', '2', '43/_event,1[]', '42/_event,["ev']) {
      latency.frame(Buffer.from(text), () => 1_300);
    }
    expect(seen).toEqual([]);
    latency.frame(update, () => 1_500);
    latency.frame(update, () => 1_600);
    expect(seen).toEqual([0.5, 0.3]);
  });

  it('forgets handlers that changed nothing, and measures at most 64 at once', () => {
    const { latency, seen, begin } = watch();
    for (let n = 0; n < 100; n++) begin(0);
    latency.frame(update, () => 29_000);
    expect(seen).toHaveLength(64);
    begin(30_000);
    begin(70_000);
    latency.frame(update, () => 70_100);
    expect(seen.slice(64)).toEqual([0.1]);
  });

  it('tells whether the latest event may still be at work', () => {
    const { latency, begin } = watch();
    expect(latency.waiting(0, 1_000)).toBe(false);
    for (let n = 0; n < 100; n++) begin(0);
    begin(5_000);
    expect(latency.waiting(5_999, 1_000)).toBe(true);
    expect(latency.waiting(6_000, 1_000)).toBe(false);
    begin(7_000);
    latency.frame(update, () => 7_001);
    expect(latency.waiting(7_001, 1_000)).toBe(false);
  });
});
