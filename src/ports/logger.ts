/**
 * What the library says. pino fits as it is.
 *
 * Callers MUST NOT pass cookies, client tokens, secrets or payloads: a logger writes what it is given.
 */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
