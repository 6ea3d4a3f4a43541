import type { ChangeBus } from '../../ports/change-bus.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Change } from '../../protocol/change.ts';

/** A bus that counts what goes over it. */
export function meteredBus(bus: ChangeBus, { clock, metrics }: { clock: Clock; metrics: Metrics }): ChangeBus {
  bus.subscribe({
    changes: (batch) => {
      const oldest = batch.reduce((least, { at }) => Math.min(least, at), Infinity);
      // Other machines' clocks may be ahead.
      metrics.changesReceived(batch.length, Math.max(0, clock.now() - oldest) / 1000);
    },
    gap: ({ reason }) => metrics.changeGap(reason),
    push: ({ what }) => metrics.pushReceived(what.kind),
  });
  const publish = async (changes: readonly Change[]): Promise<void> => {
    try {
      await bus.publish(changes);
    } catch (error) {
      metrics.changesPublished('failed', changes.length);
      throw error;
    }
    metrics.changesPublished('ok', changes.length);
  };
  return {
    kind: bus.kind,
    get state() {
      return bus.state;
    },
    get detail() {
      return bus.detail;
    },
    start: (timeout) => bus.start(timeout),
    publish,
    publishGap: (gap) => bus.publishGap(gap),
    publishPush: (push) => bus.publishPush(push),
    subscribe: (subscriber) => bus.subscribe(subscriber),
    close: () => bus.close(),
  };
}
