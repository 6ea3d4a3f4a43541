/** Part (a) of the bench fanout: one message to every browser, without Python, beside AnyCable and Centrifugo's engine. */
import { setTimeout as delay } from 'node:timers/promises';
import { Fan, stamp, type Received } from './fan.ts';
import { startAnyCable, startBridgeheadFan, startCentrifuge, type FanPeer } from './fan-peers.ts';
import { processorSeconds } from './proc.ts';

export const LOADS = [
  { clients: 1_000, perSecond: 100 },
  { clients: 5_000, perSecond: 10 },
] as const;
export type Load = (typeof LOADS)[number];

/** What makes messages of all peers about as long on the wire as a Reflex update with a toast. */
const FILLING = 'x'.repeat(100);

export interface PushRound extends Received {
  readonly peer: FanPeer['name'];
  readonly load: Load;
  readonly expected: number;
  /** Of the server, microseconds for each message to one client. */
  readonly cpu: number;
}

export interface PushOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly say: (text: string) => void;
}

export async function measurePushes({ rounds, seconds, say }: PushOptions): Promise<PushRound[]> {
  const peers: FanPeer[] = [];
  const fan = new Fan();
  const results: PushRound[] = [];
  try {
    for (const start of [startAnyCable, startCentrifuge, startBridgeheadFan]) peers.push(await start());
    for (const load of LOADS) {
      for (let round = 0; round < rounds; round++) {
        // Who comes first changes from round to round.
        for (const [turn] of peers.entries()) {
          const peer = peers[(turn + round) % peers.length] as FanPeer;
          say(`${load.clients} clients, ${load.perSecond}/s, round ${round + 1}: ${peer.name}`);
          results.push(await measure(peer, fan, load, seconds));
        }
      }
    }
  } finally {
    fan.stop();
    for (const peer of peers) await peer.stop();
  }
  return results;
}

async function measure(peer: FanPeer, fan: Fan, load: Load, seconds: number): Promise<PushRound> {
  await fan.open(peer.port, peer.name, load.clients);
  await publish(peer, load, 2);
  await settled(fan, 0);
  await fan.listen();
  const before = processorSeconds(peer.pid);
  const sent = await publish(peer, load, seconds);
  const expected = sent * load.clients;
  await settled(fan, expected);
  const spent = processorSeconds(peer.pid) - before;
  const report = await fan.report();
  await fan.close();
  return { ...report, peer: peer.name, load, expected, cpu: (spent * 1e6) / expected };
}

/** At a steady rate, whether or not the server keeps up. */
async function publish(peer: FanPeer, { perSecond }: Load, seconds: number): Promise<number> {
  const under: Promise<void>[] = [];
  const began = performance.now();
  const count = perSecond * seconds;
  for (let serial = 0; serial < count; serial++) {
    await delay(Math.max(0, began + (serial * 1000) / perSecond - performance.now()));
    under.push(peer.publish(`${stamp()}${FILLING}`));
  }
  await Promise.all(under);
  return count;
}

/** Until all has come, or nothing comes any more. */
async function settled(fan: Fan, expected: number): Promise<void> {
  let last = -1;
  for (;;) {
    const received = await fan.received();
    if (expected > 0 ? received >= expected : received === last) return;
    if (received === last) return;
    last = received;
    await delay(1_000);
  }
}
