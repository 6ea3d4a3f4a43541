import { fileURLToPath } from 'node:url';
import { dirname, join } from 'node:path';

/** The folder that holds package.json. */
export const checkout = dirname(dirname(fileURLToPath(import.meta.url)));

/** Kept between runs, never committed. */
export const cacheFolder = join(checkout, '.cache');

/** Puts the pinned Node first, so that npm, Vite and Reflex use it on machines whose own Node is older. */
export const pathWithPinnedNode = [join(checkout, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(':');
