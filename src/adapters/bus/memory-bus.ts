import type { ChangeBus } from '../../ports/change-bus.ts';
import { ChangeFeed, type FeedParts } from './change-feed.ts';

/** Within this process alone: for a single sidecar. It cannot fail and has no gaps of its own. */
export function memoryBus(parts: FeedParts): ChangeBus {
  const feed = new ChangeFeed(parts);
  return {
    kind: 'memory',
    get state() {
      return feed.state;
    },
    get detail() {
      return feed.detail;
    },
    start: () => {
      feed.up();
      return Promise.resolve();
    },
    publish: (changes) => {
      feed.changes(changes);
      return Promise.resolve();
    },
    publishGap: (gap) => {
      feed.gap({ ...gap, reason: 'reported' });
      return Promise.resolve();
    },
    publishPush: (push) => {
      feed.push(push);
      return Promise.resolve();
    },
    subscribe: (subscriber) => feed.subscribe(subscriber),
    close: () => {
      feed.close();
      return Promise.resolve();
    },
  };
}
