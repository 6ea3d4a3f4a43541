import { Figures } from '../../src/adapters/metrics/figures.ts';
import { ClientIdentity } from '../../src/core/auth/client-identity.ts';
import { UserResolver } from '../../src/core/auth/user-resolver.ts';
import { Annotator } from '../../src/core/relay/annotator.ts';
import { clientInfo } from '../../src/core/relay/client-info.ts';
import { EventPipeline, type PipelineContext } from '../../src/core/relay/event-pipeline.ts';
import { LatencyWatch } from '../../src/core/relay/latency-watch.ts';
import { splitEventName } from '../../src/core/tiers/event-name.ts';
import { TierResolver } from '../../src/core/tiers/tier-resolver.ts';
import type { AuthSource, UserSnapshot } from '../../src/ports/auth.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import type { ClientToken } from '../../src/protocol/brand.ts';
import { keyring, sessionHash } from '../../src/protocol/keys.ts';
import { parseHeader, type PacketHeader } from '../../src/protocol/socket-io.ts';
import { EVENT_NAMES, eventPacket } from './reflex-text.ts';
import { median } from './statistics.ts';

const USERS = 2_000;
const SNAPSHOT: UserSnapshot = {
  m: 'auth.user',
  id: '42',
  b: 'django.contrib.auth.backends.ModelBackend',
  h: 'aW4gYSBiZW5jaCBvbmx5IQ',
  f: {
    username: 'demo',
    first_name: 'Dana',
    last_name: 'Moreau',
    email: 'dana@example.test',
    is_active: true,
    is_staff: false,
    is_superuser: false,
    last_login: '2026-01-02T03:04:05+00:00',
    date_joined: '2025-01-02T03:04:05+00:00',
  },
};

const source: AuthSource = {
  resolve: () => Promise.resolve({ kind: 'user', user: SNAPSHOT, permissions: [], at: systemClock.now() }),
};

/** One pipeline for each of many tabs, so that every event finds another user in memory. */
async function makeTabs(withUsers: boolean): Promise<EventPipeline[]> {
  const metrics = new Figures();
  const resolver = new UserResolver(
    { ttl: 3_600_000, max: 50_000, permissions: () => [] },
    { source, shared: undefined, clock: systemClock, metrics },
  );
  const options = { mode: 'full', rules: [], resolve: undefined } as const;
  const state = { class: 'shop.State', tier: null, smart: 'full', handlers: [] } as const;
  const states = new Map(EVENT_NAMES.map((name) => [splitEventName(name).stateName, state]));
  const manifest = { mode: 'full', resolver: false, states } as const;
  const key = keyring('a secret that only this bench knows', [], 'annotation').current;
  const context: PipelineContext = {
    namespace: '/_event',
    tiers: new TierResolver({ options, manifest, metrics, logger: silentLogger }),
    annotator: new Annotator({ name: 'bench', key, clock: systemClock, cookie: 'sessionid' }),
    users: withUsers ? { resolver, cookie: 'sessionid' } : undefined,
    workerEnforces: true,
    loginUrl: '/login',
    clock: systemClock,
    metrics,
  };
  return Promise.all(
    Array.from({ length: USERS }, async (_, index) => {
      const cookie = `session-key-of-tab-number-${index}`;
      if (withUsers) await resolver.find(sessionHash(cookie), cookie);
      const headers = { cookie: `csrftoken=abcdefghijklmnop; sessionid=${cookie}; theme=dark` };
      const request = { target: '/_event/', headers, protocols: [] };
      const client = clientInfo({ token: `tab-${index}` as ClientToken, address: '127.0.0.1', request });
      const latency = new LatencyWatch(Buffer.from('42/_event,["event"'));
      return new EventPipeline(context, client, new ClientIdentity(client.cookies), latency);
    }),
  );
}

const TARGET = { maxPayload: 1_000_000, linkedAs: 'tab' };
const packets = EVENT_NAMES.map(eventPacket);
const headers = packets.map((packet) => parseHeader(packet, 1) as PacketHeader);

/** Microseconds of an event: parsed, decided, annotated. */
function time(tabs: readonly EventPipeline[]): number {
  const began = performance.now();
  for (const [index, tab] of tabs.entries()) {
    const which = index % packets.length;
    const prepared = tab.prepare(packets[which] as string, headers[which] as PacketHeader, TARGET);
    if (typeof prepared !== 'string') throw new Error(`an event was not annotated: ${prepared.kind}`);
  }
  return ((performance.now() - began) * 1000) / tabs.length;
}

/**
 * What a user costs an event whose answer is in memory: the same way up with the lookup, and the user in the annotation, and
 * without both. Microseconds, the medians over the rounds.
 */
export async function authOverhead(rounds: number): Promise<{ without: number; overhead: number }> {
  const [withUsers, without] = [await makeTabs(true), await makeTabs(false)];
  const times = { without: [] as number[], overhead: [] as number[] };
  // The first rounds compile the code and parse each tab's cookies.
  for (let round = -5; round < rounds; round++) {
    const [first, second] = round % 2 === 0 ? [withUsers, without] : [without, withUsers];
    const [left, right] = [time(first), time(second)];
    const [known, unknown] = round % 2 === 0 ? [left, right] : [right, left];
    if (round < 0) continue;
    times.without.push(unknown);
    times.overhead.push(known - unknown);
  }
  return { without: median(times.without), overhead: median(times.overhead) };
}
