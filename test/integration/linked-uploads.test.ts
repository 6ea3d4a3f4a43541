import { afterEach, describe, expect, it } from 'vitest';
import { backendOf } from '../../src/core/backends/request-home.ts';
import { LinkedStage } from '../support/linked-stage.ts';
import { startRecordingWorker, type RecordingWorker } from '../support/recording-worker.ts';

const stage = new LinkedStage();
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  await stage.end();
  for (const stop of stops.splice(0)) await stop();
});

/** The HTTP side of a worker: keeps the tokens of uploads. */
async function startBackend(): Promise<RecordingWorker & { tokens: string[] }> {
  const tokens: string[] = [];
  const backend = await startRecordingWorker({
    request: (incoming, outgoing) => {
      tokens.push(String(incoming.headers['reflex-client-token']));
      incoming.resume().on('end', () => outgoing.end());
    },
  });
  stops.push(() => backend.stop());
  return { ...backend, tokens };
}

async function upload(url: string, token: string): Promise<number> {
  const headers = { 'Reflex-Client-Token': token, 'Reflex-Event-Handler': 'state.upload' };
  return (await fetch(`${url}/_upload`, { method: 'POST', headers, body: 'x' })).status;
}

const names = (prefix: string, count: number): string[] => Array.from({ length: count }, (_, n) => `${prefix}${n}`);

describe('an upload of a linked session', () => {
  it('goes to the server of its worker, also where several workers share one', async () => {
    const backends = [await startBackend(), await startBackend()];
    const sidecar = await stage.sidecar({ backends: backends.map(({ url }) => url) });
    const ports = [backends[0]?.port, backends[1]?.port, backends[1]?.port];
    for (const [n, port] of ports.entries()) await stage.worker(sidecar, `worker-${n}`, { port });
    const tokens = names('tab-', 9);
    const homes = new Map<string, number | undefined>();
    for (const token of tokens) {
      await stage.enter(sidecar, token);
      const instance = sidecar.running.operator.sessions(1)[0]?.upstream ?? '';
      homes.set(token, ports[Number(instance.split('-')[1])]);
      expect(await upload(sidecar.url, token)).toBe(200);
    }
    for (const backend of backends) {
      expect(backend.tokens).toEqual(tokens.filter((token) => homes.get(token) === backend.port));
      expect(backend.tokens.length).toBeGreaterThan(0);
    }
  });

  it('whose worker nobody can place goes to the same backend each time, and all have their share', async () => {
    const backends = [await startBackend(), await startBackend()];
    const sidecar = await stage.sidecar({ backends: backends.map(({ url }) => url) });
    await stage.worker(sidecar, 'worker-0');
    const tokens = names('stranger-', 60);
    for (const token of [...tokens, ...tokens]) expect(await upload(sidecar.url, token)).toBe(200);
    for (const { tokens: seen } of backends) {
      expect(seen.length).toBeGreaterThan(6);
      expect(seen.slice(seen.length / 2)).toEqual(seen.slice(0, seen.length / 2));
    }
  });
});

describe('the backend of a linked worker', () => {
  const backends = ['http://worker-0.workers:8000', 'http://worker-1:8000', 'http://127.0.0.1:8001', 'https://one'].map(
    (url) => ({ upstream: { url } }),
  );

  it.each([
    ['its port alone, where one has it', { host: 'pod-7', port: 8001 }, 2],
    ["its protocol's own port", { host: 'pod-7', port: 443 }, 3],
    ['its name, where several do', { host: 'worker-1', port: 8000 }, 1],
    ["the first label of the backend's", { host: 'worker-0', port: 8000 }, 0],
    ['nothing, where the name tells nothing', { host: 'pod-7', port: 8000 }, undefined],
    ['nothing, where the port is another', { host: 'worker-1', port: 8002 }, undefined],
    ['nothing, where it does not know its port', { host: 'worker-1', port: null }, undefined],
  ])('is found by %s', (_what, worker, index) => {
    expect(backendOf(backends, worker)).toBe(index === undefined ? undefined : backends[index]);
  });
});
