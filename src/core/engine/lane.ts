import type { SendResult } from '../../ports/transport.ts';

/** How an Engine.IO session reaches its client at the moment. */
export interface Lane {
  readonly transport: 'websocket' | 'polling';
  readonly bufferedBytes: number;
  /** A whole Engine.IO packet: text with its type in front, or a binary message. */
  send(packet: string | Buffer, binary: boolean): SendResult;
  /** Stops reading from the client; false where the lane cannot. */
  pause(): boolean;
  resume(): void;
  /** Ends it: `code` is what a WebSocket says; polling clients get a CLOSE packet. */
  close(code: number, reason: string): void;
  /** Ends it at once: what waits is thrown away. */
  terminate(): void;
}

/** What a lane tells its session. */
export interface LaneSink {
  /** A text packet with its type in front. `raw`: the same bytes, valid during the call, where the lane has them. */
  text(packet: string, raw: Buffer | undefined): void;
  binary(data: Buffer): void;
  drained(): void;
  closed(how: LaneEnd): void;
}

/** `client`: closed in order by the client. */
export type LaneEnd = 'client' | 'lost' | 'too_large' | 'bad_packet' | 'queue_full';
