import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';

/** A balancer that sends each request to the next of its servers, whoever has the session, and each upgrade to the last of them. */
export class RoundRobin {
  readonly url: string;
  /** Requests that each server got. */
  readonly counts = new Map<number, number>();
  readonly #server: Server;
  #ports: readonly number[];
  #turn = 0;
  readonly #sockets = new Set<Duplex>();

  private constructor(server: Server, ports: readonly number[]) {
    this.#server = server;
    this.#ports = ports;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('connection', (socket) => this.#keep(socket));
    server.on('request', (incoming, outgoing) => this.#request(incoming, outgoing));
    server.on('upgrade', (incoming, socket, rest) => this.#upgrade(incoming, socket, rest));
  }

  static async start(ports: readonly number[]): Promise<RoundRobin> {
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    return new RoundRobin(server, ports);
  }

  /** One that is gone gets nothing any more. */
  remove(port: number): void {
    this.#ports = this.#ports.filter((other) => other !== port);
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => void this.#server.close(() => resolve()));
  }

  #request(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, url: path, headers } = incoming;
    const port = this.#ports[this.#turn++ % this.#ports.length] ?? 0;
    this.counts.set(port, (this.counts.get(port) ?? 0) + 1);
    const onward = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on('error', () => (outgoing.headersSent ? outgoing.destroy() : outgoing.writeHead(502).end()));
    outgoing.on('close', () => onward.destroy());
    incoming.pipe(onward);
  }

  #upgrade(incoming: IncomingMessage, socket: Duplex, rest: Buffer): void {
    const onward = connect(this.#ports.at(-1) ?? 0, '127.0.0.1', () => {
      const { url, rawHeaders } = incoming;
      const lines = rawHeaders.flatMap((name, at, all) => (at % 2 === 0 ? [`${name}: ${all[at + 1]}`] : []));
      onward.write(`GET ${url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      onward.write(rest);
      socket.pipe(onward).pipe(socket);
    });
    const ends = [socket, onward];
    for (const end of ends) {
      end.on('error', () => undefined);
      end.on('close', () => ends.forEach((other) => other.destroy()));
    }
  }

  #keep(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
