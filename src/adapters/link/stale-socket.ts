import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';

/**
 * Removes the socket file that a killed process left behind: it would keep this one from listening. One that somebody listens on stays.
 * Rejects with ENOTSOCK where another kind of file is at the path: it is not ours to delete.
 */
export async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) throw Object.assign(new Error(`${path} is no socket`), { code: 'ENOTSOCK' });
  if (await isLeft(path)) await unlink(path);
}

/** Whether nobody listens there: only a refusal says so. */
function isLeft(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED'));
  });
}
