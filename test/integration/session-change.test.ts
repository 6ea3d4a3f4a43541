import { afterEach, describe, expect, it } from 'vitest';
import { verifyAnnotation, type AnnotationClaims } from '../../src/protocol/annotation.ts';
import { keyring, sessionHash, tokenHash } from '../../src/protocol/keys.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import type { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient, MANIFEST } from '../support/link-client.ts';
import type { LinkWorkerSession } from '../support/link-worker.ts';
import { LinkedStage, SECRET } from '../support/linked-stage.ts';
import { startRecordingWorker } from '../support/recording-worker.ts';
import { answerUsers } from '../support/user-answers.ts';

const TOKEN = 'tab';
const HANDLER = 'root.order.place';
const CONFIG = {
  name: 'shop',
  auth: { source: 'companion' as const },
  tiers: { rules: [{ state: 'shop.order.*', login: 'required' as const }] },
};

let stage = new LinkedStage();
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  await stage.end();
  stage = new LinkedStage();
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A client, and what of it reached the worker. */
interface Tab {
  readonly client: EngineClient;
  readonly texts: () => readonly string[];
}

let serial = 0;

/** Sends an event that needs a login: what the worker was told of it, or how the edge answered. */
async function sent({ client, texts }: Tab, session: string): Promise<AnnotationClaims | 'to the login page'> {
  const [n, answers] = [++serial, refusals(client)];
  client.send(`42/_event,["event",{"name":"${HANDLER}","payload":{"n":${n}},"router_data":{"pathname":"/"}}]`);
  const arrived = (): string | undefined => texts().find((text) => text.includes(`"n":${n}}`));
  await eventually(() => arrived() !== undefined || refusals(client) > answers).toBe(true);
  const annotation = /"_bridgehead":"([^"]+)"/.exec(arrived() ?? '')?.[1];
  if (annotation === undefined) return 'to the login page';
  const context = {
    name: 'shop',
    token: tokenHash(TOKEN),
    session: sessionHash(session),
    handler: HANDLER,
    now: Date.now(),
  };
  const result = verifyAnnotation(annotation, keyring(SECRET, [], 'annotation'), context);
  if (!result.valid) throw new Error(`an annotation of another kind: ${result.reason}`);
  return result.claims;
}

function refusals(client: EngineClient): number {
  return client.messages.filter((text) => text.includes('_redirect')).length;
}

/** Everything the worker said so far has been taken. */
async function settled(link: LinkClient): Promise<void> {
  const before = link.of(LinkFrame.changed).length;
  link.send(LinkFrame.changes, { n: before + 1, changes: [] });
  await link.until(LinkFrame.changed, before + 1);
}

describe('after a handler has logged a tab in or out', () => {
  async function linked(): Promise<{ link: LinkClient; enter: () => Promise<Tab & { there: LinkWorkerSession }> }> {
    const sidecar = await stage.sidecar(CONFIG);
    const worker = await stage.worker(sidecar, 'a', { auth: true });
    answerUsers(worker.client);
    const enter = async (): Promise<Tab & { there: LinkWorkerSession }> => {
      const count = worker.sessions.length + 1;
      const client = await stage.client(sidecar, TOKEN);
      await client.connect();
      const there = await worker.session(count);
      return { client, there, texts: () => there.texts };
    };
    return { link: worker.client, enter };
  }

  it('the next event is whose it is now, for the worker as for the access rules', async () => {
    const { link, enter } = await linked();
    const tab = await enter();
    const session = tab.there.request.session;
    expect(await sent(tab, '')).toBe('to the login page');
    link.session({ t: tokenHash(TOKEN), session, cookie: 'ann.1' });
    await settled(link);
    expect(await sent(tab, 'ann.1')).toMatchObject({ s: sessionHash('ann.1'), u: { id: 'ann' } });
    link.session({ t: tokenHash(TOKEN), session, cookie: 'ben.1' });
    await settled(link);
    expect(await sent(tab, 'ben.1')).toMatchObject({ s: sessionHash('ben.1'), u: { id: 'ben' } });
    link.session({ t: tokenHash(TOKEN), session, cookie: null });
    await settled(link);
    expect(await sent(tab, '')).toBe('to the login page');
  });

  it('another client that claims its token is nobody', async () => {
    const { link, enter } = await linked();
    const [tab, stranger] = [await enter(), await enter()];
    expect(stranger.there.request).toMatchObject({ force: true });
    link.session({ t: tokenHash(TOKEN), session: tab.there.request.session, cookie: 'ann.1' });
    // The name of no session, and what is said of connections of their own, is about neither.
    link.session({ t: tokenHash(TOKEN), session: 'another', cookie: 'ben.1' });
    link.session({ t: tokenHash(TOKEN), session: null, cookie: 'ben.1' });
    await settled(link);
    expect(await sent(tab, 'ann.1')).toMatchObject({ u: { id: 'ann' } });
    expect(await sent(stranger, '')).toBe('to the login page');
  });

  it('a connection of its own is found by its token, and no client that only has its transport open', async () => {
    const worker = await startRecordingWorker();
    cleanups.push(() => worker.stop());
    const sidecar = await stage.sidecar({ ...CONFIG, backends: [worker.url], link: { sessions: false } });
    const link = await LinkClient.link(sidecar.running.addresses.link ?? '', SECRET, { ...MANIFEST, auth: true });
    cleanups.push(() => link.end());
    await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
    answerUsers(link);
    const enter = async (): Promise<EngineClient> => stage.client(sidecar, TOKEN);
    const [client, stranger] = [await enter(), await enter()];
    await client.connect();
    link.session({ t: tokenHash(TOKEN), session: null, cookie: 'ann.1' });
    await settled(link);
    const texts = (): readonly string[] => worker.texts();
    expect(await sent({ client, texts }, 'ann.1')).toMatchObject({ u: { id: 'ann' } });
    await stranger.connect();
    expect(await sent({ client: stranger, texts }, '')).toBe('to the login page');
  });
});
