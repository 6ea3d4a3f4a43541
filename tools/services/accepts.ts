import { connect } from 'node:net';

/** Whether something accepts connections on a loopback port. */
export async function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const done = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1_000, done(false));
    socket.once('connect', done(true));
    socket.once('error', done(false));
  });
}
