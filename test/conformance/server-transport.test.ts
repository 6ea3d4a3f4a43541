import { nodeTransport } from '../../src/adapters/transport/node-transport.ts';
import { describeServerTransport } from './server-transport.ts';

describeServerTransport('node', (options) => Promise.resolve(nodeTransport(options)));
