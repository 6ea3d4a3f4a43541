import type { Clock } from '../../ports/clock.ts';
import type { HttpExchange } from '../../ports/transport.ts';
import type { QueueBudget } from '../limits/queue-budget.ts';

export interface BodyOptions {
  /** Bytes. */
  readonly limit: number;
  /** Without a piece of it for so long it is given up, within twice that. Milliseconds. */
  readonly idle: number;
  /** What has come counts there until the body is whole. */
  readonly budget: QueueBudget;
  readonly clock: Clock;
  /** Nobody wants it any more. */
  readonly signal: AbortSignal;
}

/** `no_room`: the budget had none; `unwanted`: `signal` ended; `aborted`: the client has gone. */
export type BodyResult =
  | { readonly kind: 'body'; readonly bytes: Buffer }
  | { readonly kind: 'too_large' | 'idle' | 'no_room' | 'unwanted' | 'aborted' };

/** Reads a body. What does not become one is not kept. */
export function readBody({ body, head }: HttpExchange, options: BodyOptions): Promise<BodyResult> {
  const { limit, idle, budget, clock, signal } = options;
  const length = Number(head.headers['content-length'] ?? NaN);
  if (length > limit) return Promise.resolve({ kind: 'too_large' });
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    let moved = true;
    const settle = (result: BodyResult): void => {
      timer.cancel();
      signal.removeEventListener('abort', unwanted);
      body.off('data', take).off('end', whole).off('close', gone);
      // Who refuses it reads the rest away.
      body.pause();
      budget.add(-size);
      resolve(result);
    };
    const take = (chunk: Buffer): void => {
      moved = true;
      if (size + chunk.length > limit) return settle({ kind: 'too_large' });
      // What came in one piece does not wait.
      if (chunk.length !== length && !budget.fits(chunk.length)) return settle({ kind: 'no_room' });
      chunks.push(chunk);
      size += chunk.length;
      budget.add(chunk.length);
    };
    const whole = (): void => settle({ kind: 'body', bytes: Buffer.concat(chunks, size) });
    const gone = (): void => settle({ kind: 'aborted' });
    const unwanted = (): void => settle({ kind: 'unwanted' });
    const timer = clock.setInterval(() => {
      if (!moved) settle({ kind: 'idle' });
      moved = false;
    }, idle);
    signal.addEventListener('abort', unwanted, { once: true });
    body.on('error', () => undefined);
    body.on('data', take).on('end', whole).on('close', gone);
  });
}
