import type { SendResult } from '../../ports/transport.ts';
import type { Channel, ChannelSink } from '../../ports/upstream.ts';
import type { SessionChannel, SessionChannelSink } from '../relay/session-channel.ts';

/** A worker that has so many bytes unwritten is given nothing more until it has taken them. */
const HIGH_WATER = 256 * 1024;

/** A session's own connection to an unmodified worker. What was sent is the worker's, and nothing comes back. */
export class DirectSessionChannel implements SessionChannel, ChannelSink {
  readonly where: string;
  readonly work = 'unknown';
  readonly #sink: SessionChannelSink;
  readonly #onClose: () => void;
  #channel: Channel | undefined;
  #full = false;

  /** `onClose` is called once, when the session lets go. */
  constructor(where: string, sink: SessionChannelSink, onClose: () => void) {
    this.where = where;
    this.#sink = sink;
    this.#onClose = onClose;
  }

  attach(channel: Channel): void {
    this.#channel = channel;
  }

  get maxPayload(): number {
    return this.#channel?.maxPayload ?? 0;
  }

  get bufferedBytes(): number {
    return this.#channel?.bufferedBytes ?? 0;
  }

  ready(): boolean {
    return this.#channel !== undefined && !this.#full;
  }

  send(frame: string | Buffer, binary: boolean): SendResult {
    const channel = this.#channel;
    if (channel === undefined) return 'dropped';
    const result = channel.send(frame, binary);
    if (result === 'queued' && channel.bufferedBytes > HIGH_WATER) this.#full = true;
    return result;
  }

  /** An unmodified worker takes events from its client alone. */
  run(): 'unable' {
    return 'unable';
  }

  rename(): void {
    // Its worker knows, and no other gets it.
  }

  clientGone(): void {
    // Nothing was begun.
  }

  pause(): void {
    this.#channel?.pause();
  }

  resume(): void {
    this.#channel?.resume();
  }

  close(): Promise<void> {
    const channel = this.#channel;
    this.#channel = undefined;
    if (channel === undefined) return Promise.resolve();
    channel.close();
    this.#onClose();
    return Promise.resolve();
  }

  message(frame: Buffer, binary: boolean): void {
    this.#sink.message(frame, binary);
  }

  drained(): void {
    this.#full = false;
    this.#sink.drained();
  }

  ended(reason: Parameters<ChannelSink['ended']>[0]): void {
    this.#sink.ended(reason);
  }
}
