import { afterEach, describe, expect, it } from 'vitest';
import { configSchema, type ConfigInput } from '../../config/schema.ts';
import { verifyAnnotation, type AnnotationClaims } from '../../src/protocol/annotation.ts';
import { keyring, sessionHash, tokenHash } from '../../src/protocol/keys.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import { everyLogLine, startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient, MANIFEST } from '../support/link-client.ts';
import {
  startRecordingWorker,
  type RecordingWorker,
  type RecordingWorkerOptions,
} from '../support/recording-worker.ts';

const SECRET = 'secret-of-these-tests-that-must-not-be-logged';
const TOKEN = 'secret-token-of-a-tab';
const COOKIE = 'secret-session-key';

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

interface Stack {
  readonly sidecar: Composed;
  readonly worker: RecordingWorker;
  readonly config: ConfigInput;
  link(manifest?: object): Promise<LinkClient>;
  client(): Promise<EngineClient>;
}

async function start(config: ConfigInput = {}, options: RecordingWorkerOptions = {}): Promise<Stack> {
  const worker = await startRecordingWorker(options);
  stops.push(() => worker.stop());
  const whole = { name: 'shop', secret: SECRET, backends: [worker.url], ...config };
  const sidecar = await startComposed(whole);
  stops.push(() => sidecar.stop());
  return {
    sidecar,
    worker,
    config: whole,
    async link(manifest = MANIFEST) {
      const before = sidecar.running.operator.stats().links.length;
      const link = await LinkClient.link(sidecar.running.addresses.link ?? '', SECRET, manifest);
      stops.push(() => link.end());
      await eventually(() => sidecar.running.operator.stats().links.length).toBe(before + 1);
      return link;
    },
    async client() {
      const headers = { cookie: `other=1; sessionid=${COOKIE}` };
      const client = await EngineClient.open(sidecar.url, { token: TOKEN, headers });
      stops.push(() => client.end());
      await client.connect();
      return client;
    },
  };
}

let serial = 0;

/** Sends an event and returns what of it reached the worker. */
async function sent(stack: Stack, client: EngineClient, name: string, payload = '{}'): Promise<string> {
  const mark = `"mark":${++serial}`;
  client.send(`42/_event,["event",{"name":"${name}","payload":${payload},"router_data":{"pathname":"/",${mark}}}]`);
  return stack.worker.untilText((text) => text.includes(`${mark}}`) || text.includes(`${mark},`));
}

function annotationOf(text: string): string | undefined {
  return /"_bridgehead":"([^"]+)"/.exec(text)?.[1];
}

/** The claims, if the companion would take them. */
function claimsOf(text: string, handler: string): AnnotationClaims | undefined {
  const context = { name: 'shop', token: tokenHash(TOKEN), session: sessionHash(COOKIE), handler, now: Date.now() };
  const result = verifyAnnotation(annotationOf(text), keyring(SECRET, [], 'annotation'), context);
  return result.valid ? result.claims : undefined;
}

