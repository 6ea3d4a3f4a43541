import { directUpstream } from '../../src/adapters/upstream/direct-upstream.ts';
import { startNodeServer } from '../support/foreign-node.ts';
import { startPythonServer } from '../support/foreign.ts';
import { describeChannels, describeUpstream } from './upstream.ts';

const direct = (url: string): ReturnType<typeof directUpstream> => directUpstream({ url, eventPath: '/_event' });

describeUpstream('direct', direct);
describeChannels('direct, socket.io', direct, startNodeServer);
describeChannels('direct, python-socketio', direct, startPythonServer);
