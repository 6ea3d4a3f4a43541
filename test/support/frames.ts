import { FrameReader, type Frame } from '../../src/protocol/link.ts';

/** What a frame holds, for as long as one likes. */
export interface FrameCopy {
  readonly type: number;
  readonly channel: number;
  readonly body: Buffer;
}

/** The frames that are complete with these bytes, which must stay as they are. Throws FrameError. */
export function readFrames(bytes: Buffer, reader: FrameReader): Frame[] {
  const frames: Frame[] = [];
  reader.push(bytes, (frame) => frames.push(frame) > 0);
  return frames;
}

/** The same as what they hold. */
export function framesIn(bytes: Buffer, reader = new FrameReader()): FrameCopy[] {
  return readFrames(bytes, reader).map(({ type, channel, body }) => ({ type, channel, body: Buffer.from(body) }));
}
