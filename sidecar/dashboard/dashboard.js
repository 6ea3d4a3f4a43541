// The page of the admin listener: it asks the API every two seconds and shows what that says.

import { read, Told, write } from './api.js';
import { draw } from './chart.js';
import { byLabel, parse, quantile, sum } from './figures.js';
import { button, element, fill, say } from './page.js';
import { bytes, count, rate, seconds, span } from './words.js';

/** @import { Health, Session, Stats } from './api.js' */
/** @import { Sample } from './figures.js' */

const REFRESH = 2_000;
/** Points of the chart: five minutes. */
const POINTS = 150;
const MOST_HANDLERS = 20;
const MOST_SESSIONS = 200;
const TIERS = ['none', 'auth_only', 'full', 'worker'];

/** @type {number[]} */
const rates = [];
/** @type {{ events: number, at: number } | undefined} */
let before;

/**
 * @param {string} path
 * @param {object} body
 * @param {string} done
 */
async function change(path, body, done) {
  try {
    await write(path, body);
    say('notice', done);
  } catch (error) {
    say('notice', error instanceof Told ? error.message : 'The sidecar does not answer.');
  }
  await refresh();
}

/**
 * @param {Stats} stats
 * @param {Health} health
 * @param {readonly Sample[]} metrics
 */
function showOverview(stats, health, metrics) {
  say('name', stats.name);
  const since = new Date(Date.now() - stats.uptime * 1_000).toLocaleString();
  say('about', `${stats.version}, up since ${since} (${span(stats.uptime)})`);
  const state = stats.draining ? 'draining' : health.status;
  say('state', state, state === 'ready' ? 'good' : 'bad');
  const updates = named(metrics, 'first_update_seconds_bucket');
  say('sessions', count(stats.sessions));
  say('p50', seconds(quantile(updates, 0.5)));
  say('p99', seconds(quantile(updates, 0.99)));
  say('queued', bytes(stats.queuedBytes));
  say('lost', count(stats.metrics.eventsLost));
}

/** @param {Stats} stats */
function showRate(stats) {
  const events = Object.values(stats.metrics.events).reduce((total, value) => total + value, 0);
  const now = performance.now();
  if (before !== undefined) {
    // A sidecar that began anew counts from 0.
    const current = (Math.max(0, events - before.events) * 1_000) / (now - before.at);
    rates.push(current);
    if (rates.length > POINTS) rates.shift();
    say('rate', rate(current));
  }
  before = { events, at: now };
  draw(element('chart', HTMLCanvasElement), rates, POINTS);
}

/**
 * @param {Stats} stats
 * @param {Health} health
 */
function showWorkers(stats, health) {
  const dependencies = health.dependencies ?? [];
  fill(
    'dependencies',
    ['name', 'state', 'detail'],
    dependencies.map(({ name, state, detail }) => ({
      cells: [name, state, detail],
      classes: ['', state === 'up' ? 'good' : 'bad'],
    })),
  );
  const links = stats.links.map(({ instance, host, pid, build, sessions, inFlight, draining, age }) => {
    const state = draining ? 'draining' : 'linked';
    return { cells: [instance.slice(0, 8), `${host} ${pid}`, build.slice(0, 8), sessions, inFlight, state, span(age)] };
  });
  const backends = stats.backends.map(({ url, state, sessions }) => ({
    cells: [url, '', '', sessions, '', state, ''],
  }));
  fill('workers', ['worker', 'process', 'build', '#sessions', '#at work', 'state', 'for'], [...links, ...backends]);
}

/** @param {readonly Sample[]} metrics */
function showEvents(metrics) {
  const events = named(metrics, 'events_total');
  const tiers = byLabel(events, 'tier');
  const all = Math.max(1, sum(events));
  fill(
    'tiers',
    ['tier', '#events', '#share'],
    TIERS.map((tier) => {
      const own = sum(tiers.get(tier) ?? []);
      return { cells: [tier, count(own), `${((100 * own) / all).toFixed(1)} %`] };
    }),
  );
  const updates = byLabel(named(metrics, 'first_update_seconds_bucket'), 'state', 'handler');
  const handlers = [...byLabel(events, 'state', 'handler')].map(([key, samples]) => {
    const buckets = updates.get(key) ?? [];
    const [state = '', handler = ''] = key.split('\n');
    return { state, handler, total: sum(samples), tiers: [...byLabel(samples, 'tier').keys()].join(', '), buckets };
  });
  handlers.sort((left, right) => right.total - left.total);
  fill(
    'handlers',
    ['handler', 'state', 'tier', '#events', '#p50', '#p99'],
    handlers.slice(0, MOST_HANDLERS).map(({ state, handler, total, tiers: own, buckets }) => ({
      cells: [handler, state, own, count(total), seconds(quantile(buckets, 0.5)), seconds(quantile(buckets, 0.99))],
    })),
  );
}

