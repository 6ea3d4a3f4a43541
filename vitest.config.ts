import { defineConfig } from 'vitest/config';

const uws = 'test/conformance/server-transport-uws.test.ts';

/**
 * `unit` needs nothing but Node; `real` starts workers, services and browsers of its own, one file at a time; `uws` needs a Node that
 * can load uWebSockets.js, and stays in its process, since that Node may be started through a loader of its own.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'real',
          include: [
            'test/conformance/**/*.test.ts',
            'test/integration/**/*.test.ts',
            'test/e2e/**/*.test.ts',
            'test/fault/**/*.test.ts',
          ],
          exclude: [uws],
          testTimeout: 180_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      { test: { name: 'uws', include: [uws], pool: 'threads', testTimeout: 180_000 } },
    ],
  },
});
