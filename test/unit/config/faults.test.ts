import { describe, expect, it } from 'vitest';
import { allKeys } from '../../../config/keys.ts';
import { faultsOf, load, yaml } from './folder.ts';

describe('faults', () => {
  it('are told all at once, each with path, value, source and remedy', async () => {
    const faults = await faultsOf(
      yaml(`
nam: x
listen: "8080"
backends: ["ftp://x", "http://h:1/path"]
payloadBytes: 5
limits: { payloadBytes: "5", sesions: 4, queueBytes: -1, eventBurst: 1.5 }
compression: { treshold: 4, threshold: a }
metrics: { log: true }
tiers:
  mode: samrt
  rules: [{ state: a, tier: nope }, { state: a }]
link:
origins: ["https://a.example/path"]
trustedProxies: [10.0.0.0/33]
peerUrl: http://10.0.0.5:8080/path
`),
      { BRIDGEHEAD_LIMITS_SESSIONS: 'many', BRIDGEHEAD_TIERS_SHADOW: 'maybe' },
    );
    const told = Object.fromEntries(faults.map((fault) => [fault.path, fault]));
    expect(Object.keys(told).sort()).toEqual([
      'backends[0]',
      'backends[1]',
      'compression.threshold',
      'compression.treshold',
      'limits.eventBurst',
      'limits.payloadBytes',
      'limits.queueBytes',
      'limits.sesions',
      'limits.sessions',
      'link',
      'listen',
      'metrics.log',
      'nam',
      'origins[0]',
      'payloadBytes',
      'peerUrl',
      'tiers.mode',
      'tiers.rules[0].tier',
      'tiers.rules[1]',
      'tiers.shadow',
      'trustedProxies[0]',
    ]);
    expect(told['limits.queueBytes']).toEqual({
      path: 'limits.queueBytes',
      value: '-1',
      source: 'bridgehead.config.yaml',
      problem: 'is below 0',
      remedy: 'Write a whole number from 0 to 1,000,000,000,000 (bytes).',
    });
    expect(told['limits.sessions']).toMatchObject({ value: '"many"', source: 'BRIDGEHEAD_LIMITS_SESSIONS' });
    expect(told['limits.sesions']?.remedy).toBe('Did you mean limits.sessions?');
    expect(told['payloadBytes']?.remedy).toBe('Did you mean limits.payloadBytes?');
    expect(told['nam']?.remedy).toBe('Did you mean name?');
    expect(told['tiers.mode']?.remedy).toBe('Did you mean smart?');
    expect(faults.every((fault) => fault.remedy !== '' && fault.problem !== '')).toBe(true);
  });

  it('never show a secret, whatever is wrong with it', async () => {
    const marker = 'hunter2';
    const secrets = allKeys().filter((key) => key.about?.secret === true);
    expect(secrets.map((key) => key.path)).toContain('admin.apiKey');
    for (const { path } of secrets) {
      const section = path.split('.').slice(0, -1);
      for (const value of [marker, { [marker]: marker }, [marker, [marker]]]) {
        const tree = path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);
        const text = JSON.stringify(tree);
        const found = await faultsOf({ 'bridgehead.config.json': text }).catch(() => []);
        expect(JSON.stringify(found.map(({ value: shown }) => shown))).not.toContain(marker);
      }
      if (section.length > 0) {
        const [fault] = await faultsOf({ 'bridgehead.config.json': JSON.stringify({ [section[0] ?? '']: marker }) });
        expect(fault?.value).toBe('(hidden)');
      }
    }
    const [typo] = await faultsOf(yaml(`sercet: ${marker}`));
    expect(JSON.stringify(typo)).not.toContain(marker);
    const [backend] = await faultsOf(yaml(`backends: ["http://user:${marker}@127.0.0.1:1"]`));
    expect(backend).toMatchObject({ path: 'backends[0]', value: '"http://user:***@127.0.0.1:1"' });
  });

  it('name a key of a prototype as unknown', async () => {
    const faults = await faultsOf({ 'bridgehead.config.json': '{ "__proto__": { "name": "x" }, "constructor": 1 }' });
    expect(faults.map(({ path }) => path).sort()).toEqual(['__proto__', 'constructor']);
  });

  it.each([
    ['tiers: { rules: [{ path: /a, login: required }] }', 'tiers.rules[0]', /guards by path alone/],
    ['tiers: { rules: [{ path: /a, login: required, tier: nope }] }', 'tiers.rules[0]', /guards by path alone/],
    ['tiers: { rules: [{ state: a }] }', 'tiers.rules[0]', /neither tier, login nor retry/],
    [
      'tiers: { rules: [{ state: a, login: { permission: nodot } }] }',
      'tiers.rules[0].login.permission',
      /not a permission/,
    ],
    ['secret: too-short', 'secret', /shorter than 32 bytes/],
    [`previousSecrets: [${'x'.repeat(40)}]`, 'previousSecrets', /without a secret/],
    ['admin: { listen: "127.0.0.1:8080" }', 'admin.listen', /taken by listen/],
    ['admin: { listen: "localhost:8080" }', 'admin.listen', /taken by listen/],
    ['listen: "0.0.0.0:8081"', 'admin.listen', /taken by listen/],
    [`secret: ${'x'.repeat(40)}\nlink: { listen: "127.0.0.1:8081" }`, 'link.listen', /taken by admin.listen/],
    ['eventPath: /_upload', 'uploadPath', /same as eventPath/],
    ['eventPath: /_event/', 'eventPath', /not a path/],
    ['limits: { totalQueueBytes: 5000, payloadBytes: 6000 }', 'limits.totalQueueBytes', /less than one message/],
    ['live: { bus: redis }', 'live.bus', /needs Redis/],
    ['auth: { source: django-db }', 'auth.source', /needs a database/],
    ['listen: "127.0.0.1:70000"', 'listen', /port above 65535/],
    ['listen: ":8080"', 'listen', /not an address/],
    ['link: { listen: "unix:relative" }', 'link.listen', /not a socket path/],
    ['name: "a b"', 'name', /letters, digits/],
    ['backends: []', 'backends', /too short/],
  ])('tell what cannot work: %s', async (text, path, problem) => {
    const faults = await faultsOf(yaml(text));
    expect(faults.find((fault) => fault.path === path)?.problem).toMatch(problem);
  });

  it.each([
    ['the same port on two addresses of loopback', 'listen: "127.0.0.2:8081"'],
    ['free ports', 'listen: "127.0.0.1:0"\nadmin: { listen: "127.0.0.1:0" }'],
    ['the link on a taken port, where there is no secret to open it', 'link: { listen: "127.0.0.1:8080" }'],
    ['a rule with path and login that names a handler', 'tiers: { rules: [{ path: /a, handler: buy, login: staff }] }'],
    ['a Unix socket for links', `secret: ${'x'.repeat(40)}\nlink: { listen: "unix:/run/bridgehead.sock" }`],
    ['a queue without a limit', 'limits: { totalQueueBytes: 0, queueBytes: 0 }'],
  ])('leave alone %s', async (_, text) => {
    await expect(load(yaml(text))).resolves.toBeDefined();
  });
});
