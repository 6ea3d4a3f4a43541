import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { linkServer } from '../../src/adapters/link/link-server.ts';
import { Figures } from '../../src/adapters/metrics/figures.ts';
import type { Invalidation } from '../../src/ports/auth.ts';
import type { LinkServer, RulesMessage, SessionChange } from '../../src/ports/links.ts';
import type { Change } from '../../src/protocol/change.ts';
import { keyring } from '../../src/protocol/keys.ts';
import {
  encodeControl,
  encodeFrame,
  LinkFrame,
  linkMac,
  MAX_FRAME,
  MAX_FRAME_BEFORE_PROOF,
} from '../../src/protocol/link.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient, MANIFEST } from '../support/link-client.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { loadVectors } from '../support/vectors.ts';

const SECRET = 'a-secret-that-only-these-tests-know-0001';
const PREVIOUS = 'a-secret-that-only-these-tests-know-0000';
const RULES: RulesMessage = {
  mode: 'inherit',
  resolve: false,
  shadow: false,
  rules: [
    { state: 'shop.cart.*', tier: 'none' },
    { path: '/admin/*', tier: 'full', login: { permission: 'shop.add' } },
  ],
  permissions: ['shop.add'],
};

describe.each(['TCP', 'a Unix socket'] as const)('a link over %s', (kind) => {
  let folder: string;
  let clock: ManualClock;
  let metrics: Figures;
  let server: LinkServer;
  let address: string;
  const lines: string[] = [];
  const said = {
    workers: 0,
    sessions: [] as SessionChange[],
    invalidated: [] as Invalidation[],
    lost: [] as unknown[],
    ids: [] as unknown[],
    reported: [] as unknown[],
    published: [] as unknown[],
    bus: (): Promise<boolean> => Promise.resolve(true),
  };
  const clients: LinkClient[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bridgehead-link-'));
    clock = new ManualClock();
    metrics = new Figures();
    lines.length = 0;
    Object.assign(said, { workers: 0, sessions: [], invalidated: [], lost: [], ids: [], reported: [], published: [] });
    said.bus = () => Promise.resolve(true);
    const log = (fields: object, message: string): void => void lines.push(JSON.stringify({ fields, message }));
    server = linkServer(
      {
        listen: kind === 'TCP' ? { host: '127.0.0.1', port: 0 } : { path: join(folder, 'link.sock') },
        name: 'shop',
        instance: 'sidecar-1',
      },
      {
        keys: keyring(SECRET, [PREVIOUS], 'link'),
        clock,
        metrics,
        logger: { debug: log, info: log, warn: log, error: log },
      },
    );
    server.listener = {
      workers: () => said.workers++,
      session: (change) => void said.sessions.push(change),
      invalidated: (what, id) => {
        said.invalidated.push(what);
        said.ids.push(id);
      },
      lost: ({ instance }, end) => void said.lost.push([instance, end]),
      reported: (worker, report) => void said.reported.push([worker, report]),
      published: (changes) => {
        said.published.push(...changes);
        return said.bus();
      },
      missed: (gap) => {
        said.published.push(gap);
        return said.bus();
      },
    };
    address = await server.listen();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.end();
    await server.close();
    await rm(folder, { recursive: true, force: true });
    expect(lines.join('\n')).not.toContain(SECRET);
    expect(lines.join('\n')).not.toContain(PREVIOUS);
  });

  const dial = async (): Promise<LinkClient> => {
    const client = await LinkClient.dial(address);
    clients.push(client);
    return client;
  };
  const link = async (secret = SECRET, manifest: object = MANIFEST): Promise<LinkClient> => {
    const client = await LinkClient.link(address, secret, manifest);
    clients.push(client);
    return client;
  };

  it('begins with HELLO: version, name, instance and a nonce of its own', async () => {
    const [first, second] = [await dial(), await dial()];
    expect(first.hello).toMatchObject({ v: [1], name: 'shop', instance: 'sidecar-1' });
    expect(String(first.hello['nonce'])).toMatch(/^[\w-]{43}$/);
    expect(first.hello['nonce']).not.toBe(second.hello['nonce']);
  });

  it('is proved by both sides and then tells of its worker, once', async () => {
    const client = await link();
    await eventually(() => server.workers).toHaveLength(1);
    expect(server.workers[0]?.manifest).toMatchObject({
      instance: 'worker-1',
      build: MANIFEST.build,
      cookie: 'sessionid',
    });
    expect(server.workers[0]?.manifest.states.get('root.cart')?.handlers).toEqual(['add', 'toggle']);
    expect(said.workers).toBe(1);
    expect(metrics.links.count('up')).toBe(1);
    client.end();
    await eventually(() => server.workers).toHaveLength(0);
    expect(said.workers).toBe(2);
    expect(metrics.links.count('down')).toBe(1);
  });

  it('takes the previous secret, and answers with the same', async () => {
    await link(PREVIOUS);
    await eventually(() => server.workers).toHaveLength(1);
  });

  it('sends the rules after the manifest and whenever they are set, with a version that counts', async () => {
    const early = await link();
    await eventually(() => server.workers).toHaveLength(1);
    expect(early.of(LinkFrame.rules)).toHaveLength(0);
    server.setRules(RULES);
    const first = await early.until(LinkFrame.rules);
    expect(first.body).toEqual({
      version: 1,
      mode: 'inherit',
      resolve: false,
      shadow: false,
      permissions: ['shop.add'],
      rules: [
        { state: 'shop.cart.*', handler: null, path: null, tier: 'none', login: null },
        { state: null, handler: null, path: '/admin/*', tier: 'full', login: { permission: 'shop.add' } },
      ],
    });
    const late = await link(SECRET, { ...MANIFEST, instance: 'worker-2' });
    expect((await late.until(LinkFrame.rules)).body).toEqual(first.body);
    server.setRules({ ...RULES, mode: 'smart', rules: [] });
    for (const [client, count] of [
      [early, 2],
      [late, 2],
    ] as const) {
      expect((await client.until(LinkFrame.rules, count)).body).toMatchObject({ version: 2, mode: 'smart', rules: [] });
    }
  });

  it('takes another manifest of the same worker', async () => {
    const client = await link();
    await eventually(() => server.workers).toHaveLength(1);
    const { since } = server.workers[0] ?? {};
    clock.advance(1_000);
    client.send(LinkFrame.manifest, { ...MANIFEST, mode: 'none', loginUrl: '/other' });
    await eventually(() => server.workers[0]?.manifest.mode).toBe('none');
    expect(server.workers[0]?.since).toBe(since);
    expect([said.workers, metrics.links.count('up')]).toEqual([2, 1]);
  });

  it('knows several workers at once', async () => {
    const names = ['a', 'b', 'c'];
    for (const instance of names) await link(SECRET, { ...MANIFEST, instance });
    await eventually(() => server.workers.map(({ manifest }) => manifest.instance)).toEqual(names);
    clients[1]?.end();
    await eventually(() => server.workers.map(({ manifest }) => manifest.instance)).toEqual(['a', 'c']);
  });

  describe('refuses', () => {
    const refused = async (client: LinkClient, code: string): Promise<void> => {
      expect(await client.untilClosed()).toBe(code);
      expect(server.workers).toHaveLength(0);
      expect([said.workers, metrics.links.count('up'), metrics.links.count('refused')]).toEqual([0, 0, 1]);
    };

    it('a wrong secret, an unknown kid and a wrong mac with one and the same answer', async () => {
      const other = 'a-secret-that-nobody-ever-configured-000';
      const answers: unknown[] = [];
      for (const prove of [
        (client: LinkClient) => client.prove(other),
        (client: LinkClient) => client.prove(SECRET, { kid: 'AAAAAAAA' }),
        (client: LinkClient) => client.prove(SECRET, { mac: 'x'.repeat(43) }),
        (client: LinkClient) => client.prove(SECRET, { mac: '' }),
        (client: LinkClient) => client.prove(other, { kid: keyring(SECRET, [], 'link').current.id }),
        (client: LinkClient) => client.prove(SECRET, { nonce: 'another nonce that was not signed' }),
        (client: LinkClient) => client.prove(SECRET, { kid: 7, mac: null }),
      ]) {
        const client = await dial();
        prove(client);
        expect(await client.untilClosed()).toBe('AUTH');
        answers.push(client.of(LinkFrame.error)[0]?.body);
        expect(client.of(LinkFrame.welcome)).toEqual([]);
      }
      expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
      expect(server.workers).toHaveLength(0);
    });

    it('its own nonce and mac sent back, and a mac of the other direction', async () => {
      const key = keyring(SECRET, [], 'link').current;
      const reflected = await dial();
      const own = String(reflected.hello['nonce']);
      const proof = { name: 'shop', sidecarNonce: own, workerNonce: own };
      reflected.send(LinkFrame.auth, { v: 1, kid: key.id, nonce: own, mac: linkMac(key, 'worker', proof) });
      await refused(reflected, 'AUTH');
      const turned = await dial();
      turned.prove(SECRET, { mac: linkMac(key, 'sidecar', turned.proof()) });
      expect(await turned.untilClosed()).toBe('AUTH');
    });

    it('a proof that was seen on another link', async () => {
      const honest = await dial();
      const key = keyring(SECRET, [], 'link').current;
      const seen = { v: 1, kid: key.id, nonce: honest.nonce, mac: linkMac(key, 'worker', honest.proof()) };
      honest.send(LinkFrame.auth, seen);
      await honest.until(LinkFrame.welcome);
      const replayed = await dial();
      replayed.send(LinkFrame.auth, seen);
      await refused(replayed, 'AUTH');
    });

    it('a short nonce, rightly signed', async () => {
      const client = await dial();
      const key = keyring(SECRET, [], 'link').current;
      const mac = linkMac(key, 'worker', { ...client.proof(), workerNonce: 'short' });
      client.send(LinkFrame.auth, { v: 1, kid: key.id, nonce: 'short', mac });
      await refused(client, 'AUTH');
    });

    it('another version', async () => {
      const client = await dial();
      client.prove(SECRET, { v: 2 });
      await refused(client, 'VERSION');
    });

    it('a manifest before the proof, and everything else that is not AUTH', async () => {
      const client = await dial();
      client.send(LinkFrame.manifest, MANIFEST);
      await refused(client, 'FRAME');
    });

    it('a frame of more than 4,096 bytes before the proof, by its length alone', async () => {
      const client = await dial();
      const head = Buffer.alloc(4);
      head.writeUInt32BE(MAX_FRAME_BEFORE_PROOF + 1);
      client.socket.write(head);
      await refused(client, 'FRAME');
    });

    it('a frame of more than 16 MiB after the proof', async () => {
      const client = await dial();
      client.prove(SECRET);
      await client.until(LinkFrame.welcome);
      const head = Buffer.alloc(4);
      head.writeUInt32BE(MAX_FRAME + 1);
      client.socket.write(head);
      await refused(client, 'FRAME');
    });

    it('a frame of a session: this version has none', async () => {
      const client = await dial();
      client.prove(SECRET);
      await client.until(LinkFrame.welcome);
      client.socket.write(encodeFrame(32, 1, Buffer.from('x')));
      await refused(client, 'FRAME');
    });

    const { invalid } = loadVectors('link-frames.json') as { invalid: { title: string; hex: string }[] };

    it.each(invalid)('$title, before the proof', async ({ hex }) => {
      const client = await dial();
      client.socket.write(Buffer.from(hex, 'hex'));
      await refused(client, 'FRAME');
    });

    // The limit that one of them breaks is 4,096 bytes, which holds before the proof alone.
    it.each(invalid.filter(({ title }) => !title.includes('limit')))('$title, after the proof', async ({ hex }) => {
      const client = await dial();
      client.prove(SECRET);
      await client.until(LinkFrame.welcome);
      client.socket.write(Buffer.from(hex, 'hex'));
      await refused(client, 'FRAME');
    });

    it('text that is no frame', async () => {
      const client = await dial();
      client.socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      await refused(client, 'FRAME');
    });

    it('a worker of another deployment', async () => {
      await refused(await link(SECRET, { ...MANIFEST, name: 'other' }), 'NAME');
    });

    it.each([
      ['no states', { states: undefined }],
      ['a list as states', { states: [] }],
      ['an unknown tier', { states: { a: { class: 'b.C', tier: 'half', smart: 'none', handlers: [] } } }],
      ['a number as handler', { states: { a: { class: 'b.C', tier: null, smart: 'none', handlers: [1] } } }],
      ['an unknown mode', { mode: 'fast' }],
      ['no build', { build: undefined }],
      ['a build of 2,000 characters', { build: 'x'.repeat(2_000) }],
      ['text as capacity', { capacity: 'many' }],
      ['a negative pid', { pid: -1 }],
    ])('a manifest with %s, naming the field and never its value', async (_what, changes) => {
      const client = await link(SECRET, { ...MANIFEST, secret_value: 'not-to-be-told', ...changes });
      await refused(client, 'MANIFEST');
      const message = String(client.of(LinkFrame.error)[0]?.body['message']);
      expect(message).toMatch(/expected/);
      expect(message).not.toMatch(/not-to-be-told|half|fast|many|xxx/);
    });

    it('a second manifest that is bad: the worker is gone', async () => {
      const client = await link();
      await eventually(() => server.workers).toHaveLength(1);
      client.send(LinkFrame.manifest, { ...MANIFEST, mode: 'fast' });
      expect(await client.untilClosed()).toBe('MANIFEST');
      expect(server.workers).toHaveLength(0);
      expect(metrics.links.count('down')).toBe(1);
    });

    it('a handshake that takes more than 5 s, however busy', async () => {
      const [silent, half, unnamed] = [await dial(), await dial(), await dial()];
      half.socket.write(encodeControl(LinkFrame.auth, { v: 1 }).subarray(0, 9));
      unnamed.prove(SECRET);
      await unnamed.until(LinkFrame.welcome);
      for (let second = 1; second < 5; second++) {
        clock.advance(1_000);
        unnamed.send(LinkFrame.ping, { t: second });
        await unnamed.until(LinkFrame.pong, second);
      }
      clock.advance(1_000);
      for (const client of [silent, half, unnamed]) expect(await client.untilClosed()).toBe('TIMEOUT');
      expect(server.workers).toHaveLength(0);
    });
  });

  describe('lives', () => {
    it('by pings when nothing else is said, and answers them at once', async () => {
      const client = await link();
      client.answersPings = false;
      await eventually(() => server.workers).toHaveLength(1);
      clock.advance(1_699);
      expect(client.of(LinkFrame.ping)).toEqual([]);
      clock.advance(1);
      expect((await client.until(LinkFrame.ping)).body['t']).toBe(clock.now());
      client.send(LinkFrame.ping, { t: 42 });
      expect((await client.until(LinkFrame.pong)).body).toEqual({ t: 42 });
    });

    it('as long as the worker says anything, and ends after 5.1 s without a word', async () => {
      const client = await link();
      client.answersPings = false;
      await eventually(() => server.workers).toHaveLength(1);
      for (let round = 1; round <= 5; round++) {
        clock.advance(5_000);
        client.send(LinkFrame.ping, { t: round });
        await client.until(LinkFrame.pong, round);
      }
      clock.advance(5_099);
      expect(server.workers).toHaveLength(1);
      clock.advance(1);
      await client.untilClosed();
      expect(server.workers).toHaveLength(0);
      expect(lines.join()).toContain('no word from the worker');
    });

    it('also half a frame that never ends is no word for ever', async () => {
      const client = await link();
      client.answersPings = false;
      await eventually(() => server.workers).toHaveLength(1);
      client.socket.write(encodeControl(LinkFrame.ping, { t: 1 }).subarray(0, 8));
      await eventually(() => {
        clock.advance(2_500);
        return server.workers.length;
      }).toBe(0);
      await client.untilClosed();
    });

    it('until the worker says GOAWAY or ERROR', async () => {
      for (const [type, message] of [
        [LinkFrame.goaway, { reason: 'restart' }],
        [LinkFrame.error, { code: 'X', message: 'y' }],
      ] as const) {
        const client = await link();
        await eventually(() => server.workers).toHaveLength(1);
        client.send(type, message);
        await client.untilClosed();
        expect(server.workers).toHaveLength(0);
      }
    });

    it('and tells how it was lost, unless it ended in order or the worker has another one', async () => {
      const goodbye = await link();
      await eventually(() => server.workers).toHaveLength(1);
      goodbye.send(LinkFrame.goaway, { reason: 'restart' });
      await goodbye.untilClosed();
      const former = await link(SECRET, { ...MANIFEST, instance: 'twice' });
      await eventually(() => server.workers).toHaveLength(1);
      const newer = await link(SECRET, { ...MANIFEST, instance: 'twice' });
      await former.untilClosed();
      await eventually(() => server.workers).toHaveLength(1);
      expect(said.lost).toEqual([]);
      newer.end();
      await eventually(() => said.lost).toHaveLength(1);
      const hung = await link(SECRET, { ...MANIFEST, instance: 'hung' });
      hung.answersPings = false;
      await eventually(() => server.workers).toHaveLength(1);
      await eventually(() => {
        clock.advance(2_500);
        return server.workers.length;
      }).toBe(0);
      // Destroyed with something unread, a connection is reset: over TCP nobody knows what came before.
      expect(said.lost).toEqual([
        ['twice', expect.stringMatching(/^(closed|silent)$/)],
        ['hung', 'silent'],
      ]);
    });

    it('through frames that a newer worker may send', async () => {
      const client = await link();
      client.send(31, { what: 'ever' });
      client.send(LinkFrame.ping, { t: 1 });
      await client.until(LinkFrame.pong);
      expect(server.workers).toHaveLength(1);
    });

    it('until the sidecar leaves, which it says', async () => {
      const [ready, halfway] = [await link(), await dial()];
      await eventually(() => server.workers).toHaveLength(1);
      const closed = server.close();
      for (const client of [ready, halfway]) {
        await client.until(LinkFrame.goaway);
        client.socket.end();
      }
      await closed;
      await expect(LinkClient.dial(address)).rejects.toThrow(/ECONNREFUSED|ENOENT/);
    });

    it('no longer than a second after that with a worker that stays', async () => {
      const client = await link();
      await eventually(() => server.workers).toHaveLength(1);
      client.socket.allowHalfOpen = true;
      let closed = false;
      const closing = server.close().then(() => (closed = true));
      await client.until(LinkFrame.goaway);
      expect(closed).toBe(false);
      clock.advance(1_000);
      await closing;
    });
  });

  describe('carries', () => {
    const ABLE = { ...MANIFEST, auth: true };
    const user = { m: 'auth.user', id: '7', b: 'backend', h: 'hash', f: { username: 'ada', is_active: true } };

    it('questions for users, each answered by its id', async () => {
      const client = await link(SECRET, ABLE);
      await eventually(() => server.workers).toHaveLength(1);
      const signal = new AbortController().signal;
      const first = server.resolve('cookie-1', signal);
      const second = server.resolve('cookie-2', signal);
      const asked = [await client.until(LinkFrame.authQuery, 1), await client.until(LinkFrame.authQuery, 2)];
      expect(asked.map(({ body }) => body['cookie'])).toEqual(['cookie-1', 'cookie-2']);
      const at = clock.now() - 5;
      client.send(LinkFrame.authReply, { id: asked[1]?.body['id'], at, result: { kind: 'anonymous' } });
      expect(await second).toMatchObject({ kind: 'anonymous', at });
      const result = { kind: 'user', user, permissions: ['shop.add'] };
      client.send(LinkFrame.authReply, { id: asked[0]?.body['id'], at: clock.now() + 60_000, result });
      // An answer cannot have been made later than it came.
      expect(await first).toMatchObject({ kind: 'user', user, permissions: ['shop.add'], at: clock.now() });
      client.send(LinkFrame.authReply, { id: 99, at, result });
      client.send(LinkFrame.ping, { t: 1 });
      await client.until(LinkFrame.pong);
    });

    it.each([
      ['no kind', {}],
      ['a user without a snapshot', { kind: 'user', permissions: [] }],
      ['a user without an id', { kind: 'user', user: { ...user, id: undefined }, permissions: [] }],
      ['text', 'user'],
      ['null', null],
    ])('no answer it could not have meant: %s', async (_what, result) => {
      const client = await link(SECRET, ABLE);
      await eventually(() => server.workers).toHaveLength(1);
      const answer = server.resolve('cookie', new AbortController().signal);
      const { body } = await client.until(LinkFrame.authQuery);
      client.send(LinkFrame.authReply, { id: body['id'], at: clock.now(), result });
      expect((await answer).kind).toBe('unavailable');
    });

    it('no question to a worker that cannot answer, and tells that nobody can', async () => {
      const signal = new AbortController().signal;
      expect(await server.resolve('cookie', signal)).toEqual({ kind: 'unavailable', cause: 'no worker is linked' });
      const client = await link();
      await eventually(() => server.workers).toHaveLength(1);
      expect((await server.resolve('cookie', signal)).kind).toBe('unavailable');
      expect(client.of(LinkFrame.authQuery)).toEqual([]);
    });

    it('a question on to the next worker when the first is lost, and none for longer than its signal', async () => {
      const clients = [await link(SECRET, ABLE), await link(SECRET, { ...ABLE, instance: 'worker-2' })];
      await eventually(() => server.workers).toHaveLength(2);
      const answer = server.resolve('cookie', new AbortController().signal);
      await eventually(() => clients.filter((client) => client.of(LinkFrame.authQuery).length > 0)).toHaveLength(1);
      const [asked, other] = clients[0]?.of(LinkFrame.authQuery).length === 1 ? clients : clients.toReversed();
      asked?.end();
      const query = await other?.until(LinkFrame.authQuery);
      other?.send(LinkFrame.authReply, { id: query?.body['id'], at: clock.now(), result: { kind: 'anonymous' } });
      expect((await answer).kind).toBe('anonymous');
      const abort = new AbortController();
      const late = server.resolve('cookie', abort.signal);
      await other?.until(LinkFrame.authQuery, 2);
      abort.abort();
      expect((await late).kind).toBe('unavailable');
    });

    it('at most 64 open questions for each worker', async () => {
      const client = await link(SECRET, ABLE);
      await eventually(() => server.workers).toHaveLength(1);
      const signal = new AbortController().signal;
      const answers = Array.from({ length: 65 }, (_, index) => server.resolve(`cookie-${index}`, signal));
      expect((await answers[64])?.kind).toBe('unavailable');
      await client.until(LinkFrame.authQuery, 64);
      client.end();
      for (const answer of answers) expect((await answer).kind).toBe('unavailable');
    });

    it('questions, which are for the primary for 30 s from the start and from an invalidation', async () => {
      const client = await link(SECRET, { ...MANIFEST, auth: true });
      await eventually(() => server.workers).toHaveLength(1);
      let queries = 0;
      const isForPrimary = async (): Promise<boolean> => {
        void server.resolve('cookie', AbortSignal.timeout(10_000));
        return (await client.until(LinkFrame.authQuery, ++queries)).body['primary'] === true;
      };
      let pings = 0;
      /** In steps, so that the worker is heard in between. */
      const pass = async (milliseconds: number): Promise<void> => {
        for (let left = milliseconds; left > 0; left -= 1_000) {
          clock.advance(Math.min(left, 1_000));
          client.send(LinkFrame.ping, { t: 1 });
          await client.until(LinkFrame.pong, ++pings);
        }
      };
      const turns = async (): Promise<boolean[]> => {
        const before = await isForPrimary();
        await pass(29_999);
        const last = await isForPrimary();
        await pass(1);
        return [before, last, await isForPrimary()];
      };
      expect(await turns()).toEqual([true, true, false]);
      server.invalidated();
      expect(await turns()).toEqual([true, true, false]);
    });

    it('logins, logouts and invalidations, and drops what is none', async () => {
      const client = await link();
      client.session({ t: 'token-hash', session: 'a-session', cookie: 'new' });
      client.session({ t: 'token-hash', cookie: null, n: 7 });
      client.send(LinkFrame.invalidate, { id: 'i1', user: 'auth.user:7' });
      client.send(LinkFrame.invalidate, { id: 'i2', session: 'hash' });
      client.send(LinkFrame.invalidate, { id: 'i3', all: true });
      client.send(LinkFrame.invalidate, { id: 'i4' });
      client.send(LinkFrame.invalidate, { id: 'i5', user: 7 });
      client.send(LinkFrame.invalidate, { user: 'auth.user:8' });
      client.send(LinkFrame.invalidate, { id: 'x'.repeat(101), user: 'auth.user:9' });
      client.send(LinkFrame.ping, { t: 1 });
      await client.until(LinkFrame.pong);
      expect(said.sessions).toEqual([
        { token: 'token-hash', session: 'a-session', cookie: 'new' },
        { token: 'token-hash', session: null, cookie: null },
      ]);
      expect(said.invalidated).toEqual([
        { user: 'auth.user:7' },
        { session: 'hash' },
        { all: true },
        { user: 'auth.user:8' },
        { user: 'auth.user:9' },
      ]);
      expect(said.ids).toEqual(['i1', 'i2', 'i3', undefined, undefined]);
    });

    it.each<[string, (client: LinkClient) => void]>([
      ['without a mac', (client) => client.session({ t: 'x', cookie: null }, { mac: undefined })],
      ['that is not signed', (client) => client.send(LinkFrame.session, { t: 'x', cookie: null })],
      [
        'with other words under its mac',
        (client) => client.session({ t: 'x', cookie: null }, { said: '{"n":1,"t":"y"}' }),
      ],
      [
        'that was played back',
        (client) => {
          client.session({ t: 'x', cookie: null });
          client.session({ t: 'x', cookie: null, n: 1 });
        },
      ],
      ['that is not counted', (client) => client.session({ t: 'x', cookie: null, n: '2' })],
      ['without a cookie', (client) => client.session({ t: 'x' })],
      ['without a token', (client) => client.session({ t: 7, cookie: null })],
      [
        'that was signed for another link',
        (client) => {
          const proof = { ...client.proof(), sidecarNonce: 'A'.repeat(43) };
          const said = '{"n":1,"t":"x","session":null,"cookie":"new"}';
          const key = keyring(SECRET, [], 'link').current;
          client.send(LinkFrame.session, { said, mac: linkMac(key, 'session', proof, said) });
        },
      ],
    ])('no SESSION %s: the link ends', async (_what, send) => {
      const client = await link();
      await eventually(() => server.workers).toHaveLength(1);
      send(client);
      expect(await client.untilClosed()).toBe('FRAME');
      expect(said.sessions.filter(({ cookie }) => cookie !== null)).toEqual([]);
    });

    it('changes of workers to the bus, each answered, and passes over what is none', async () => {
      const client = await link();
      await eventually(() => server.workers).toHaveLength(1);
      const change = { id: 'a', model: 'shop.product', action: 'updated', pk: 1, at: 5 };
      client.send(LinkFrame.changes, { n: 1, changes: [change, { model: 'none' }, 7] });
      client.send(LinkFrame.gap, { n: 2 });
      client.send(LinkFrame.changes, { n: 3, changes: [] });
      await client.until(LinkFrame.changed, 3);
      expect(said.published).toEqual([change, { reason: 'reported' }]);
      said.bus = () => Promise.resolve(false);
      client.send(LinkFrame.changes, { n: 4, changes: [change] });
      await client.until(LinkFrame.changed, 4);
      expect(client.of(LinkFrame.changed).map(({ body }) => [body['n'], body['ok']])).toEqual([
        [1, true],
        [2, true],
        [3, true],
        [4, false],
      ]);
    });

    it('at most 64 frames of changes for a bus that does not answer; further ones are to be sent again', async () => {
      const client = await link();
      await eventually(() => server.workers).toHaveLength(1);
      const waiting: ((ok: boolean) => void)[] = [];
      said.bus = () => new Promise((resolve) => waiting.push(resolve));
      const change = { id: 'a', model: 'shop.product', action: 'updated', pk: 1, at: 5 };
      for (let n = 1; n <= 65; n++) client.send(LinkFrame.changes, { n, changes: [change] });
      expect((await client.until(LinkFrame.changed)).body).toEqual({ n: 65, ok: false });
      expect(waiting).toHaveLength(64);
      for (const answer of waiting) answer(true);
      await client.until(LinkFrame.changed, 65);
    });

    it('to each worker the changes and gaps of what it watches, and one gap where it reads too slowly', async () => {
      const [all, products, none] = [
        await link(),
        await link(SECRET, { ...MANIFEST, instance: 'b' }),
        await link(SECRET, { ...MANIFEST, instance: 'c' }),
      ];
      await eventually(() => server.workers).toHaveLength(3);
      all.send(LinkFrame.watch, { models: null });
      products.send(LinkFrame.watch, { models: ['shop.Product'] });
      for (const client of [all, products]) {
        client.send(LinkFrame.ping, { t: 1 });
        await client.until(LinkFrame.pong);
      }
      const change = (model: string, id = model): Change => ({ id, model, action: 'updated', pk: 1, at: 5 });
      server.tell([change('shop.product'), change('shop.order')]);
      server.tell([change('shop.order', 'second')]);
      server.tellGap({ reason: 'reported', model: 'shop.order' });
      server.tellGap({ reason: 'reconnect' });
      await all.until(LinkFrame.gap, 2);
      await products.until(LinkFrame.gap);
      const told = (client: LinkClient): unknown[] =>
        client.of(LinkFrame.changes).map(({ body }) => (body['changes'] as Change[]).map(({ id }) => id));
      expect([told(all), told(products)]).toEqual([[['shop.product', 'shop.order'], ['second']], [['shop.product']]]);
      expect(all.of(LinkFrame.gap).map(({ body }) => body)).toEqual([{ model: 'shop.order' }, {}]);
      // It reads nothing any more, until more than the sockets hold has come together.
      all.socket.pause();
      const big = Array.from({ length: 1_000 }, (_, n) => change('shop.product', String(n).padStart(60, 'x')));
      for (let n = 0; n < 200; n++) server.tell(big);
      all.socket.resume();
      await all.until(LinkFrame.gap, 3);
      expect(all.of(LinkFrame.gap).at(-1)?.body).toEqual({});
      expect(told(all).length).toBeLessThan(202);
      expect([none.of(LinkFrame.changes), none.of(LinkFrame.gap)]).toEqual([[], []]);
    });

    it('what workers saw in shadow mode, and drops what is no report', async () => {
      const client = await link();
      const report = { run: 'r1', since: 1, handlers: [] };
      client.send(LinkFrame.report, report);
      client.send(LinkFrame.report, { ...report, handlers: [{}] });
      client.send(LinkFrame.report, { ...report, since: 'now' });
      client.send(LinkFrame.ping, { t: 1 });
      await client.until(LinkFrame.pong);
      expect(said.reported).toEqual([[MANIFEST.instance, report]]);
    });
  });

  if (kind === 'a Unix socket') {
    it('takes the place of a socket that a killed process left behind', async () => {
      await server.close();
      const options = { listen: { path: join(folder, 'link.sock') }, name: 'shop', instance: 'sidecar-2' };
      const parts = { keys: keyring(SECRET, [], 'link'), clock, metrics, logger: console };
      const { createServer } = await import('node:net');
      const dead = createServer();
      await new Promise<void>((resolve) => void dead.listen(join(folder, 'other.sock'), resolve));
      const { rename } = await import('node:fs/promises');
      await rename(join(folder, 'other.sock'), options.listen.path);
      await new Promise((resolve) => void dead.close(resolve));
      expect((await stat(options.listen.path)).isSocket()).toBe(true);
      server = linkServer(options, parts);
      await server.listen();
    });
  }
});
