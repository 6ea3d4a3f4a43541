import { FrameReader, type Frame } from '../../src/protocol/link.ts';

/** What a frame holds, for as long as one likes. */
export interface FrameCopy {
  readonly type: number;
  readonly channel: number;
  readonly body: Buffer;
}

/** The frames that are complete with these bytes. Throws FrameError. */
export function framesIn(bytes: Buffer, reader = new FrameReader()): FrameCopy[] {
  const frames: FrameCopy[] = [];
  reader.push(bytes, (frame) => frames.push(copyOf(frame)) > 0);
  return frames;
}

function copyOf({ type, channel, body }: Frame): FrameCopy {
  return { type, channel, body: Buffer.from(body) };
}
