import type { InvalidationBus } from '../../ports/invalidation-bus.ts';

/** For a single sidecar: whatever is invalidated is known here already, and nothing can be missed. */
export function memoryInvalidationBus(): InvalidationBus {
  return {
    blind: false,
    start: (handler) => {
      handler.blind(false);
      return Promise.resolve();
    },
    publish: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
