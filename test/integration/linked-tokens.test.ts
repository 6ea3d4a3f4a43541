import { afterEach, describe, expect, it } from 'vitest';
import type { LinkWorker, LinkWorkerSession } from '../support/link-worker.ts';
import { LinkedStage, NAMESPACE } from '../support/linked-stage.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

const tokenOf = ({ request }: LinkWorkerSession): string | null =>
  new URL(request.target, 'http://worker').searchParams.get('token');

/** The worker that has sessions, and the other one. */
const ordered = (one: LinkWorker, two: LinkWorker): [LinkWorker, LinkWorker] =>
  one.open > 0 ? [one, two] : [two, one];

describe('a tab that got a token of its own', () => {
  it('is moved with that one, and leaves the other tab what it has', async () => {
    const sidecar = await stage.sidecar();
    const workers = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')] as const;
    const first = await stage.enter(sidecar);
    const [from, to] = ordered(...workers);
    from.connects = false;
    const second = await stage.client(sidecar);
    second.send(`40${NAMESPACE},`);
    const shared = await from.session(2);
    shared.send(`42${NAMESPACE},["new_token","fresh"]`);
    shared.send(`40${NAMESPACE},{"sid":"x"}`);
    await second.until(() => second.messages.some((text) => text.includes('fresh')), 'new_token');
    from.cut();
    await to.session(2);
    expect(to.sessions.map((session) => [tokenOf(session), session.request.takeover]).toSorted()).toEqual([
      ['fresh', true],
      ['tab', true],
    ]);
    expect([first.closed, second.closed]).toEqual([undefined, undefined]);
  });
});
