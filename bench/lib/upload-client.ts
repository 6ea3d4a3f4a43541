/**
 * Uploads one multipart body of a given size over a raw socket, writing one buffer again and again. A process of its own:
 * `node upload-client.ts <port> <bytes>` prints the seconds until the answer's end.
 */
import { connect } from 'node:net';

const [port = 0, bytes = 0] = process.argv.slice(2).map(Number);
const BOUNDARY = 'bridgehead-bench-boundary';
const CHUNK = Buffer.alloc(256 * 1024, 'x');

const opening =
  `--${BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="video.bin"\r\n` +
  'Content-Type: application/octet-stream\r\n\r\n';
const closing = `\r\n--${BOUNDARY}--\r\n`;
const head =
  `POST /_upload HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: multipart/form-data; boundary=${BOUNDARY}\r\n` +
  'Reflex-Client-Token: 00000000-0000-4000-8000-000000000001\r\n' +
  'Reflex-Event-Handler: reflex___state____state.shop___gallery____gallery_state.handle_upload\r\n' +
  `Content-Length: ${opening.length + bytes + closing.length}\r\n\r\n`;

const began = performance.now();
const socket = connect({ port, host: '127.0.0.1' });
let left = bytes;
let answer = '';

function writeOn(): void {
  while (left > 0) {
    const piece = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
    left -= piece.length;
    if (left === 0) socket.write(Buffer.concat([piece, Buffer.from(closing)]));
    else if (!socket.write(piece)) return;
  }
}

socket.on('connect', () => {
  socket.write(head + opening);
  writeOn();
});
socket.on('drain', writeOn);
socket.on('data', (chunk) => {
  answer += chunk.toString('latin1');
  if (!answer.includes('{"delta":{}}\n')) return;
  if (!answer.startsWith('HTTP/1.1 200')) fail(new Error(`answered ${answer.slice(0, 300)}`));
  process.stdout.write(`${(performance.now() - began) / 1000}\n`);
  socket.destroy();
  process.exit(0);
});
socket.on('error', fail);
socket.on('close', () => fail(new Error(`closed after ${JSON.stringify(answer.slice(0, 300))}`)));

function fail(error: Error): never {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
