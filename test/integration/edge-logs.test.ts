import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { edgeConfiguration } from '../../tools/edge.ts';
import { freePorts } from '../../tools/ports.ts';
import { startHaproxy, startNginx } from '../../tools/services/index.ts';
import { eventually } from '../support/eventually.ts';
import { rawRequest, requestHead, upgradeHead } from '../support/http.ts';

const TOKEN = '7f9f6a0c-client-token';

interface Edge {
  readonly port: number;
  /** All that it has written. */
  log(): Promise<string>;
  stop(): Promise<void>;
}

/** With nobody behind it. */
async function startEdge(name: 'nginx' | 'haproxy'): Promise<Edge> {
  const [port = 0, bridgehead = 0, worker = 0] = await freePorts(3);
  if (name === 'haproxy') {
    const configuration = await edgeConfiguration('haproxy.cfg', { port, bridgehead, worker });
    const edge = await startHaproxy({ port, configuration });
    return { port, log: () => readFile(edge.logFile, 'utf8'), stop: () => edge.stop() };
  }
  const configuration = await edgeConfiguration('nginx.conf', { port, bridgehead, worker, frontend: '/nowhere' });
  const edge = await startNginx({ port, configuration });
  const files = [edge.logFile, join(edge.folder, 'error.log')];
  const read = (file: string): Promise<string> => readFile(file, 'utf8').catch(() => '');
  return { port, log: async () => (await Promise.all(files.map(read))).join(''), stop: () => edge.stop() };
}

describe.each(['nginx', 'haproxy'] as const)('the logs of %s while Bridgehead is down', (name) => {
  let edge: Edge | undefined;

  afterEach(() => edge?.stop());

  it('tell of refused clients, but not their tokens', async () => {
    edge = await startEdge(name);
    const { port } = edge;
    const query = `token=${TOKEN}&EIO=4`;
    const close = { Connection: 'close', Referer: 'http://app.test/' };
    for (const path of ['/_event', '/_event/']) {
      const polling = await rawRequest(port, requestHead('GET', `${path}?${query}&transport=polling`, close));
      expect([502, 503]).toContain(polling.status);
      const posted = `${requestHead('POST', `${path}?${query}`, { ...close, 'Content-Length': '2' })}40`;
      expect([502, 503]).toContain((await rawRequest(port, posted)).status);
      const upgraded = await rawRequest(port, upgradeHead(`${path}?${query}&transport=websocket`));
      expect([502, 503]).toContain(upgraded.status);
    }
    // Each has its line, with its status: whoever looks for the cause finds it.
    await eventually(async () => (await edge?.log())?.match(/\/_event.* 50[23] /g)?.length).toBe(6);
    expect(await edge.log()).not.toContain(TOKEN);
  });
});
