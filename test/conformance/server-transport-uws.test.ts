import { pathToFileURL } from 'node:url';
import { findUws } from '../../src/adapters/transport/uws-api.ts';
import { uwsTransport } from '../../src/adapters/transport/uws-transport.ts';
import { describeServerTransport } from './server-transport.ts';

// No registry has it under its own name, and it needs a recent glibc: the part `uws` of `npm test` starts a Node that can load it.
const file = process.env['BRIDGEHEAD_TEST_UWS'];
const uws = await findUws(file === undefined ? undefined : pathToFileURL(file).href);
if (uws === undefined) throw new Error('uWebSockets.js cannot be loaded here; run: npm test -- uws');

describeServerTransport('uws', (options) => Promise.resolve(uwsTransport(uws, options)), {
  noPipelining: true,
  headWaitsForBody: true,
  losesEarlyFrames: true,
  laxFrames: true,
});
