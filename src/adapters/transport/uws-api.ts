/**
 * The part of uWebSockets.js that is used here, as its documentation has it. The package is not on the registry: whoever wants it
 * installs it from its repository.
 */
export interface UwsRequest {
  getMethod(): string;
  getUrl(): string;
  getQuery(): string;
  getHeader(name: string): string;
  forEach(callback: (name: string, value: string) => void): void;
}

export interface UwsResponse {
  writeStatus(status: string): UwsResponse;
  writeHeader(name: string, value: string | Uint8Array): UwsResponse;
  write(chunk: string | Uint8Array): boolean;
  end(body?: string | Uint8Array, closeConnection?: boolean): UwsResponse;
  endWithoutBody(contentLength?: number, closeConnection?: boolean): UwsResponse;
  close(): UwsResponse;
  pause(): void;
  resume(): void;
  cork(callback: () => void): UwsResponse;
  onData(callback: (chunk: ArrayBuffer, isLast: boolean) => void): UwsResponse;
  onAborted(callback: () => void): UwsResponse;
  onWritable(callback: (offset: number) => boolean): UwsResponse;
  getRemoteAddressAsText(): ArrayBuffer;
  upgrade(userData: object, key: string, protocol: string, extensions: string, context: object): void;
}

export interface UwsWebSocket<UserData> {
  getUserData(): UserData;
  getBufferedAmount(): number;
  /** 1 sent, 0 queued, 2 dropped. */
  send(message: string | Uint8Array, isBinary: boolean, compress: boolean): number;
  end(code: number, reason: string | Uint8Array): void;
  close(): void;
}

export interface UwsBehavior<UserData> {
  readonly compression: number;
  readonly maxPayloadLength: number;
  readonly maxBackpressure: number;
  readonly idleTimeout: number;
  readonly sendPingsAutomatically: boolean;
  upgrade(response: UwsResponse, request: UwsRequest, context: object): void;
  open(socket: UwsWebSocket<UserData>): void;
  message(socket: UwsWebSocket<UserData>, message: ArrayBuffer, isBinary: boolean): void;
  drain(socket: UwsWebSocket<UserData>): void;
  close(socket: UwsWebSocket<UserData>, code: number, message: ArrayBuffer): void;
}

export interface UwsApp {
  ws<UserData>(pattern: string, behavior: UwsBehavior<UserData>): UwsApp;
  any(pattern: string, handler: (response: UwsResponse, request: UwsRequest) => void): UwsApp;
  listen(host: string, port: number, options: number, callback: (socket: object | false) => void): UwsApp;
  close(): UwsApp;
}

export interface UwsModule {
  App(): UwsApp;
  readonly DISABLED: number;
  readonly SHARED_COMPRESSOR: number;
  readonly LIBUS_LISTEN_EXCLUSIVE_PORT: number;
  us_listen_socket_close(socket: object): void;
  us_socket_local_port(socket: object): number;
}

/** The installed module; undefined where there is none, or none that this Node can load. */
export async function findUws(name = 'uWebSockets.js'): Promise<UwsModule | undefined> {
  // A name in a variable: neither compiler nor bundler should look for a package that is rarely there.
  try {
    const module = (await import(name)) as { default?: UwsModule } & UwsModule;
    return module.default ?? module;
  } catch {
    return undefined;
  }
}
