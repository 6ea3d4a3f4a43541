import { Socket, type SocketConstructorOpts } from 'node:net';
import { readBuffer } from '../shared/read-buffer.ts';

/**
 * A socket over an accepted connection whose chunks are valid during their `data` event alone. A socket of a server makes a buffer of
 * 64 kB for each read, 3 microseconds of an event that crosses a link; only one that is made for it reads into a buffer of
 * ours (`onread`). So the handle moves to such a one. The connection MUST have been accepted with `pauseOnConnect`, and the server counts it
 * until the new socket is closed.
 */
export function readingInto(accepted: Socket): Socket {
  const holder = accepted as unknown as { _handle: SocketConstructorOpts['handle'] | null };
  const onread: SocketConstructorOpts['onread'] = {
    buffer: readBuffer,
    callback: (size) => {
      socket.emit('data', readBuffer.subarray(0, size));
      return true;
    },
  };
  const socket: Socket = new Socket({ handle: holder._handle ?? undefined, onread });
  holder._handle = null;
  socket.once('close', () => accepted.destroy());
  return socket;
}
