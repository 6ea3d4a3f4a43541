/** Time and timers, passed in so that tests can hold them. */
export interface Clock {
  /** Unix time in milliseconds. May jump with the system's clock: for stamps that other machines read. */
  now(): number;
  /** Milliseconds since an arbitrary start, never backwards: for durations and limits. */
  monotonic(): number;
  setTimeout(callback: () => void, milliseconds: number): Timer;
  setInterval(callback: () => void, milliseconds: number): Timer;
}

export interface Timer {
  cancel(): void;
}

function timer(handle: NodeJS.Timeout, clear: (handle: NodeJS.Timeout) => void): Timer {
  return { cancel: () => clear(handle) };
}

/** The machine's own time. Timers do not keep the process alive: its listeners do. */
export const systemClock: Clock = {
  now: Date.now,
  monotonic: () => performance.now(),
  setTimeout: (callback, milliseconds) => timer(setTimeout(callback, milliseconds).unref(), clearTimeout),
  setInterval: (callback, milliseconds) => timer(setInterval(callback, milliseconds).unref(), clearInterval),
};
