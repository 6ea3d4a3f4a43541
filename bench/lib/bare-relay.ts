/**
 * The yardstick: the least a relay on `ws` can do that still parses each event and writes it anew. No sessions, no
 * heartbeats, no limits, no metrics. A process of its own: `node bare-relay.ts <port> <upstream port>`.
 */
import { WebSocket, WebSocketServer, type RawData } from 'ws';

const [port, upstreamPort] = process.argv.slice(2).map(Number);
const EVENT = '42/_event,["event"';
const MARK = { t: 'none' };

function rewrite(text: string): string {
  if (!text.startsWith(EVENT)) return text;
  const at = text.indexOf('[');
  const packet = JSON.parse(text.slice(at)) as [string, { router_data: Record<string, unknown> }];
  packet[1].router_data['_mark'] = MARK;
  return text.slice(0, at) + JSON.stringify(packet);
}

const server = new WebSocketServer({
  port,
  host: '127.0.0.1',
  backlog: 4096,
  perMessageDeflate: false,
  handleProtocols: (offered) => [...offered][0] ?? false,
});

server.on('connection', (client, request) => {
  const upstream = new WebSocket(`ws://127.0.0.1:${upstreamPort}${request.url ?? '/'}`, [client.protocol], {
    headers: { cookie: request.headers.cookie ?? '' },
    perMessageDeflate: false,
  });
  const early: string[] = [];
  upstream.on('open', () => {
    for (const text of early.splice(0)) upstream.send(text);
  });
  client.on('message', (data: Buffer) => {
    const text = rewrite(data.toString());
    if (upstream.readyState === WebSocket.OPEN) upstream.send(text);
    else early.push(text);
  });
  upstream.on('message', (data: RawData, binary: boolean) => client.send(data, { binary }));
  client.on('close', () => upstream.close());
  upstream.on('close', () => client.close());
  for (const end of [client, upstream]) end.on('error', () => end.terminate());
});
