/** One buffer for everything that is read from workers, over whatever socket: it is used up before the next read. */
export const readBuffer = Buffer.allocUnsafe(64 * 1024);
