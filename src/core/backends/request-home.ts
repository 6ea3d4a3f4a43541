import { createHash } from 'node:crypto';
import type { ClientToken } from '../../protocol/brand.ts';

/** Where a linked worker's server listens, as far as it knows. */
export interface WorkerAddress {
  readonly host: string;
  readonly port: number | null;
}

interface Addressed {
  readonly upstream: { readonly url: string };
}

/**
 * The backend in front of a linked worker. Names need not be the same on both sides, so that the port is enough where only one backend has
 * it; else the name decides, or its first label. undefined: nobody can tell.
 */
export function backendOf<T extends Addressed>(backends: readonly T[], { host, port }: WorkerAddress): T | undefined {
  const near = backends.filter(({ upstream }) => portOf(new URL(upstream.url)) === port);
  const named = near.filter(({ upstream }) => {
    const { hostname } = new URL(upstream.url);
    return hostname === host || hostname.split('.')[0] === host;
  });
  const found = near.length > 1 ? named : near;
  return found.length === 1 ? found[0] : undefined;
}

/** The same backend for the same token as long as it is there: rendezvous hash (Thaler and Ravishankar, 1998). */
export function backendFor<T extends Addressed>(backends: readonly T[], token: ClientToken): T | undefined {
  return backends.reduce<{ backend: T; rank: string } | undefined>((best, backend) => {
    const rank = createHash('sha1').update(`${backend.upstream.url}\n${token}`).digest('hex');
    return best === undefined || rank > best.rank ? { backend, rank } : best;
  }, undefined)?.backend;
}

function portOf({ port, protocol }: URL): number {
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port);
}
