import { afterEach, describe, expect, it } from 'vitest';
import { verifyAnnotation, type AnnotationClaims } from '../../src/protocol/annotation.ts';
import { keyring, sessionHash, tokenHash } from '../../src/protocol/keys.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import type { Composed } from '../support/composed.ts';
import type { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient, MANIFEST } from '../support/link-client.ts';
import type { LinkWorkerSession } from '../support/link-worker.ts';
import { LinkedStage, SECRET } from '../support/linked-stage.ts';
import { startRecordingWorker, type RecordingWorker } from '../support/recording-worker.ts';

const TOKEN = 'tab';
const COOKIE = 'a-session';
const CHANGE = { permission: 'shop.change_order' };
const RULES = [
  { state: 'shop.order.*', login: 'staff' as const },
  { state: 'shop.order.*', path: '/admin*', login: CHANGE, tier: 'auth_only' as const },
  { state: 'shop.order.*', path: '*/refunds', login: { permission: 'shop.refund' }, tier: 'auth_only' as const },
  // As the class is written, which the name on the wire does not tell.
  { state: 'shop.views.HTMLState', login: 'staff' as const },
];
const CONFIG = { name: 'shop', auth: { source: 'companion' as const }, tiers: { mode: 'none' as const, rules: RULES } };
const UNKNOWN_STATE = 'root.shop___views____html_state';

let stage = new LinkedStage();
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  await stage.end();
  stage = new LinkedStage();
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Answers every question of this link with the same. */
function answerAll(link: LinkClient, result: object): void {
  let answered = 0;
  link.socket.on('data', () => {
    const questions = link.of(LinkFrame.authQuery);
    for (; answered < questions.length; answered++) {
      link.send(LinkFrame.authReply, { id: questions[answered]?.body['id'], at: Date.now(), result });
    }
  });
}

const UNAVAILABLE = { kind: 'unavailable', cause: 'database' };

function claimsOf(annotation: string | undefined, handler: string): AnnotationClaims | undefined {
  const context = { name: 'shop', token: tokenHash(TOKEN), session: sessionHash(COOKIE), handler, now: Date.now() };
  const result = verifyAnnotation(annotation, keyring(SECRET, [], 'annotation'), context);
  return result.valid ? result.claims : undefined;
}

function annotationOf(text: string): string | undefined {
  return /"_bridgehead":"([^"]+)"/.exec(text)?.[1];
}

function event(name: string, path: string): string {
  return `42/_event,["event",{"name":"${name}","payload":{},"router_data":{"pathname":"${path}"}}]`;
}

describe('where nobody can say who the user is', () => {
  async function enter(sidecar: Composed): Promise<EngineClient> {
    const client = await stage.client(sidecar, TOKEN, { headers: { cookie: `sessionid=${COOKIE}` } });
    await client.connect();
    return client;
  }

  async function linked(): Promise<{ client: EngineClient; there: LinkWorkerSession }> {
    const sidecar = await stage.sidecar(CONFIG);
    const worker = await stage.worker(sidecar, 'a', { auth: true });
    answerAll(worker.client, UNAVAILABLE);
    return { client: await enter(sidecar), there: await worker.session() };
  }

  async function arrived(there: LinkWorkerSession, name: string): Promise<string> {
    await eventually(() => there.texts.filter((text) => text.includes(name)).length).toBe(1);
    return there.texts.find((text) => text.includes(name)) ?? '';
  }

  it('a linked worker is told everything that the rules ask for, not the half of it', async () => {
    const { client, there } = await linked();
    client.send(event('root.order.place', '/admin/refunds'));
    const claims = claimsOf(annotationOf(await arrived(there, 'root.order.place')), 'root.order.place');
    expect(claims).toMatchObject({ tier: 'auth_only', r: ['staff', CHANGE, { permission: 'shop.refund' }] });
    expect(claims).not.toHaveProperty('u');
  });

  it('an event of a state that the manifest lacks is left to the whole table of the worker, unsigned', async () => {
    const { client, there } = await linked();
    client.send(event(`${UNKNOWN_STATE}.go`, '/'));
    expect(annotationOf(await arrived(there, `${UNKNOWN_STATE}.go`))).toBeUndefined();
    // No rule is near this one; the worker may have one for it all the same.
    client.send(event('root.elsewhere.go', '/'));
    expect(annotationOf(await arrived(there, 'root.elsewhere.go'))).toBeUndefined();
  });

  async function direct(config: object = {}): Promise<{
    sidecar: Composed;
    worker: RecordingWorker;
    link: LinkClient;
    uploads: (string | undefined)[];
  }> {
    const uploads: (string | undefined)[] = [];
    const worker = await startRecordingWorker({
      request: (incoming, outgoing) => {
        uploads.push([incoming.headers['x-bridgehead-annotation']].flat()[0]);
        outgoing.end();
      },
    });
    cleanups.push(() => worker.stop());
    const sidecar = await stage.sidecar({ ...CONFIG, backends: [worker.url], ...config });
    const link = await LinkClient.link(sidecar.running.addresses.link ?? '', SECRET, { ...MANIFEST, auth: true });
    cleanups.push(() => link.end());
    await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
    return { sidecar, worker, link, uploads };
  }

  const upload = (sidecar: Composed, handler: string): Promise<Response> =>
    fetch(`${sidecar.url}/_upload`, {
      method: 'POST',
      body: 'x',
      headers: {
        'Reflex-Client-Token': TOKEN,
        'Reflex-Event-Handler': handler,
        cookie: `sessionid=${COOKIE}`,
      },
    });

  it.each([
    ['which takes its sessions elsewhere', {}],
    ['where link.sessions is false', { link: { sessions: false } }],
  ])('the worker behind a backend is trusted with no rule, %s: the client is told to try again', async (_, config) => {
    const { sidecar, worker, link } = await direct(config);
    answerAll(link, UNAVAILABLE);
    const client = await enter(sidecar);
    client.send(event('root.order.place', '/'));
    await client.until(() => client.messages.some((text) => text.includes('bridgehead-retry')));
    client.send(event('root.cart.add', '/'));
    await worker.untilText((text) => text.includes('root.cart.add'));
    expect(worker.texts().filter((text) => text.includes('root.order'))).toEqual([]);
  });

  it('an upload with a rule is refused with 503, since a backend may be anything', async () => {
    const { sidecar, link, uploads } = await direct();
    answerAll(link, UNAVAILABLE);
    const answer = await upload(sidecar, 'root.order.place');
    expect([answer.status, uploads]).toEqual([503, []]);
    expect((await upload(sidecar, 'root.note.save')).status).toBe(200);
    expect(claimsOf(uploads[0], 'root.note.save')).toMatchObject({ tier: 'auth_only' });
    // The class is a guess, and the guess is of a rule's class: it is refused rather than let through.
    expect((await upload(sidecar, `${UNKNOWN_STATE}.go`)).status).toBe(503);
    expect((await upload(sidecar, 'root.elsewhere.go')).status).toBe(200);
    expect(uploads.slice(1)).toEqual([undefined]);
  });

  it('the annotation of an upload does not outlive the session', async () => {
    const { sidecar, link, uploads } = await direct();
    const user = { m: 'auth.user', id: '7', b: 'backend', h: 'hash', f: { is_active: true, is_staff: true } };
    const expires = Date.now() + 6_000;
    answerAll(link, { kind: 'user', user, permissions: [], expires });
    expect((await upload(sidecar, 'root.order.place')).status).toBe(200);
    expect(claimsOf(uploads[0], 'root.order.place')).toMatchObject({ exp: expires, u: user });
  });
});
