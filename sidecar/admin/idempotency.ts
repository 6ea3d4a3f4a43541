import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { LRUCache } from 'lru-cache';
import { AdminError, type Reply } from './reply.ts';

/** Keys are remembered for so long, the youngest 10,000 of them. Milliseconds. */
const KEPT = 24 * 60 * 60 * 1000;
const MAX_KEYS = 10_000;

interface Known {
  readonly bodyHash: string;
  readonly reply: Promise<Reply>;
}

/** What a request with an Idempotency-Key is, or undefined without one. */
export interface Repeatable {
  /** The same for the same key and body, in every sidecar. */
  id(index: number): string;
}

/** Answers a repeated request as the first one was, without doing it again. A failed one may be tried again. */
export class IdempotentReplies {
  readonly #known = new LRUCache<string, Known>({ max: MAX_KEYS, ttl: KEPT });

  /** Throws AdminError: 400 for a key that is none, 422 for one that came with another body. */
  async run(request: IncomingMessage, body: Buffer, work: (repeatable?: Repeatable) => Promise<Reply>): Promise<Reply> {
    const key = request.headers['idempotency-key'];
    if (key === undefined) return work();
    if (typeof key !== 'string' || !/^[!-~]{1,255}$/.test(key)) {
      throw new AdminError(400, 'bad_idempotency_key', 'Idempotency-Key must be 1 to 255 visible ASCII characters.');
    }
    const bodyHash = createHash('sha256').update(body).digest('base64url');
    const known = this.#known.get(key);
    if (known !== undefined) {
      if (known.bodyHash === bodyHash) return known.reply;
      throw new AdminError(
        422,
        'idempotency_key_reused',
        'This Idempotency-Key came with another body within 24 hours: take a new key for each request.',
      );
    }
    const id = (index: number): string =>
      createHash('sha256').update(`${key}\0${bodyHash}\0${index}`).digest('base64url').slice(0, 22);
    const reply = work({ id });
    this.#known.set(key, { bodyHash, reply });
    try {
      return await reply;
    } catch (error) {
      if (this.#known.peek(key)?.reply === reply) this.#known.delete(key);
      throw error;
    }
  }
}
