import { expect } from 'vitest';

/** What holds soon: asked again and again, at most for 30 s unless `timeout` says otherwise (milliseconds). */
export function eventually<T>(
  read: () => T | Promise<T>,
  options: { readonly interval?: number; readonly timeout?: number } = {},
): ReturnType<typeof expect.poll<T>> {
  return expect.poll(read, { timeout: 30_000, interval: 10, ...options });
}

/** Waits until a figure that grew grows no more. */
export async function standsStill(read: () => number): Promise<void> {
  let before = -1;
  await eventually(
    () => {
      const now = read();
      const stands = now > 0 && now === before;
      before = now;
      return stands;
    },
    { interval: 200 },
  ).toBe(true);
}
