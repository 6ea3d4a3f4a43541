import { connect } from 'node:net';

export interface RawAnswer {
  readonly status: number;
  readonly head: string;
  readonly body: string;
}

/** Sends bytes as they are and reads until the server closes or has answered `Content-Length`. */
export function rawRequest(port: number, ...pieces: readonly (string | Buffer)[]): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => {
      for (const piece of pieces) socket.write(piece);
    });
    const finish = (): void => {
      socket.destroy();
      const [head = '', ...rest] = text.split('\r\n\r\n');
      resolve({ status: Number(head.split(' ')[1] ?? 0), head, body: rest.join('\r\n\r\n') });
    };
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      const [head = '', ...rest] = text.split('\r\n\r\n');
      const length = /content-length: (\d+)/i.exec(head)?.[1];
      if (length !== undefined && rest.join('\r\n\r\n').length >= Number(length)) finish();
    });
    socket.on('error', (cause) => (text === '' ? reject(cause) : finish()));
    socket.on('close', finish);
  });
}

/** The head of a WebSocket handshake as a browser sends it. */
export function upgradeHead(target: string, headers: Readonly<Record<string, string>> = {}): string {
  const all = {
    Host: 'app.test',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    ...headers,
  };
  return `GET ${target} HTTP/1.1\r\n${headLines(all)}\r\n\r\n`;
}

export function requestHead(method: string, target: string, headers: Readonly<Record<string, string>> = {}): string {
  return `${method} ${target} HTTP/1.1\r\n${headLines({ Host: 'app.test', ...headers })}\r\n\r\n`;
}

function headLines(headers: Readonly<Record<string, string>>): string {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join('\r\n');
}
