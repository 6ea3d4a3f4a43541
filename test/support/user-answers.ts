import { LinkFrame } from '../../src/protocol/link.ts';
import type { LinkClient } from './link-client.ts';

/** What a worker that plays Django says about a cookie. */
export type Answering = (cookie: string) => object;

/** A cookie `<name>.<anything>` is the user `<name>` of the group `friends of <name>`, but for `nobody`. */
export const byName: Answering = (cookie) => {
  const name = cookie.split('.')[0] ?? '';
  const user = { m: 'auth.user', id: name, b: 'backend', h: 'hash', f: { is_active: true } };
  return name === 'nobody'
    ? { kind: 'anonymous' }
    : { kind: 'user', user, permissions: [], groups: [`friends of ${name}`] };
};

/** Answers each AUTH_QUERY of this link. */
export function answerUsers(link: LinkClient, answering = byName): void {
  let answered = 0;
  link.socket.on('data', () => {
    const questions = link.of(LinkFrame.authQuery);
    for (; answered < questions.length; answered++) {
      const { id, cookie } = questions[answered]?.body ?? {};
      link.send(LinkFrame.authReply, { id, at: Date.now(), result: answering(String(cookie)) });
    }
  });
}
