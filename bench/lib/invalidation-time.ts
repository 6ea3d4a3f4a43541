import { io, type Socket } from 'socket.io-client';
import { startBridgehead } from '../../tools/bridgehead.ts';
import type { PythonEnv } from '../../tools/python-env.ts';
import { startDjangoConsole } from '../../test/support/django-console.ts';
import { EVENT_NAMES } from './reflex-text.ts';
import { startTrivialUpstream } from './peers.ts';
import { percentile } from './statistics.ts';

const SECRET_KEY = 'django-insecure-example-shop-on-loopback-only';

interface Parts {
  readonly python: PythonEnv;
  /** With the shop's tables. */
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly secret: string;
}

/**
 * From the moment a process of Django begins to save a user, who is no staff from then on, until two sidecars have forgotten who that
 * was, over Redis, and asked anew. Seen by the user's tabs, one at each: `auth.revoked: reconnect` closes them. Milliseconds of the later one.
 */
export async function invalidationTimes(parts: Parts, rounds: number): Promise<{ p50: number; p99: number }> {
  const { python, databaseUrl, redisUrl, secret } = parts;
  const stops: (() => Promise<void>)[] = [];
  try {
    const upstream = await startTrivialUpstream();
    stops.push(() => upstream.stop());
    const settings = {
      backends: [`http://127.0.0.1:${upstream.port}`],
      redis: { url: redisUrl },
      database: { url: databaseUrl },
      tiers: { mode: 'full' },
      auth: { source: 'django-db', revoked: 'reconnect', django: { secretKey: SECRET_KEY } },
    };
    const urls: string[] = [];
    for (let n = 0; n < 2; n++) {
      const sidecar = await startBridgehead({ settings, env: { BRIDGEHEAD_SECRET: secret } });
      stops.push(() => sidecar.stop());
      urls.push(sidecar.url);
    }
    const env = { DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, BRIDGEHEAD_SECRET: secret };
    const django = startDjangoConsole(python, { ...env, BRIDGEHEAD_NAME: 'default' });
    stops.push(() => django.stop());
    await django.run('make_user', { username: 'bench' });
    const cookie = await django.run<string>('log_in', { username: 'bench' });
    const times: number[] = [];
    // The first ones open connections.
    for (let round = -5; round < rounds; round++) {
      await django.run('save_user', { username: 'bench', is_staff: true });
      const tabs = await Promise.all(urls.map((url, index) => openTab(url, `tab-${round}-${index}`, cookie)));
      const closed = Promise.all(tabs.map(closing));
      const began = await django.run<number>('demote_timed', { username: 'bench' });
      const ends = await closed;
      if (round >= 0) times.push(Math.max(...ends) - began);
    }
    const sorted = times.toSorted((left, right) => left - right);
    return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) };
  } finally {
    for (const stop of stops.toReversed()) await stop();
  }
}

/** A tab whose user its sidecar knows: its first event has been answered. */
async function openTab(url: string, token: string, cookie: string): Promise<Socket> {
  const tab = io(`${url}/_event`, {
    path: '/_event',
    transports: ['websocket'],
    reconnection: false,
    forceNew: true,
    query: { token },
    extraHeaders: { cookie: `sessionid=${cookie}` },
  });
  await new Promise<void>((resolve, reject) => {
    tab.once('connect', resolve);
    tab.once('connect_error', reject);
  });
  const answer = new Promise<void>((resolve) => void tab.once('event', () => resolve()));
  tab.emit('event', { name: EVENT_NAMES[0], payload: {}, router_data: { pathname: '/', query: {} } });
  await answer;
  return tab;
}

/** When the sidecar has closed it, in Unix milliseconds. */
function closing(tab: Socket): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('an invalidation did not arrive within 10 s')), 10_000);
    tab.once('disconnect', () => {
      clearTimeout(timer);
      resolve(performance.timeOrigin + performance.now());
    });
  });
}
