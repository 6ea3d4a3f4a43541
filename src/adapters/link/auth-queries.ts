import type { AuthResult } from '../../ports/auth.ts';
import { readAuthAnswer } from '../shared/auth-answer.ts';

/** Queries that one worker is asked at a time; more would only wait there. */
const MAX_PENDING = 64;
const BUSY: AuthResult = { kind: 'unavailable', cause: 'the worker has too many questions open' };

/** The questions that are open on one link (docs/PROTOCOL.md, AUTH_QUERY and AUTH_REPLY). */
export class AuthQueries {
  readonly #pending = new Map<number, (result: AuthResult) => void>();
  #lastId = 0;

  /** `send` puts the question on the link. Never rejects. */
  ask(signal: AbortSignal, send: (id: number) => void): Promise<AuthResult> {
    if (this.#pending.size >= MAX_PENDING) return Promise.resolve(BUSY);
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      const finish = (result: AuthResult): void => {
        this.#pending.delete(id);
        signal.removeEventListener('abort', abort);
        resolve(result);
      };
      const abort = (): void => finish({ kind: 'unavailable', cause: 'timeout' });
      signal.addEventListener('abort', abort, { once: true });
      this.#pending.set(id, finish);
      send(id);
    });
  }

  /** `now` in Unix milliseconds: an answer cannot have been made later than that. */
  answer({ id, result, at }: Readonly<Record<string, unknown>>, now: number): void {
    const finish = typeof id === 'number' ? this.#pending.get(id) : undefined;
    if (finish === undefined) return;
    const made = typeof at === 'number' && Number.isFinite(at) ? Math.min(at, now) : now;
    finish(readAuthAnswer(result, made) ?? { kind: 'unavailable', cause: 'the worker gave no answer it could' });
  }

  close(): void {
    const open = [...this.#pending.values()];
    for (const finish of open) finish({ kind: 'unavailable', cause: 'the link is gone' });
  }
}
