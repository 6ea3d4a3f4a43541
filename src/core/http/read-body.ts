import type { HttpExchange } from '../../ports/transport.ts';

export type BodyResult =
  { readonly kind: 'body'; readonly bytes: Buffer } | { readonly kind: 'too_large' } | { readonly kind: 'aborted' };

/** Reads a body of at most `limit` bytes. What is longer is not kept. */
export async function readBody(exchange: HttpExchange, limit: number): Promise<BodyResult> {
  if (Number(exchange.head.headers['content-length'] ?? 0) > limit) return { kind: 'too_large' };
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of exchange.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) return { kind: 'too_large' };
      chunks.push(chunk);
    }
  } catch {
    return { kind: 'aborted' };
  }
  return { kind: 'body', bytes: Buffer.concat(chunks, size) };
}
