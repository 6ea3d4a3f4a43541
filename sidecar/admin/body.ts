import type { IncomingMessage } from 'node:http';
import { AdminError } from './reply.ts';

/** Bodies of the API are small. Bytes. */
const MAX_BODY = 64 * 1024;

/** Reads a request's body. Throws AdminError: 413 where it is longer than `limit` bytes. */
export async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limit) throw new AdminError(413, 'too_large', `A body may have at most ${limit} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Reads a request's JSON object. Throws AdminError: 413 where it is too long, 400 where it is no JSON object. */
export async function readJson(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const value = parseJson(await readBody(request, MAX_BODY));
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Readonly<Record<string, unknown>>;
  }
  throw new AdminError(400, 'bad_json', 'The body must be a JSON object.');
}

/** Throws AdminError, 400, for what is no JSON. */
export function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString()) as unknown;
  } catch {
    throw new AdminError(400, 'bad_json', 'The body must be a JSON object.');
  }
}
