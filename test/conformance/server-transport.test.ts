import { nodeTransport } from '../../src/adapters/transport/node-transport.ts';
import { findUws } from '../../src/adapters/transport/uws-api.ts';
import { uwsTransport } from '../../src/adapters/transport/uws-transport.ts';
import { describeServerTransport } from './server-transport.ts';

describeServerTransport('node', (options) => Promise.resolve(nodeTransport(options)));

// An optional package that no registry has: its adapter is held to the same suite wherever somebody installed it.
const uws = await findUws();
if (uws !== undefined) describeServerTransport('uws', (options) => Promise.resolve(uwsTransport(uws, options)));
