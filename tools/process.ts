import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProcessOptions {
  /** Shown in errors. */
  name: string;
  command: string;
  args?: readonly string[];
  cwd?: string;
  /** The whole environment of the child; default: this process's own. */
  env?: Readonly<Record<string, string | undefined>>;
  /** stdout and stderr go here (appended); `inherit` shows them on this process's own. */
  logFile: string;
  /** Polled until it returns true; a throw counts as "not yet". Without it the child is ready once it runs. */
  ready?: () => boolean | Promise<boolean>;
  /** Default 30,000. */
  readyTimeoutMs?: number;
  uid?: number;
  gid?: number;
  /** What asks the child to leave; default SIGTERM. */
  stopSignal?: NodeJS.Signals;
}

interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Set when the command could not be started at all. */
  error?: Error;
}

export interface RunningProcess {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Resolves when the child has left, however it left. */
  readonly exited: Promise<ExitStatus>;
  /** Undefined while it runs. */
  status(): ExitStatus | undefined;
  /** To the child alone, not its group. */
  signal(signal: NodeJS.Signals): void;
  /** To the child and everything it started. */
  signalGroup(signal: NodeJS.Signals): void;
  /** stopSignal, then SIGKILL to its process group after `graceMs` (default 10,000). Calling it again is harmless. */
  stop(graceMs?: number): Promise<ExitStatus>;
}

const running = new Set<RunningProcess>();
let signalsHandled = false;

/** Starts a child in a process group of its own and waits until it is ready; a failure carries the end of its log. */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const child = launch(options);
  try {
    await waitUntil(
      async () => {
        const status = child.status();
        if (status) throw new StoppedEarly(`${options.name} ${describe(status)}\n${logTail(options.logFile)}`);
        return options.ready === undefined || (await options.ready());
      },
      { timeoutMs: options.readyTimeoutMs ?? 30_000, what: `${options.name} to be ready` },
    );
  } catch (error) {
    await child.stop(2_000);
    if (error instanceof StoppedEarly) throw error;
    throw new Error(`${(error as Error).message}\n${logTail(options.logFile)}`, { cause: error });
  }
  return child;
}

/** Runs a command to its end; throws with the end of its log unless it leaves with 0, or after `timeoutMs`. */
export async function run(
  options: Omit<ProcessOptions, 'ready' | 'readyTimeoutMs'> & { timeoutMs?: number },
): Promise<void> {
  const child = launch(options);
  let timedOut = false;
  const timer = setTimeout(
    () => {
      timedOut = true;
      void child.stop();
    },
    options.timeoutMs ?? 20 * 60_000,
  );
  const status = await child.exited;
  clearTimeout(timer);
  if (timedOut) throw new Error(`${options.name} took too long and was stopped\n${logTail(options.logFile)}`);
  if (status.code !== 0) throw new Error(`${options.name} ${describe(status)}\n${logTail(options.logFile)}`);
}

function launch(options: Omit<ProcessOptions, 'ready' | 'readyTimeoutMs'>): RunningProcess {
  stopAllOnSignals();
  const log = openLog(options.logFile);
  const child = spawn(options.command, options.args ?? [], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
    env: options.env ?? process.env,
    stdio: ['ignore', log, log],
    detached: true,
  });
  if (log !== 'inherit') closeSync(log);

  let status: ExitStatus | undefined;
  const exited = new Promise<ExitStatus>((resolve) => {
    const leave = (left: ExitStatus): void => {
      status ??= left;
      running.delete(handle);
      resolve(status);
    };
    child.once('error', (error) => leave({ code: null, signal: null, error }));
    child.once('exit', (code, signal) => leave({ code, signal }));
  });
  const pid = child.pid ?? -1;
  const signalGroup = (signal: NodeJS.Signals): void => {
    if (pid > 1) killQuietly(-pid, signal);
  };
  const handle: RunningProcess = {
    name: options.name,
    pid,
    logFile: options.logFile,
    exited,
    status: () => status,
    signal: (signal) => {
      if (pid > 1 && status === undefined) killQuietly(pid, signal);
    },
    signalGroup,
    stop: async (graceMs = 10_000) => {
      if (status === undefined) {
        // The child alone first: a supervisor that stops its own workers must not find them already dying.
        handle.signal(options.stopSignal ?? 'SIGTERM');
        const timer = new AbortController();
        await Promise.race([exited, delay(graceMs, undefined, { signal: timer.signal }).catch(() => undefined)]);
        timer.abort();
      }
      // Also after an orderly exit: children that outlived it hold its ports.
      signalGroup('SIGKILL');
      return exited;
    },
  };
  running.add(handle);

  return handle;
}

export interface WaitOptions {
  timeoutMs?: number;
  intervalMs?: number;
  /** Completes "Timed out waiting for …". */
  what?: string;
}

/** Polls until `condition` is true; a throw counts as "not yet" and becomes the cause when time runs out. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, options: WaitOptions = {}): Promise<void> {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const end = Date.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      if (await condition()) return;
      cause = undefined;
    } catch (error) {
      if (error instanceof StoppedEarly) throw error;
      cause = error;
    }
    if (Date.now() > end) {
      throw new Error(`Timed out after ${timeoutMs / 1000} s waiting for ${options.what ?? 'a condition'}`, { cause });
    }
    await delay(options.intervalMs ?? 50);
  }
}

/** Stops every child started here, the newest first. */
export async function stopAll(): Promise<void> {
  for (const child of [...running].toReversed()) await child.stop();
}

/**
 * Children are in groups of their own and would outlive a Ctrl-C: on SIGINT, SIGTERM and SIGHUP they are stopped
 * first. `before` runs ahead of that; the exit code is 128 + signal unless `exitCode` is given. The first call wins.
 */
export function stopAllOnSignals(options: { exitCode?: number; before?: (signal: NodeJS.Signals) => void } = {}): void {
  if (signalsHandled) return;
  signalsHandled = true;
  const codes = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
  let stopping = false;
  for (const [signal, code] of Object.entries(codes) as [keyof typeof codes, number][]) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      options.before?.(signal);
      void stopAll().finally(() => process.exit(options.exitCode ?? code));
    });
  }
  process.on('exit', () => {
    for (const child of running) child.signalGroup('SIGKILL');
  });
}

/** The last lines of a log, for an error message. */
function logTail(file: string, lines = 40): string {
  try {
    return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '';
  }
}

function openLog(file: string): number | 'inherit' {
  if (file === 'inherit') return 'inherit';
  mkdirSync(dirname(file), { recursive: true });
  return openSync(file, 'a');
}

class StoppedEarly extends Error {
  override readonly name = 'StoppedEarly';
}

function describe(status: ExitStatus): string {
  if (status.error) return `could not be started: ${status.error.message}`;
  return status.signal === null ? `stopped with exit code ${status.code}` : `was stopped by ${status.signal}`;
}

function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
