import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isLoopback } from '../../config/values.ts';
import { AdminError } from './reply.ts';

/**
 * Who may ask: `open` anybody, `read` anybody on a loopback listener, `write` only with the key. `page` is a page without data: anybody,
 * where its reads can be answered at all.
 */
export type Access = 'open' | 'page' | 'read' | 'write';

export interface AccessOptions {
  /** Where the listener is bound. */
  readonly host: string;
  readonly apiKey: string | undefined;
  /** Further names by which it may be called. */
  readonly hosts: readonly string[];
}

/** Decides about a request before its route runs; throws the refusal. */
export class AccessGuard {
  readonly #options: AccessOptions;
  readonly #keyHash: Buffer | undefined;
  readonly #local: boolean;

  constructor(options: AccessOptions) {
    this.#options = options;
    this.#keyHash = options.apiKey === undefined ? undefined : hash(options.apiKey);
    this.#local = isLoopback(options.host);
  }

  require(access: Access, request: IncomingMessage): void {
    if (access === 'open') return;
    this.#requireHost(request);
    if (access !== 'write' && this.#local) return;
    if (this.#keyHash === undefined) {
      throw new AdminError(
        403,
        'no_api_key',
        'No API key is configured: set admin.apiKey or BRIDGEHEAD_API_KEY and restart.',
      );
    }
    if (access !== 'page' && !this.#hasKey(request, this.#keyHash)) {
      throw new AdminError(401, 'unauthorized', 'Send the header Authorization: Bearer <admin.apiKey>.', {
        'www-authenticate': 'Bearer realm="bridgehead"',
      });
    }
  }

  /** Whether a request for health may see the details. */
  seesDetails(request: IncomingMessage): boolean {
    try {
      this.require('read', request);
      return true;
    } catch (error) {
      if (error instanceof AdminError) return false;
      throw error;
    }
  }

  #hasKey(request: IncomingMessage, expected: Buffer): boolean {
    const given = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
    return given !== undefined && timingSafeEqual(hash(given), expected);
  }

  /** A website whose name was pointed at this machine sends that name: it must not read or close anything. */
  #requireHost(request: IncomingMessage): void {
    const host = hostName(request.headers.host ?? '');
    const own = [this.#options.host, request.socket.localAddress?.replace(/^::ffff:/, '')];
    if (isLoopback(host) || own.includes(host) || this.#options.hosts.some((known) => known.toLowerCase() === host))
      return;
    throw new AdminError(403, 'host_refused', `The host ${JSON.stringify(host)} is not known: add it to admin.hosts.`);
  }
}

/** Of equal length, so that the comparison takes equal time. */
function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Without port and brackets, in lower case. */
function hostName(header: string): string {
  return header
    .toLowerCase()
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1');
}
