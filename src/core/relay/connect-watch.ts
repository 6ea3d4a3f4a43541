/** What a session learns from the worker's messages until its namespace is connected. */
export type ConnectNews =
  | { readonly kind: 'connected' }
  /** The worker gave the tab another token: somebody else lives with the one it came with. */
  | { readonly kind: 'new_token'; readonly token: string }
  | undefined;

/** Reads the beginning of the frames that come before the CONNECT acknowledgement of Reflex's namespace. */
export class ConnectWatch {
  readonly #acknowledged: Buffer;
  readonly #newToken: Buffer;

  constructor(namespace: string) {
    const name = namespace === '/' ? '' : `${namespace},`;
    this.#acknowledged = Buffer.from(`40${name}`);
    this.#newToken = Buffer.from(`42${name}["new_token",`);
  }

  /** `frame`: text with its leading `4`. */
  read(frame: Buffer): ConnectNews {
    if (startsWith(frame, this.#acknowledged)) return { kind: 'connected' };
    if (!startsWith(frame, this.#newToken)) return undefined;
    const [, token] = parseArray(frame.toString('utf8', this.#newToken.indexOf('[')));
    return typeof token === 'string' ? { kind: 'new_token', token } : undefined;
  }

  /** Whether it is the CONNECT acknowledgement. */
  isAcknowledgement(frame: Buffer): boolean {
    return startsWith(frame, this.#acknowledged);
  }
}

function startsWith(frame: Buffer, prefix: Buffer): boolean {
  return frame.length >= prefix.length && frame.compare(prefix, 0, prefix.length, 0, prefix.length) === 0;
}

function parseArray(text: string): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}
