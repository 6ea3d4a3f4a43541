import type { ServerResponse } from 'node:http';

/** What a route answers. */
export interface Reply {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** In place of the body: writes to the response until either side ends it. */
  readonly stream?: (response: ServerResponse) => void;
}

export function json(status: number, value: unknown, headers?: Readonly<Record<string, string>>): Reply {
  return {
    status,
    contentType: 'application/json; charset=utf-8',
    body: `${JSON.stringify(value)}\n`,
    ...(headers && { headers }),
  };
}

export function text(status: number, body: string, contentType = 'text/plain; charset=utf-8'): Reply {
  return { status, contentType, body };
}

/** A refusal that a route throws; its message is for the caller. */
export class AdminError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>> | undefined;

  constructor(status: number, code: string, message: string, headers?: Readonly<Record<string, string>>) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }

  reply(): Reply {
    return json(this.status, { error: { code: this.code, message: this.message } }, this.headers);
  }
}
