import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LinkConnection } from '../../../src/adapters/link/link-connection.ts';
import type { Clock } from '../../../src/ports/clock.ts';
import { encodeControl, FrameReader, LinkFrame } from '../../../src/protocol/link.ts';
import { eventually } from '../../support/eventually.ts';
import { framesIn } from '../../support/frames.ts';

/** Time whose timers can be late, as they are in a process that stood still. */
class LateClock implements Clock {
  #now = 0;
  #timers: { readonly due: number; readonly callback: () => void }[] = [];

  now = (): number => this.#now;
  monotonic = (): number => this.#now;

  setTimeout(callback: () => void, milliseconds: number): { cancel(): void } {
    const timer = { due: this.#now + milliseconds, callback };
    this.#timers.push(timer);
    return { cancel: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) };
  }

  setInterval(): never {
    throw new Error('a link has no interval');
  }

  /** Moves on at once, then runs what fell due meanwhile. */
  jump(milliseconds: number): void {
    this.#now += milliseconds;
    const due = this.#timers.filter((timer) => timer.due <= this.#now);
    this.#timers = this.#timers.filter((timer) => timer.due > this.#now);
    for (const { callback } of due) callback();
  }
}

describe('a connection with a worker', () => {
  const clock = new LateClock();
  const server = createServer();
  let worker: Socket;
  let connection: LinkConnection;
  let ends: unknown[];
  let heard: number;
  let pings: number;

  beforeEach(async () => {
    [ends, heard, pings] = [[], 0, 0];
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    worker = connect((server.address() as AddressInfo).port);
    const reader = new FrameReader();
    worker.on('data', (chunk: Buffer) => {
      for (const { type } of framesIn(chunk, reader)) if (type === LinkFrame.ping) pings++;
    });
    const [socket] = (await once(server, 'connection')) as [Socket];
    connection = new LinkConnection(socket, clock, {
      frame: () => void heard++,
      read: () => undefined,
      broken: () => undefined,
      drained: () => undefined,
      ended: (end, reason) => void ends.push([end, reason]),
    });
    connection.beat();
  });
  afterEach(async () => {
    worker.destroy();
    connection.abort('the test is over');
    await new Promise((resolve) => void server.close(resolve));
  });

  it('is not given up for time in which this process stood still', async () => {
    clock.jump(60_000);
    expect(ends).toEqual([]);
    await eventually(() => pings).toBe(1);
    worker.write(encodeControl(LinkFrame.pong, { t: 0 }));
    await eventually(() => heard).toBe(1);
    clock.jump(1_700);
    clock.jump(1_700);
    expect(ends).toEqual([]);
    clock.jump(1_700);
    expect(ends).toEqual([['silent', 'no word from the worker']]);
  });

  it('is given up when the worker says nothing after that either', () => {
    clock.jump(60_000);
    for (let beat = 0; beat < 3; beat++) clock.jump(1_700);
    expect(ends).toEqual([['silent', 'no word from the worker']]);
  });
});
