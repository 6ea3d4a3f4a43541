import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/**
 * Below what systems give to those who ask for any port (Linux from 32768, RFC 6335 and macOS from 49152): else a service
 * that is told no port could get one that was named for another service and is not listened on yet.
 */
const FIRST = 20_000;
const END = 32_768;

/** What this process was told: a port is often named long before the service that listens on it is up. */
const named = new Set<number>();

/**
 * `count` different loopback ports that are free now. No call of this process is told a port twice; another program could still
 * take one before it is used.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    if (named.size === END - FIRST) throw new Error(`No free port from ${FIRST} to ${END - 1}: all were tried`);
    const port = randomInt(FIRST, END);
    if (named.has(port)) continue;
    named.add(port);
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  if (port === undefined) throw new Error('No free port');
  return port;
}

/** Whether a loopback port can be listened on now. */
export async function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
