import type { Config } from '../config/index.ts';
import { LiveHub } from '../src/core/live/live-hub.ts';
import type { ChangeBus } from '../src/ports/change-bus.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { LinkEvents, LinkServer } from '../src/ports/links.ts';
import type { Metrics } from '../src/ports/metrics.ts';

/** What brings changes from workers to the bus, and from the bus to workers and sessions. */
export interface LiveDelivery {
  readonly hub: LiveHub;
  /** What workers publish. */
  readonly publishing: Pick<LinkEvents, 'published' | 'missed'>;
  close(): void;
}

export function composeLive(
  config: Config,
  { bus, links, clock, metrics }: { bus: ChangeBus; links: LinkServer | undefined; clock: Clock; metrics: Metrics },
): LiveDelivery {
  const { coalesceMs } = config.live;
  const hub = new LiveHub({ coalesceMs }, { clock, metrics, watchers: links });
  const leave = bus.subscribe(hub);
  return {
    hub,
    publishing: {
      published: (changes) => taken(bus.publish(changes)),
      missed: (gap) => taken(bus.publishGap(gap)),
    },
    close: () => {
      leave();
      hub.close();
    },
  };
}

/** Whether the bus has it: the worker is told, and sends it again where not. */
async function taken(publishing: Promise<void>): Promise<boolean> {
  try {
    await publishing;
    return true;
  } catch {
    return false;
  }
}
