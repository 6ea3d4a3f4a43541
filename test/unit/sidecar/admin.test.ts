import { request as httpRequest } from 'node:http';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type AdminOptions, startAdmin } from '../../../sidecar/admin/server.ts';
import { prometheusMetrics } from '../../../src/adapters/metrics/index.ts';
import {
  type DoctorFacts,
  type Invalidation,
  type Operator,
  type SessionSummary,
  silentLogger,
} from '../../../src/ports/index.ts';
import { sessionHash } from '../../../src/protocol/keys.ts';

const KEY = 'correct horse battery staple'.replaceAll(' ', '-');

/** An operator over a list of sessions. */
class Sessions implements Operator {
  isReady = true;
  redis: 'up' | 'down' = 'up';
  drains = 0;
  readonly open = new Map<string, SessionSummary>(
    ['a', 'b', 'c/d'].map((id) => [
      id,
      {
        id,
        transport: 'websocket',
        user: null,
        path: '',
        away: false,
        address: '::1',
        upstream: '',
        work: 'away',
        age: 1,
        events: 0,
        queued: { upstream: 0, client: 0 },
      },
    ]),
  );

  ready(): boolean {
    return this.isReady;
  }
  health() {
    const state = this.isReady ? 'up' : 'down';
    return [
      { name: 'backend http://10.0.0.5:8000', state, required: true, detail: '' } as const,
      { name: 'backend http://10.0.0.6:8000', state, required: true, detail: '' } as const,
      { name: 'redis', state: this.redis, required: false, detail: '' } as const,
    ];
  }
  stats() {
    const sessions = this.open.size;
    return { name: 'x', version: '1', uptime: 1, sessions, queuedBytes: 0, draining: false, backends: [], links: [] };
  }
  doctor(): DoctorFacts {
    return {
      name: 'x',
      version: '1',
      shadow: true,
      secret: true,
      redis: false,
      authSource: 'companion',
      mode: 'inherit',
      resolve: false,
      rules: [],
      workers: [],
      app: undefined,
      seen: { since: undefined, workers: 0, handlers: [] },
    };
  }
  sessions(limit: number): SessionSummary[] {
    return [...this.open.values()].slice(0, limit);
  }
  closeSession(id: string): boolean {
    return this.open.delete(id);
  }
  readonly invalidated: Invalidation[] = [];
  hasUsers = true;
  invalidate(what: Invalidation): boolean {
    this.invalidated.push(what);
    return this.hasUsers;
  }
  userModel(): string {
    return 'people.person';
  }
  drain(): void {
    this.drains++;
  }
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
  readonly json: { error?: { code: string; message: string } } & Record<string, unknown>;
}

async function start(options: Partial<AdminOptions> = {}) {
  const operator = new Sessions();
  const admin = await startAdmin(
    { address: { host: '127.0.0.1', port: 0 }, apiKey: KEY, hosts: [], ...options },
    { operator, metrics: prometheusMetrics(), logger: silentLogger },
  );
  onTestFinished(() => admin.close());
  const port = Number(new URL(admin.url).port);
  const ask = (line: string, headers: Readonly<Record<string, string>> = {}, sent = ''): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const [method = '', path = ''] = line.split(' ');
      const request = httpRequest({ host: '127.0.0.1', port, method, path, headers }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (text: string) => (body += text));
        response.once('end', () => {
          const json = (
            String(response.headers['content-type']).startsWith('application/json') && body !== ''
              ? JSON.parse(body)
              : {}
          ) as Answer['json'];
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body, json });
        });
      });
      request.once('error', reject).end(sent);
    });
  return { operator, ask };
}

const withKey = { authorization: `Bearer ${KEY}` };

