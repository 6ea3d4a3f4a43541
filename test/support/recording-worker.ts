import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';
import { waitUntil } from '../../tools/process.ts';

export interface WorkerSession {
  readonly socket: WebSocket;
  readonly target: string;
  readonly headers: IncomingMessage['headers'];
  /** Frames as they came: text as strings, binary as buffers. */
  readonly frames: (string | Buffer)[];
  closed: boolean;
}

export interface RecordingWorker {
  readonly url: string;
  readonly port: number;
  readonly sessions: WorkerSession[];
  /** All text frames of all sessions. */
  texts(): string[];
  /** Resolves with the first text frame that fits. */
  untilText(fits: (text: string) => boolean): Promise<string>;
  stop(): Promise<void>;
}

export interface RecordingWorkerOptions {
  readonly port?: number;
  readonly maxPayload?: number;
  /** Changes to the OPEN packet. */
  readonly handshake?: Readonly<Record<string, unknown>>;
  /** Whether the session about to begin gets its OPEN packet; default: yes. */
  readonly opens?: () => boolean;
  readonly request?: RequestListener;
  /** Called for each session once it is open, after the OPEN packet. */
  readonly onSession?: (session: WorkerSession) => void;
  /** Called for each frame; default: acknowledges CONNECT. */
  readonly onFrame?: (session: WorkerSession, frame: string | Buffer) => void;
}

/**
 * Speaks Engine.IO 4 as a worker and keeps every frame byte for byte, where a real server shows only what it made of
 * them. Everything else is tested with real servers.
 */
export async function startRecordingWorker(options: RecordingWorkerOptions = {}): Promise<RecordingWorker> {
  const sessions: WorkerSession[] = [];
  const server = createServer(options.request ?? ((_incoming, outgoing) => outgoing.writeHead(404).end()));
  const webSockets = new WebSocketServer({ server, maxPayload: 0, perMessageDeflate: false });
  webSockets.on('connection', (socket, incoming) => {
    const session: WorkerSession = {
      socket,
      target: incoming.url ?? '',
      headers: incoming.headers,
      frames: [],
      closed: false,
    };
    const { maxPayload = 1_000_000 } = options;
    const sid = `worker${sessions.length}`;
    const open = { sid, upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload, ...options.handshake };
    if (options.opens?.() !== false) socket.send(`0${JSON.stringify(open)}`);
    socket.on('error', () => undefined);
    socket.on('close', () => (session.closed = true));
    socket.on('message', (data: Buffer, binary: boolean) => {
      const frame = binary ? data : data.toString();
      session.frames.push(frame);
      (options.onFrame ?? acknowledgeConnect)(session, frame);
    });
    sessions.push(session);
    options.onSession?.(session);
  });
  await new Promise<void>((resolve) => void server.listen(options.port ?? 0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const texts = (): string[] => sessions.flatMap(({ frames }) => frames.filter((frame) => typeof frame === 'string'));
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    sessions,
    texts,
    async untilText(fits) {
      await waitUntil(() => texts().some(fits), { timeoutMs: 30_000, intervalMs: 5, what: 'a frame at the worker' });
      return texts().find(fits) as string;
    },
    stop: () =>
      new Promise((resolve) => {
        for (const { socket } of sessions) socket.terminate();
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

export function acknowledgeConnect({ socket }: WorkerSession, frame: string | Buffer): void {
  const namespace = typeof frame === 'string' ? /^40(\/[^,]*)?/.exec(frame) : null;
  if (namespace === null) return;
  const prefix = namespace[1] === undefined ? '' : `${namespace[1]},`;
  socket.send(`40${prefix}{"sid":"abc"}`);
}
