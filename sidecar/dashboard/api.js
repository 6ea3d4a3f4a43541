// The admin API (docs/CONFIGURATION.md, "admin").

import { element } from './page.js';

/**
 * The figures that the page shows; src/ports/operator.ts says what they mean.
 *
 * @typedef {{ url: string, state: string, sessions: number }} Backend
 * @typedef {{ instance: string, host: string, pid: number, build: string, sessions: number, inFlight: number, draining: boolean, age: number }} Link
 * @typedef {{ events: Record<string, number>, eventsLost: number }} Totals
 * @typedef {{ name: string, version: string, uptime: number, sessions: number, queuedBytes: number, draining: boolean, backends: Backend[], links: Link[], metrics: Totals }} Stats
 * @typedef {{ status: string, dependencies?: { name: string, state: string, detail: string }[] }} Health
 * @typedef {{ id: string, user: string | null, path: string, upstream: string, transport: string, work: string, away: boolean, age: number, events: number, queued: { upstream: number, client: number } }} Session
 */

/** Something to tell the operator. */
export class Told extends Error {}

/** The key lies in its field alone, and goes with the page. */
function key() {
  return element('key', HTMLInputElement).value.trim();
}

/** @returns {Record<string, string>} */
function authorization() {
  return key() === '' ? {} : { authorization: `Bearer ${key()}` };
}

/**
 * Health tells what is down with 503: its body counts all the same.
 *
 * @param {string} path
 */
export async function read(path) {
  const answer = await fetch(path, { headers: authorization(), cache: 'no-store' });
  if (answer.ok || (path === 'health' && answer.status === 503)) return answer.text();
  if (answer.status === 401) throw new Told('type the API key to read from here');
  throw new Told(await messageOf(answer));
}

/**
 * @param {string} path
 * @param {object} body
 */
export async function write(path, body) {
  if (key() === '') throw new Told('Changes need the API key (admin.apiKey): type it above.');
  const headers = { ...authorization(), 'content-type': 'application/json' };
  const answer = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Told(await messageOf(answer));
}

/** @param {Response} answer */
async function messageOf(answer) {
  try {
    const { error } = /** @type {{ error: { message: string } }} */ (await answer.json());
    return error.message;
  } catch {
    return `The sidecar answered ${answer.status}.`;
  }
}
