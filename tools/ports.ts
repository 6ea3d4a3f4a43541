import { createServer, type AddressInfo, type Server } from 'node:net';

/** What this process was told: a port is often named long before the service that listens on it is up. */
const named = new Set<number>();

/**
 * `count` different loopback ports that are free now. No call of this process is told a port twice; another program could still
 * take one before it is used.
 */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  const ports: number[] = [];
  try {
    // All stay open until the end, so that each next one is another.
    while (ports.length < count) {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
      servers.push(server);
      const { port } = server.address() as AddressInfo;
      if (!named.has(port)) ports.push(port);
      named.add(port);
    }
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
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