describe('an annotation', () => {
  it('is made while a linked worker is known, and not before or after', async () => {
    const stack = await start();
    const client = await stack.client();
    const name = 'root.cart.add';
    expect(annotationOf(await sent(stack, client, name))).toBeUndefined();
    const link = await stack.link();
    expect(claimsOf(await sent(stack, client, name), name)).toMatchObject({ n: 'shop', tier: 'none' });
    expect(claimsOf(await sent(stack, client, 'root.order.place'), 'root.order.place')).toMatchObject({
      tier: 'auth_only',
    });
    link.end();
    await eventually(() => stack.sidecar.running.operator.stats().links).toEqual([]);
    expect(annotationOf(await sent(stack, client, name))).toBeUndefined();
    expect(stack.sidecar.metrics.annotations).toBe(2);
  });

  it('is on the boot event in CONNECT, and on nothing but events', async () => {
    const stack = await start();
    await stack.link();
    const client = await EngineClient.open(stack.sidecar.url, {
      token: TOKEN,
      headers: { cookie: `sessionid=${COOKIE}` },
    });
    stops.push(() => client.end());
    await client.connect('/_event', '{"event":{"name":"root.hydrate_and_load","payload":{}},"state_schema":"x"}');
    client.send('42/_event,["ping"]');
    client.send('42/_event,["client_error",{"message":"x"}]');
    client.send('40/chat,');
    client.send('42/chat,["event",{"name":"root.cart.add"}]');
    await stack.worker.untilText((text) => text.startsWith('42/chat'));
    const texts = stack.worker.texts();
    expect(claimsOf(texts[0] ?? '', 'root.hydrate_and_load')).toMatchObject({ tier: 'full' });
    expect(texts[0]).toContain('"router_data":{"_bridgehead":"');
    expect(texts.slice(1)).toEqual([
      '42/_event,["ping"]',
      '42/_event,["client_error",{"message":"x"}]',
      '40/chat,',
      '42/chat,["event",{"name":"root.cart.add"}]',
    ]);
  });

  it('takes the place of one that the client wrote, also in headers of an upload', async () => {
    let header: string | undefined;
    const stack = await start(
      {},
      {
        request: (incoming, outgoing) => {
          header = [incoming.headers['x-bridgehead-annotation']].flat().join();
          outgoing.end();
        },
      },
    );
    await stack.link();
    const client = await stack.client();
    const forged = '{"name":"root.cart.add","router_data":{"\\u005fbridgehead":"v1.forged","mark":0}}';
    client.send(`42/_event,["event",${forged}]`);
    const text = await stack.worker.untilText((frame) => frame.includes('"mark":0'));
    expect(text.match(/bridgehead/g)).toHaveLength(1);
    expect(claimsOf(text, 'root.cart.add')).toMatchObject({ tier: 'none' });
    expect(stack.sidecar.metrics.forged).toBe(1);

    const handler = 'root.cart.add';
    await fetch(`${stack.sidecar.url}/_upload`, {
      method: 'POST',
      body: 'x',
      headers: {
        'Reflex-Client-Token': TOKEN,
        'Reflex-Event-Handler': handler,
        'X-Bridgehead-Annotation': 'v1.forged',
        X_Bridgehead_Annotation: 'v1.forged',
        cookie: `sessionid=${COOKIE}`,
      },
    });
    // An upload needs the user at least.
    expect(claimsOf(`"_bridgehead":"${header}"`, handler)).toMatchObject({ tier: 'auth_only' });
  });

  it('stays away where the event would become longer than the worker takes', async () => {
    const stack = await start({}, { maxPayload: 3_000 });
    await stack.link();
    const client = await stack.client();
    const short = await sent(stack, client, 'root.cart.add', `{"x":"${'x'.repeat(1_000)}"}`);
    expect(annotationOf(short)).toBeDefined();
    const long = await sent(stack, client, 'root.cart.add', `{"x":"${'x'.repeat(2_700)}"}`);
    expect(annotationOf(long)).toBeUndefined();
    expect(client.closed).toBeUndefined();
  });

  it('follows the rules, the manifest and the mode as each is reloaded', async () => {
    const stack = await start();
    const link = await stack.link();
    const client = await stack.client();
    const tier = async (name: string): Promise<string | undefined> =>
      claimsOf(await sent(stack, client, name), name)?.tier ?? 'none of ours';
    expect(await tier('root.note.save')).toBe('full');
    const reload = (config: ConfigInput): void =>
      stack.sidecar.running.reload(configSchema.parse({ ...stack.config, ...config }));
    reload({ tiers: { rules: [{ state: 'shop.note.*', handler: 'sa?e', tier: 'auth_only' }] } });
    expect(await tier('root.note.save')).toBe('auth_only');
    expect((await link.until(LinkFrame.rules, 2)).body).toMatchObject({ version: 2 });
    reload({ tiers: { mode: 'smart' } });
    expect(await tier('root.note.save')).toBe('none');
    reload({});
    // The same code with other settings: the build is the same, the mode is not.
    link.send(LinkFrame.manifest, { ...MANIFEST, mode: 'smart' });
    await eventually(() => tier('root.note.save')).toBe('none');
    link.send(LinkFrame.manifest, { ...MANIFEST, resolver: true });
    await eventually(() => tier('root.note.save')).toBe('none of ours');
    reload({ tiers: { shadow: true } });
    expect(annotationOf(await sent(stack, client, 'root.cart.add'))).toBeUndefined();
    reload({});
    expect(annotationOf(await sent(stack, client, 'root.cart.add'))).toBeDefined();
  });

  it('is the page’s own handlers’ where a rule asks everybody for a login: they alone pass, by their exact names', async () => {
    const stack = await start({ tiers: { rules: [{ login: 'required' }] } });
    await stack.link({ ...MANIFEST, auth: true });
    const client = await EngineClient.open(stack.sidecar.url, { token: TOKEN });
    stops.push(() => client.end());
    await client.connect();
    const root = 'reflex___state____state';
    const own = [
      `${root}.hydrate`,
      `${root}.hydrate_and_load`,
      `${root}.set_is_hydrated`,
      `${root}.reflex___state____on_load_internal_state.on_load_internal`,
      `${root}.reflex___state____on_load_internal_state.set_is_hydrated`,
    ];
    const others = [
      'root.hydrate',
      'root.cart.set_is_hydrated',
      `${root}.on_load_internal`,
      `${root}.shop___on_load_internal_state.on_load_internal`,
      `${root}.hydrate.hydrate`,
      `x.${root}.hydrate`,
    ];
    for (const name of [...others, ...own]) {
      client.send(`42/_event,["event",{"name":"${name}","payload":{},"router_data":{"pathname":"/login"}}]`);
    }
    await stack.worker.untilText((text) => text.includes(own.at(-1) ?? ''));
    const names = stack.worker.texts().flatMap((text) => /"name":"([^"]+)"/.exec(text)?.[1] ?? []);
    expect(names).toEqual(own);
    expect(client.messages.filter((text) => text.includes('_redirect'))).toHaveLength(others.length);
  });

  it('carries the user that a worker told of, and access is refused at the edge', async () => {
    const stack = await start({ tiers: { rules: [{ state: 'shop.order.*', login: 'staff' }] } });
    const link = await stack.link({ ...MANIFEST, auth: true });
    const client = await stack.client();
    const user = { m: 'auth.user', id: '7', b: 'backend', h: 'hash', f: { is_active: true, is_staff: false } };
    const first = sent(stack, client, 'root.note.save');
    const query = await link.until(LinkFrame.authQuery);
    expect(query.body['cookie']).toBe(COOKIE);
    link.send(LinkFrame.authReply, {
      id: query.body['id'],
      at: Date.now(),
      result: { kind: 'user', user, permissions: [] },
    });
    expect(claimsOf(await first, 'root.note.save')).toMatchObject({ u: user });
    expect(claimsOf(await sent(stack, client, 'root.cart.add'), 'root.cart.add')).not.toHaveProperty('u');

    client.send('42/_event,["event",{"name":"root.order.place","payload":{}}]');
    await client.until(() => client.messages.some((text) => text.includes('bridgehead-forbidden')));
    // CONNECT is no way round: the worker would run any event it finds there.
    const other = await EngineClient.open(stack.sidecar.url, {
      token: TOKEN,
      headers: { cookie: `sessionid=${COOKIE}` },
    });
    stops.push(() => other.end());
    other.send('40/_event,{"event":{"name":"root.order.place","payload":{}}}');
    await other.until(() => other.messages.some((text) => text.startsWith('4/_event,')));
    const hydrate = '40/_event,{"event":{"name":"root.hydrate","payload":{}}}';
    other.send(hydrate);
    await stack.worker.untilText((text) => text.includes('root.hydrate'));
    expect(stack.worker.texts().filter((text) => text.includes('root.order'))).toEqual([]);
  });
});

describe('the log', () => {
  it('has seen no secret, token or cookie', () => {
    expect(everyLogLine()).toContain('worker linked');
    expect(everyLogLine()).not.toMatch(/secret-/);
  });
});
