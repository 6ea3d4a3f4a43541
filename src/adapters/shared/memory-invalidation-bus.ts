import { LRUCache } from 'lru-cache';
import type { InvalidationBus } from '../../ports/invalidation-bus.ts';

const MAX_SEEN = 10_000;

/** For a single sidecar: whatever is invalidated is known here already, and nothing can be missed. */
export function memoryInvalidationBus(): InvalidationBus {
  const seen = new LRUCache<string, true>({ max: MAX_SEEN });
  return {
    blind: false,
    start: (handler) => {
      handler.blind(false);
      return Promise.resolve();
    },
    admit(id) {
      const isNew = !seen.has(id);
      seen.set(id, true);
      return isNew;
    },
    publish: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
