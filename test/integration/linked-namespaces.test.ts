import { afterEach, describe, expect, it } from 'vitest';
import type { Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import { LinkedStage, toasts } from '../support/linked-stage.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

const SAY = '42/chat,["say","hello"]';
const PICTURE = '451-/chat,["picture",{"_placeholder":true,"num":0}]';

/** A client that is connected to a namespace of its own beside Reflex's. */
async function chatting() {
  const sidecar = await stage.sidecar();
  const one = await stage.worker(sidecar, 'one');
  const client = await stage.enter(sidecar);
  await client.connect('/chat');
  return { sidecar, one, client, session: await one.session() };
}

const lost = ({ metrics }: Composed): number => metrics.losses.count('upstream_lost');

describe("a packet of the client's own namespace", () => {
  it('is waited for as an event is, before its session moves', async () => {
    const { sidecar, one, client, session } = await chatting();
    one.finishes = false;
    client.send(SAY);
    const { n } = await session.packet(3);
    const two = await stage.worker(sidecar, 'two');
    one.drain(60);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    expect(session.detached).toBeUndefined();
    session.done(n);
    expect(await session.untilDetached()).toBe('move');
    await two.session();
    expect([toasts(client), lost(sidecar)]).toEqual([[], 0]);
  });

  it('is told and counted where its worker dies with it', async () => {
    const { sidecar, one, client, session } = await chatting();
    one.finishes = false;
    client.send(SAY);
    await session.packet(3);
    await stage.worker(sidecar, 'two');
    one.cut();
    await eventually(() => toasts(client)).toHaveLength(1);
    expect(lost(sidecar)).toBe(1);
  });

  it('with binary frames is done once the last of them is', async () => {
    const { one, client, session } = await chatting();
    one.finishes = false;
    client.send(PICTURE);
    client.send(Buffer.from([1, 2, 3]));
    expect(await session.packet(3)).toMatchObject({ frame: PICTURE, wantsDone: false });
    expect(await session.packet(4)).toMatchObject({ frame: Buffer.from([1, 2, 3]), wantsDone: true });
  });

  it('with binary frames, of which its worker had one only, goes on whole', async () => {
    const { sidecar, one, client, session } = await chatting();
    one.receives = false;
    client.send(PICTURE);
    client.send(Buffer.from([1, 2, 3]));
    await session.packet(4);
    session.received(3);
    const two = await stage.worker(sidecar, 'two');
    one.cut();
    const moved = await two.session();
    await eventually(() => moved.packets.slice(2)).toMatchObject([
      { frame: PICTURE },
      { frame: Buffer.from([1, 2, 3]) },
    ]);
    expect(lost(sidecar)).toBe(0);
  });

  it('with binary frames, of which its worker had all, is told and counted', async () => {
    const { sidecar, one, client, session } = await chatting();
    one.finishes = false;
    client.send(PICTURE);
    client.send(Buffer.from([1, 2, 3]));
    await session.packet(4);
    const two = await stage.worker(sidecar, 'two');
    one.cut();
    await eventually(() => toasts(client)).toHaveLength(1);
    client.send(SAY);
    const moved = await two.session();
    await eventually(() => moved.texts.slice(2)).toEqual([SAY]);
    expect(lost(sidecar)).toBe(1);
  });
});
