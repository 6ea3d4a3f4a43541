import { describe, expect, it, onTestFinished } from 'vitest';
import type { ConfigInput } from '../../../config/index.ts';
import { configSchema } from '../../../config/schema.ts';
import { startAdmin } from '../../../sidecar/admin/server.ts';
import type { Diagnosis } from '../../../sidecar/doctor/diagnosis.ts';
import { prometheusMetrics } from '../../../src/adapters/metrics/index.ts';
import { silentLogger } from '../../../src/ports/index.ts';
import { LinkFrame } from '../../../src/protocol/link.ts';
import { startComposed, type Composed } from '../../support/composed.ts';
import { eventually } from '../../support/eventually.ts';
import { LinkClient, MANIFEST } from '../../support/link-client.ts';
import { folderWith, runCli, type Finished } from './run-cli.ts';

const SECRET = 'secret-of-these-tests-that-must-not-be-logged';
const KEY = 'key-of-these-tests';
const RULES = [
  { state: 'shop.cart.*', tier: 'none' as const },
  { state: 'shop.note.*', tier: 'none' as const, login: 'required' as const },
];

const place = {
  state: 'root.order',
  class: 'shop.order.Order',
  handler: 'place',
  events: 10,
  lowest: 'auth_only',
  cells: [{ now: 'auth_only', would: 'auth_only', events: 10, queries: 20, bridgeMs: 20, ms: 200 }],
  needs: { user: 10 },
  wrong: [],
};
const save = {
  state: 'root.note',
  class: 'shop.note.Note',
  handler: 'save',
  events: 4,
  lowest: 'auth_only',
  cells: [{ now: 'full', would: 'none', events: 4, queries: 12, bridgeMs: 40, ms: 80 }],
  needs: { user: 3, session: 1 },
  wrong: [{ would: 'none', source: 'rule', missing: ['session', 'user'], events: 3 }],
};
const REPORT = { run: 'r1', since: Date.UTC(2026, 10, 20, 12), handlers: [place, save] };

interface Sidecar extends Composed {
  readonly admin: string;
  /** Plays a worker that sends this report. */
  worker(report?: object, manifest?: object): Promise<LinkClient>;
  doctor(...args: string[]): Promise<Finished>;
  diagnosis(): Promise<Diagnosis>;
}

async function start(config: ConfigInput = {}): Promise<Sidecar> {
  const composed = await startComposed({ name: 'shop', secret: SECRET, link: { sessions: false }, ...config });
  onTestFinished(() => composed.stop());
  const { operator } = composed.running;
  const options = { address: { host: '127.0.0.1', port: 0 }, apiKey: KEY, hosts: [] };
  const admin = await startAdmin(options, { operator, metrics: prometheusMetrics(), logger: silentLogger });
  onTestFinished(() => admin.close());
  const doctor = (...args: string[]): Promise<Finished> => runCli(['doctor', '--url', admin.url, ...args]);
  return {
    ...composed,
    admin: admin.url,
    worker: async (report, manifest = MANIFEST) => {
      const before = operator.stats().links.length;
      const link = await LinkClient.link(composed.running.addresses.link ?? '', SECRET, manifest);
      onTestFinished(() => link.end());
      if (report !== undefined) {
        link.send(LinkFrame.report, report);
        await eventually(() => operator.doctor().seen.handlers.length).toBeGreaterThan(0);
      }
      await eventually(() => operator.stats().links.length).toBe(before + 1);
      return link;
    },
    doctor,
    diagnosis: async () => JSON.parse((await doctor('--json')).stdout) as Diagnosis,
  };
}

const ids = ({ findings }: Diagnosis): string[] => findings.map(({ id }) => id);