describe('the admin listener on loopback', () => {
  it('answers health by what the operator says', async () => {
    const { operator, ask } = await start();
    expect(await ask('GET /health/live')).toMatchObject({ status: 200 });
    expect(await ask('GET /health/ready')).toMatchObject({ status: 200, json: { status: 'ready' } });
    operator.isReady = false;
    expect(await ask('GET /health/live')).toMatchObject({ status: 200 });
    expect(await ask('GET /health/ready')).toMatchObject({ status: 503 });
    expect(await ask('GET /health')).toMatchObject({
      status: 503,
      json: { status: 'unready', dependencies: [{ name: 'backend http://10.0.0.5:8000', state: 'down' }, {}, {}] },
    });
  });

  it('is ready without what it can do without, and names it, though not by its address', async () => {
    const { operator, ask } = await start();
    expect((await ask('GET /health/ready')).json).toEqual({ status: 'ready', degraded: [] });
    operator.redis = 'down';
    expect((await ask('GET /health/ready')).json).toEqual({ status: 'ready', degraded: ['redis'] });
    operator.isReady = false;
    expect((await ask('GET /health/ready')).json).toEqual({ status: 'unready', degraded: ['backend', 'redis'] });
  });

  it('reads without a key', async () => {
    const { ask } = await start();
    const metrics = await ask('GET /metrics');
    expect(metrics.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
    expect(metrics.body).toContain('bridgehead_sessions 0');
    expect(await ask('GET /api/stats')).toMatchObject({ status: 200, json: { name: 'x', sessions: 3 } });
    expect(await ask('GET /api/doctor')).toMatchObject({ status: 200, json: { shadow: true, seen: { handlers: [] } } });
    expect((await ask('GET /api/sessions?limit=1')).json['sessions']).toHaveLength(1);
    expect(await ask('HEAD /api/stats')).toMatchObject({ status: 200, body: '' });
  });

  it.each(['0', '-1', 'x', '10001', '1e3', ''])('refuses limit=%s', async (limit) => {
    const { ask } = await start();
    expect(await ask(`GET /api/sessions?limit=${limit}`)).toMatchObject({
      status: 400,
      json: { error: { code: 'bad_limit' } },
    });
  });

  it('needs the key for every POST', async () => {
    const { operator, ask } = await start();
    for (const headers of [
      {},
      { authorization: 'Bearer wrong' },
      { authorization: `Basic ${KEY}` },
      { authorization: KEY },
      { authorization: `Bearer ${KEY}x` },
    ]) {
      const answer = await ask('POST /api/drain', headers);
      expect(answer).toMatchObject({ status: 401, json: { error: { code: 'unauthorized' } } });
      expect(answer.headers['www-authenticate']).toContain('Bearer');
    }
    expect(operator.drains).toBe(0);
    expect(await ask('POST /api/drain', withKey)).toMatchObject({ status: 202 });
    expect(operator.drains).toBe(1);
  });

  it('closes a session by its id', async () => {
    const { operator, ask } = await start();
    expect(await ask('POST /api/sessions/a/close', withKey)).toMatchObject({ status: 200, json: { closed: true } });
    expect(await ask('POST /api/sessions/a/close', withKey)).toMatchObject({
      status: 404,
      json: { error: { code: 'unknown_session' } },
    });
    expect(await ask('POST /api/sessions/c%2Fd/close', withKey)).toMatchObject({ status: 200 });
    expect([...operator.open.keys()]).toEqual(['b']);
  });

  it.each([
    [{ user: 42 }, { user: 'people.person:42' }],
    [{ user: '42' }, { user: 'people.person:42' }],
    [{ user: 'ä:b@example.test' }, { user: 'people.person:ä:b@example.test' }],
    [{ user: 'Auth.User:42' }, { user: 'auth.user:42' }],
    [{ user: 'auth.user:a:b' }, { user: 'auth.user:a:b' }],
    [{ session: 'a-cookie' }, { session: sessionHash('a-cookie') }],
    [{ all: true }, { all: true }],
  ])('forgets whom %o names', async (body, what) => {
    const { operator, ask } = await start();
    expect(await ask('POST /api/auth/invalidate', withKey, JSON.stringify(body))).toMatchObject({
      status: 202,
      json: { invalidated: true },
    });
    expect(operator.invalidated).toEqual([what]);
  });

  it.each([
    ['', 400, 'bad_json'],
    ['{', 400, 'bad_json'],
    ['[{"user":42}]', 400, 'bad_json'],
    ['null', 400, 'bad_json'],
    ['{}', 400, 'bad_target'],
    ['{"user":null}', 400, 'bad_target'],
    ['{"user":""}', 400, 'bad_target'],
    ['{"user":"auth.user:"}', 400, 'bad_target'],
    ['{"user":1.5}', 400, 'bad_target'],
    ['{"user":9007199254740993}', 400, 'bad_target'],
    ['{"user":{"id":42}}', 400, 'bad_target'],
    ['{"session":""}', 400, 'bad_target'],
    ['{"session":7}', 400, 'bad_target'],
    ['{"all":false}', 400, 'bad_target'],
    ['{"all":"true"}', 400, 'bad_target'],
    ['{"user":42,"all":true}', 400, 'bad_target'],
    [`{"user":"${'x'.repeat(70_000)}"}`, 413, 'too_large'],
  ])('forgets nobody for a body that is no target, case %#', async (body, status, code) => {
    const { operator, ask } = await start();
    expect(await ask('POST /api/auth/invalidate', withKey, body)).toMatchObject({ status, json: { error: { code } } });
    expect(operator.invalidated).toEqual([]);
  });

  it('says where users are not resolved at all', async () => {
    const { operator, ask } = await start();
    operator.hasUsers = false;
    const answer = await ask('POST /api/auth/invalidate', withKey, '{"user":42}');
    expect(answer).toMatchObject({ status: 409, json: { error: { code: 'no_users' } } });
    expect(await ask('POST /api/auth/invalidate', {}, '{"user":42}')).toMatchObject({ status: 401 });
  });

  it('refuses writing with the remedy where no key is configured', async () => {
    const { operator, ask } = await start({ apiKey: undefined });
    const answer = await ask('POST /api/drain', withKey);
    expect(answer).toMatchObject({ status: 403, json: { error: { code: 'no_api_key' } } });
    expect(answer.json.error?.message).toContain('BRIDGEHEAD_API_KEY');
    expect(operator.drains).toBe(0);
  });

  it.each([
    ['GET /nope', 404, undefined],
    ['GET /api', 404, undefined],
    ['GET /api/stats/', 404, undefined],
    ['GET //api/stats', 404, undefined],
    ['POST /api/sessions/%E0%A4%A/close', 404, undefined],
    ['POST /api/stats', 405, 'GET, HEAD'],
    ['DELETE /api/drain', 405, 'POST'],
    ['GET /api/sessions/a/close', 405, 'POST'],
  ])('answers %s with %i', async (line, status, allow) => {
    const { ask } = await start();
    const answer = await ask(line, withKey);
    expect(answer.status).toBe(status);
    expect(answer.headers['allow']).toBe(allow);
    expect(answer.json.error).toMatchObject({
      code: expect.any(String) as string,
      message: expect.any(String) as string,
    });
  });

  it.each([
    ['/', 'text/html'],
    ['/dashboard.css', 'text/css'],
    ['/dashboard.js', 'text/javascript'],
    ['/api.js', 'text/javascript'],
    ['/chart.js', 'text/javascript'],
    ['/figures.js', 'text/javascript'],
    ['/page.js', 'text/javascript'],
    ['/words.js', 'text/javascript'],
  ])('serves the dashboard, %s as %s, to its own hosts and with nothing inline', async (path, type) => {
    const { ask } = await start();
    const { status, headers, body } = await ask(`GET ${path}`);
    expect([status, headers['content-type']]).toEqual([200, `${type}; charset=utf-8`]);
    expect(headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' });
    const policy = String(headers['content-security-policy']).split('; ');
    expect(policy).toEqual(
      expect.arrayContaining(["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]),
    );
    expect(policy.join(' ')).not.toContain('unsafe');
    expect(body).not.toMatch(/<script>|<style|style=|\son\w+=|https?:|innerHTML|Storage|cookie/);
    for (const host of ['evil.example', '10.0.0.1']) {
      expect(await ask(`GET ${path}`, { host })).toMatchObject({
        status: 403,
        json: { error: { code: 'host_refused' } },
      });
    }
    expect(await ask(`POST ${path}`, withKey)).toMatchObject({ status: 405 });
  });

  it('refuses a host that is not its own, but not for probes', async () => {
    const { ask } = await start({ hosts: ['Metrics.internal'] });
    for (const host of ['evil.example', 'evil.example:8081', '127.0.0.1.evil.example', '10.0.0.1']) {
      expect(await ask('GET /api/stats', { host })).toMatchObject({
        status: 403,
        json: { error: { code: 'host_refused' } },
      });
      expect(await ask('POST /api/drain', { host, ...withKey })).toMatchObject({ status: 403 });
      expect(await ask('GET /health/ready', { host })).toMatchObject({ status: 200 });
      expect((await ask('GET /health', { host })).json).not.toHaveProperty('dependencies');
    }
    for (const host of [
      'localhost',
      'localhost:1',
      '127.0.0.1:1',
      '127.9.9.9',
      '[::1]:1',
      'metrics.internal:80',
      'METRICS.INTERNAL',
    ]) {
      expect(await ask('GET /api/stats', { host })).toMatchObject({ status: 200 });
    }
  });
});

describe('the admin listener off loopback', () => {
  const address = { host: '0.0.0.0', port: 0 };

  it('serves only health without a key', async () => {
    const { ask } = await start({ address, apiKey: undefined });
    expect(await ask('GET /health/live')).toMatchObject({ status: 200 });
    expect(await ask('GET /health/ready')).toMatchObject({ status: 200 });
    expect((await ask('GET /health')).json).toEqual({ status: 'ready', degraded: [] });
    for (const line of ['GET /', 'GET /dashboard.js', 'GET /metrics', 'GET /api/stats', 'POST /api/drain']) {
      expect(await ask(line)).toMatchObject({ status: 403, json: { error: { code: 'no_api_key' } } });
    }
  });

  it('reads with the key alone; the dashboard holds no data and comes without', async () => {
    const { ask } = await start({ address });
    expect(await ask('GET /')).toMatchObject({ status: 200 });
    expect(await ask('GET /', { host: 'evil.example' })).toMatchObject({ status: 403 });
    expect(await ask('GET /api/stats')).toMatchObject({ status: 401 });
    expect(await ask('GET /metrics')).toMatchObject({ status: 401 });
    expect(await ask('GET /metrics', withKey)).toMatchObject({ status: 200 });
    expect((await ask('GET /health', withKey)).json).toHaveProperty('dependencies');
  });
});
