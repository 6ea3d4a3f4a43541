import { LinkFrame } from '../../src/protocol/link.ts';
import type { LinkClient } from './link-client.ts';

/** Answers each AUTH_QUERY of this link: a cookie `<name>.<anything>` is the user `<name>` of the group `friends of <name>`, but for `nobody`. */
export function answerUsers(link: LinkClient): void {
  let answered = 0;
  link.socket.on('data', () => {
    const questions = link.of(LinkFrame.authQuery);
    for (; answered < questions.length; answered++) {
      const { id, cookie } = questions[answered]?.body ?? {};
      const name = String(cookie).split('.')[0] ?? '';
      const user = { m: 'auth.user', id: name, b: 'backend', h: 'hash', f: { is_active: true } };
      const groups = [`friends of ${name}`];
      const result = name === 'nobody' ? { kind: 'anonymous' } : { kind: 'user', user, permissions: [], groups };
      link.send(LinkFrame.authReply, { id, at: Date.now(), result });
    }
  });
}