/**
 * @param {readonly Sample[]} metrics
 * @param {Health} health
 */
function showLive(metrics, health) {
  const buses = (health.dependencies ?? []).filter(({ name }) => name.startsWith('change bus '));
  const gaps = sum(named(metrics, 'change_gaps_total'));
  /** @type {(what: string, name: string) => { cells: string[] }} */
  const counted = (what, name) => ({ cells: [what, count(sum(named(metrics, name)))] });
  fill(
    'live',
    ['figure', '#now'],
    [
      ...buses.map(({ name, state }) => ({ cells: ['bus', `${name.replace('change bus ', '')}, ${state}`] })),
      counted('changes published', 'changes_published_total'),
      counted('changes received', 'changes_received_total'),
      { cells: ['gaps', count(gaps)], classes: ['', gaps > 0 ? 'bad' : ''] },
      { cells: ['lag of changes, p99', seconds(quantile(named(metrics, 'change_lag_seconds_bucket'), 0.99))] },
      counted('subscriptions', 'live_subscriptions'),
      counted('live events', 'live_events_total'),
      { cells: ['lag of live events, p99', seconds(quantile(named(metrics, 'live_lag_seconds_bucket'), 0.99))] },
      counted('pushes', 'pushes_total'),
    ],
  );
}

/** @param {readonly Sample[]} metrics */
function showRefusals(metrics) {
  const kinds = [
    { name: 'refusals_total', what: 'request refused', label: 'reason' },
    { name: 'access_refusals_total', what: 'event refused by a rule', label: 'verdict' },
    { name: 'events_lost_total', what: 'event lost', label: 'reason' },
    { name: 'sessions_closed_total', what: 'session closed', label: 'reason' },
  ];
  const rows = kinds.flatMap(({ name, what, label }) =>
    named(metrics, name)
      .filter(({ value }) => value > 0)
      .map(({ labels, value }) => ({ cells: [what, labels.get(label) ?? '', count(value)] })),
  );
  fill('refusals', ['what', 'why', '#times'], rows);
}

/**
 * @param {Stats} stats
 * @param {readonly Session[]} sessions
 */
function showSessions(stats, sessions) {
  const rest = stats.sessions > sessions.length;
  say('shown', rest ? `the newest ${sessions.length} of ${count(stats.sessions)}` : '');
  const rows = sessions.map(({ id, user, path, upstream, transport, work, away, age, events, queued }) => {
    const target = `api/sessions/${encodeURIComponent(id)}/close`;
    const close = button('Close', () => void change(target, {}, 'The session is closed.'));
    const state = away ? 'client away' : work;
    const waiting = bytes(queued.upstream + queued.client);
    // Of an instance the beginning is enough; a backend's address is short.
    const worker = upstream.startsWith('http') ? upstream : upstream.slice(0, 8);
    return { cells: [user ?? '–', path, worker, state, transport, span(age), count(events), waiting, close] };
  });
  fill('list', ['user', 'page', 'worker', 'state', 'transport', 'for', '#events', '#waiting', ''], rows);
}

/**
 * @param {readonly Sample[]} metrics
 * @param {string} name
 */
function named(metrics, name) {
  return metrics.filter((sample) => sample.name === `bridgehead_${name}`);
}

async function refresh() {
  try {
    const [stats, health, list, exposed] = await Promise.all([
      read('api/stats'),
      read('health'),
      read(`api/sessions?limit=${MOST_SESSIONS}`),
      read('metrics'),
    ]);
    const metrics = parse(exposed);
    const figures = /** @type {Stats} */ (JSON.parse(stats));
    const dependencies = /** @type {Health} */ (JSON.parse(health));
    const { sessions } = /** @type {{ sessions: Session[] }} */ (JSON.parse(list));
    showOverview(figures, dependencies, metrics);
    showRate(figures);
    showWorkers(figures, dependencies);
    showEvents(metrics);
    showLive(metrics, dependencies);
    showSessions(figures, sessions);
    showRefusals(metrics);
  } catch (error) {
    say('state', error instanceof Told ? error.message : 'the sidecar does not answer', 'bad');
  }
}

async function keepRefreshing() {
  // A page that nobody looks at asks nothing.
  if (!document.hidden) await refresh();
  setTimeout(() => void keepRefreshing(), REFRESH);
}

element('operator', HTMLFormElement).addEventListener('submit', (event) => event.preventDefault());
element('key', HTMLInputElement).addEventListener('change', () => void refresh());
element('drain', HTMLButtonElement).addEventListener('click', () => {
  const question = 'Drain this sidecar? It finishes what is under way, closes its sessions and ends.';
  if (confirm(question)) void change('api/drain', {}, 'The sidecar drains.');
});
element('invalidate', HTMLButtonElement).addEventListener('click', () => {
  const user = element('user', HTMLInputElement).value.trim();
  void change('api/auth/invalidate', { user }, `What was known of ${user} is forgotten.`);
});
void keepRefreshing();
