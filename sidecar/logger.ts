import {
  type DestinationStream,
  type LoggerOptions as PinoOptions,
  pino,
  stdSerializers,
  stdTimeFunctions,
} from 'pino';
import type { LOG_LEVELS } from '../config/schema.ts';
import type { Logger } from '../src/ports/index.ts';

/** The port, with what the process itself needs. */
export interface ProcessLogger extends Logger {
  level: string;
  child(fields: object): ProcessLogger;
  fatal(fields: object, message: string): void;
}

export interface LoggerOptions {
  readonly level: (typeof LOG_LEVELS)[number];
  /** Lines for people instead of JSON. */
  readonly pretty: boolean;
  /** Default: standard error, written at once so that nothing is lost when the process ends. */
  readonly destination?: DestinationStream;
}

/** Callers pass none of these; this is the second line of defence. */
const SECRETS = ['cookie', 'set-cookie', 'authorization', 'token', 'secret', 'previousSecrets', 'apiKey', 'password'];
const REDACTED = '(hidden)';

/** JSON lines on standard error. Errors keep their code and cause. */
export async function makeLogger({ level, pretty, destination }: LoggerOptions): Promise<ProcessLogger> {
  const paths = SECRETS.flatMap((name) => ['', '*', '*.*'].map((parent) => `${parent}["${name}"]`));
  const options: PinoOptions = {
    level,
    base: { pid: process.pid },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: {
      err: stdSerializers.errWithCause,
      error: stdSerializers.errWithCause,
      cause: stdSerializers.errWithCause,
    },
    redact: { paths, censor: REDACTED },
    hooks: { streamWrite: hideTokens },
  };
  if (destination) return pino(options, destination);
  if (!pretty) return pino(options, pino.destination({ dest: 2, sync: true }));
  const { default: prettyStream } = await import('pino-pretty');
  return pino(
    options,
    prettyStream({ destination: 2, sync: true, ignore: 'pid', translateTime: 'SYS:HH:MM:ss.l', singleLine: true }),
  );
}

/** Tokens and passwords inside URLs, wherever in a line they stand. */
export function hideTokens(line: string): string {
  return line
    .replaceAll(/([?&](?:token|api_?key|password)=)[^&\s"'\\]+/gi, `$1${REDACTED}`)
    .replaceAll(/(\w:\/\/[^\s/?#@"'\\]*:)[^\s/?#@"'\\]+@/g, `$1${REDACTED}@`);
}
