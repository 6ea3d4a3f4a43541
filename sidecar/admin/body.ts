import type { IncomingMessage } from 'node:http';
import { AdminError } from './reply.ts';

/** Bodies of the API are small. Bytes. */
const MAX_BODY = 64 * 1024;

/** Reads a request's JSON object. Throws AdminError: 413 where it is too long, 400 where it is no JSON object. */
export async function readJson(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw new AdminError(413, 'too_large', `A body may have at most ${MAX_BODY} bytes.`);
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    throw new AdminError(400, 'bad_json', 'The body must be a JSON object.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AdminError(400, 'bad_json', 'The body must be a JSON object.');
  }
  return value as Readonly<Record<string, unknown>>;
}
