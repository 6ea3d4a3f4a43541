import { createRequire } from 'node:module';

// By its own name, so that the same line works from the sources and from the built package.
const { version } = createRequire(import.meta.url)('bridgehead/package.json') as { version: string };

/** This package's version. */
export const VERSION: string = version;
