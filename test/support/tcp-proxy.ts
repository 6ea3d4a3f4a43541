import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** `up`: from whoever dialed. */
export type Direction = 'up' | 'down';

/** One connection through the proxy. */
class Line {
  readonly ends: Readonly<Record<Direction, Socket>>;
  readonly passed: Record<Direction, number> = { up: 0, down: 0 };

  constructor(client: Socket, target: Socket) {
    this.ends = { up: client, down: target };
  }

  /** Neither side is told in order: both get a reset, as from a machine that forgot them. */
  reset(): void {
    this.ends.up.resetAndDestroy();
    this.ends.down.resetAndDestroy();
  }
}

/**
 * A stretch of network between whoever dials and a target: it can lose a connection in the middle of a message, go silent without a word,
 * or be slow.
 */
export class TcpProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #lines = new Set<Line>();
  readonly #sockets = new Set<Socket>();
  readonly #target: number;
  #refuses = false;
  #cut: { direction: Direction; left: number; onCut: () => void } | undefined;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.#target = target;
    this.port = (server.address() as AddressInfo).port;
  }

  /** On a free port of the loopback. */
  static async start(target: number): Promise<TcpProxy> {
    const server = createServer({ noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new TcpProxy(server, target);
    server.on('connection', (client) => proxy.#accept(client));
    return proxy;
  }

  /** After so many more bytes in a direction every connection there is is reset, wherever in a message that is; resolves then. */
  cutAfter(bytes: number, direction: Direction): Promise<void> {
    return new Promise((resolve) => {
      this.#cut = { direction, left: bytes, onCut: resolve };
    });
  }

  /**
   * Nothing passes any more over the connections there are, and nobody is told: both ends believe in something that leads nowhere, as where
   * the machine in between has forgotten it. New ones are none the worse for it.
   */
  forget(): void {
    for (const { ends } of this.#lines) for (const socket of Object.values(ends)) socket.pause();
    this.#lines.clear();
  }

  /** Resets every connection there is. */
  cut(): void {
    this.#reset();
  }

  /** Whether new connections are turned away. */
  set refuses(refuses: boolean) {
    this.#refuses = refuses;
  }

  #reset(): void {
    for (const line of this.#lines) line.reset();
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(client: Socket): void {
    if (this.#refuses) return void client.resetAndDestroy();
    const target = connect({ port: this.#target, host: '127.0.0.1', noDelay: true });
    const line = new Line(client, target);
    this.#lines.add(line);
    this.#carry(line, 'up', client, target);
    this.#carry(line, 'down', target, client);
  }

  #carry(line: Line, direction: Direction, from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on('data', (chunk: Buffer) => this.#pass(line, direction, chunk, to));
    from.on('end', () => to.end());
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      if (this.#lines.delete(line)) to.destroySoon();
    });
  }

  #pass(line: Line, direction: Direction, chunk: Buffer, to: Socket): void {
    const cut = this.#cut;
    line.passed[direction] += chunk.length;
    if (cut?.direction !== direction || chunk.length < cut.left) {
      if (cut?.direction === direction) cut.left -= chunk.length;
      to.write(chunk);
      return;
    }
    this.#cut = undefined;
    // The first part arrives, the rest never does.
    to.write(chunk.subarray(0, cut.left), () => {
      this.#reset();
      cut.onCut();
    });
  }
}