describe('bridgehead doctor', () => {
  it('names what the rules would break, and prints rules that would not', async () => {
    const sidecar = await start({ tiers: { rules: RULES, shadow: true } });
    await sidecar.worker(REPORT);
    const { code, stdout, stderr } = await sidecar.doctor();
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    expect(stdout).toContain(
      'tiers.shadow is on: the rules decide nothing; 1 worker linked; 14 events seen since 2026-11-20',
    );
    expect(stdout).toContain('The rules would get 3 events wrong:');
    expect(stdout).toContain(
      'shop.note.Note.save: 3 events wrong in none (tiers.rules[1]): request.session was read; request.user was read',
    );
    // 12 queries and 40 ms against 2 queries and 2 ms for each of 4 events in auth_only.
    expect(stdout).toMatch(
      /shop\.note\.Note\.save +4 +full +none +auth_only +1\.0 queries, 8\.0 ms +4\.0 queries, 32 ms +3/,
    );
    expect(stdout).toContain("{ state: 'shop.note.Note', tier: 'auth_only', login: 'required' }, // 4 events seen");
    expect(stdout).toContain('- { state: "shop.note.Note", tier: "auth_only", login: "required" } # 4 events seen');
    expect(stdout).toContain("    { state: 'shop.note.*', login: 'required' },\n");
  });

  it('prints the same as JSON, with the advised rules as they go into a file', async () => {
    const sidecar = await start({ tiers: { rules: RULES, shadow: true } });
    await sidecar.worker(REPORT);
    expect(await sidecar.diagnosis()).toMatchObject({
      ok: false,
      shadow: true,
      since: '2026-11-20T12:00:00.000Z',
      workers: { linked: 1, reporting: 1 },
      events: 14,
      wrong: 3,
      handlers: [{ handler: 'save', saved: { byRules: { queries: 12, milliseconds: 40 } } }, { handler: 'place' }],
      advised: {
        changed: true,
        rules: [
          { state: 'shop.note.Note', tier: 'auth_only', login: 'required' },
          { state: 'shop.cart.*', tier: 'none' },
          { state: 'shop.note.*', login: 'required' },
        ],
      },
      findings: [],
    });
  });

  it('forgets what was seen under other rules, and hears nothing more when the shadow is off', async () => {
    const config = { name: 'shop', secret: SECRET, link: { sessions: false } };
    const sidecar = await start({ tiers: { rules: RULES, shadow: true } });
    const worker = await sidecar.worker(REPORT);
    const reload = (tiers: ConfigInput['tiers']): void =>
      sidecar.running.reload(configSchema.parse({ ...config, ...(tiers && { tiers }) }));
    const seen = (): number => sidecar.running.operator.doctor().seen.handlers.length;
    reload({ rules: RULES, shadow: true });
    expect(seen()).toBe(2);
    // The worker goes on under the new rules with a run of its own.
    reload({ rules: [], shadow: true });
    worker.send(LinkFrame.report, { run: 'r2', since: 1, handlers: [] });
    await eventually(seen).toBe(0);
    worker.send(LinkFrame.report, { run: 'r2', since: 1, handlers: [place] });
    await eventually(seen).toBe(1);
    reload({ rules: [] });
    expect(seen()).toBe(0);
    worker.send(LinkFrame.report, { run: 'r2', since: 1, handlers: [place, save] });
    worker.send(LinkFrame.ping, { t: 1 });
    await worker.until(LinkFrame.pong);
    expect(seen()).toBe(0);
    expect(await sidecar.doctor()).toMatchObject({ code: 0 });
  });

  it('says what to do where nothing was recorded', async () => {
    const off = await start();
    await off.worker();
    expect(await off.doctor()).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('set tiers.shadow to true') as string,
    });
    const on = await start({ tiers: { shadow: true } });
    await on.worker();
    expect(ids(await on.diagnosis())).toEqual(['nothing-seen']);
  });

  it('says what is missing around the rules', async () => {
    const secretless = await start({ secret: undefined });
    expect(ids(await secretless.diagnosis())).toEqual(['secret', 'shadow-off']);
    const alone = await start();
    expect(ids(await alone.diagnosis())).toEqual(['companion', 'shadow-off']);
    const check = { id: 'bridgehead.W002', message: "Django's own middleware asks.", hint: 'Replace it.' };
    const crowd = await start({ tiers: { shadow: true, resolve: () => undefined }, auth: { source: 'none' } });
    await crowd.worker(undefined, { ...MANIFEST, checks: [check] });
    const report = { ...REPORT, handlers: [{ ...place, state: 'other', class: 'other', handler: 'other' }] };
    await crowd.worker(report, { ...MANIFEST, instance: 'worker-2', checks: [check] });
    const diagnosis = await crowd.diagnosis();
    expect(ids(diagnosis)).toEqual(['bridgehead.W002', 'auth-source', 'resolve', 'too-many-handlers', 'redis']);
    expect(diagnosis.findings[0]?.text).toBe("Django's own middleware asks. Replace it.");
    expect(diagnosis.advised.rules).toEqual([]);
  });

  it('finds the sidecar by the configuration, and has the key from it', async () => {
    const sidecar = await start({ tiers: { rules: RULES, shadow: true } });
    const address = new URL(sidecar.admin).host;
    const folder = await folderWith({
      'bridgehead.config.json': JSON.stringify({ admin: { listen: address, apiKey: KEY } }),
    });
    expect(await runCli(['doctor'], { folder })).toMatchObject({ code: 0 });
    const environment = { BRIDGEHEAD_ADMIN_LISTEN: address, BRIDGEHEAD_API_KEY: KEY };
    expect(await runCli(['doctor', '--json'], { environment })).toMatchObject({ code: 0 });
  });

  it.each([
    ['2', 'an address that is none', ['--url', 'nonsense'], /--url "nonsense" is no address/],
    ['2', 'an unknown option', ['--rules'], /--rules/],
    ['1', 'nobody there', ['--url', 'http://127.0.0.1:1'], /no sidecar answers at http:\/\/127\.0\.0\.1:1/],
    ['1', 'a configuration with a fault', ['--config', 'missing.yaml'], /missing\.yaml/],
  ])('ends with %s for %s', async (code, _what, args, message) => {
    const { code: ended, stdout, stderr } = await runCli(['doctor', ...args]);
    expect([String(ended), stdout]).toEqual([code, '']);
    expect(stderr).toMatch(message);
  });

  it('tells the refusal of the admin listener, and that of what is none', async () => {
    const sidecar = await start();
    const gateway = await runCli(['doctor', '--url', sidecar.url]);
    expect(gateway).toMatchObject({ code: 1, stderr: expect.stringMatching(/answers 404: .*/) as string });
  });
});
