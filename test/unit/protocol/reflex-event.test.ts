import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Decoder, PacketType, type Packet } from 'socket.io-parser';
import {
  ANNOTATION_KEY,
  insertAnnotation,
  MAX_JSON_DEPTH,
  parseReflexPacket,
  stripAnnotation,
  type ParsedPacket,
} from '../../../src/protocol/reflex-event.ts';
import { toastUpdate } from '../../../src/protocol/reflex-update.ts';
import { parseHeader } from '../../../src/protocol/socket-io.ts';

function parse(text: string): ParsedPacket {
  const header = parseHeader(text, 1);
  if (header === undefined) throw new Error('no packet');
  return parseReflexPacket(text, header);
}

function eventOf(text: string): Extract<ParsedPacket, { kind: 'event' }>['event'] {
  const parsed = parse(text);
  if (parsed.kind !== 'event') throw new Error(`${parsed.kind} instead of an event`);
  return parsed.event;
}

const NAME = 'reflex___state____state.shop___cart____cart_state.add';
const packet = (event: string): string => `42/_event,["event",${event}]`;
const dataOf = (text: string): unknown => JSON.parse(text.slice(parseHeader(text, 1)?.dataStart));

describe('an event', () => {
  it('is read with its name, path and payload', () => {
    const text = packet(`{"name":"${NAME}","payload":{"n":1},"router_data":{"pathname":"/cart","query":{}}}`);
    expect(eventOf(text)).toMatchObject({ name: NAME, path: '/cart', payload: { n: 1 }, forged: false });
  });

  it('is read in CONNECT, where Reflex 0.10 puts the first one', () => {
    const text = `40/_event,{"event":{"name":"${NAME}","router_data":{"pathname":"/"}},"state_schema":"x"}`;
    expect(eventOf(text)).toMatchObject({ name: NAME, path: '/', payload: {} });
  });

  it('is read in a binary packet and with an acknowledgement id', () => {
    expect(eventOf(`451-/_event,7["event",{"name":"a.b","payload":{"f":{"_placeholder":true,"num":0}}}]`).name).toBe(
      'a.b',
    );
    expect(eventOf(`42/_event,7["event",{"name":"a.b"}]`).name).toBe('a.b');
  });

  it('counts as every parser counts: the last of a key', () => {
    const text = packet('{"name":"a.b","name":"c.d","router_data":{"pathname":"/x"},"router_data":{"pathname":"/y"}}');
    expect(eventOf(text)).toMatchObject({ name: 'c.d', path: '/y' });
    const boot = '40/_event,{"event":{"name":"a.b"},"event":{"name":"c.d","router_data":{}}}';
    expect(dataOf(insertAnnotation(boot, eventOf(boot), 'v1.x'))).toEqual({
      event: { name: 'c.d', router_data: { _bridgehead: 'v1.x' } },
    });
  });

  it('is read as Python reads it where V8 takes an escaped key for one of an event before', () => {
    // Node 24's JSON.parse compares the next key with the one that followed last time, escapes and all.
    const before = packet('{"first":1,"name":"shop.cart.add","n\\\\u0":1}');
    const text = packet('{"first":1,"name":"shop.cart.add","n\\u0061me":"admin.delete"}');
    for (let round = 0; round < 3; round++) parse(before);
    expect(eventOf(text).name).toBe('admin.delete');
    const routed = (key: string): string => packet(`{"name":"a.b","router_data":{"second":1,"${key}":"v1.x"}}`);
    for (let round = 0; round < 3; round++) parse(routed('\\\\u005fbridg'));
    expect(eventOf(routed('\\u005fbridgehead')).forged).toBe(true);
  });

  it.each([
    ['a ping', '42/_event,["ping"]'],
    ['a client error', '42/_event,["client_error",{"message":"x"}]'],
    ['CONNECT without an event', '40/_event,'],
    ['CONNECT with a token alone', '40/_event,{"token":"x"}'],
    ['CONNECT with null as event', '40/_event,{"event":null}'],
    ['an acknowledgement', '43/_event,7[]'],
    ['DISCONNECT', '41/_event,'],
  ])('is not %s', (_what, text) => {
    expect(parse(text)).toEqual({ kind: 'other' });
  });

  it.each([
    ['a string, which a worker would parse once more', packet('"{\\"name\\":\\"a.b\\"}"'), 'event'],
    ['a list', packet('["a.b"]'), 'event'],
    ['null', packet('null'), 'event'],
    ['nothing', '42/_event,["event"]', 'event'],
    ['an object without a name', packet('{"payload":{}}'), 'event'],
    ['a name that is a number', packet('{"name":7}'), 'event'],
    ['a placeholder as name', '451-/_event,["event",{"name":{"_placeholder":true,"num":0}}]', 'event'],
    ['router_data that is a list', packet('{"name":"a.b","router_data":[]}'), 'event'],
    ['router_data that is text', packet('{"name":"a.b","router_data":"{}"}'), 'event'],
    ['a string in CONNECT', '40/_event,{"event":"{\\"name\\":\\"a.b\\"}"}', 'event'],
    ['broken JSON', packet('{"name":'), 'json'],
    ['a bare NaN, which Python takes', packet('{"name":"a.b","payload":{"x":NaN}}'), 'json'],
    ['something behind the JSON', `${packet('{"name":"a.b"}')}x`, 'json'],
    ['JSON nested 101 deep', `42/_event,["event",${'['.repeat(MAX_JSON_DEPTH)}`, 'depth'],
  ])('is refused as %s', (_what, text, reason) => {
    expect(parse(text)).toEqual({ kind: 'invalid', reason });
  });

  it('may nest 100 deep', () => {
    const payload = `{"a":${'['.repeat(MAX_JSON_DEPTH - 3)}${']'.repeat(MAX_JSON_DEPTH - 3)}}`;
    expect(parse(packet(`{"name":"a.b","payload":${payload}}`)).kind).toBe('event');
  });
});

describe('an annotation', () => {
  const annotation = 'v1.AAAAAAAA.e30.bWFj';

  it.each([
    [
      'into router_data',
      '{"name":"a.b","router_data":{"pathname":"/"}}',
      '{"name":"a.b","router_data":{"pathname":"/","_bridgehead":"@"}}',
    ],
    ['into empty router_data', '{"name":"a.b","router_data":{ }}', '{"name":"a.b","router_data":{ "_bridgehead":"@"}}'],
    ['where there is none', '{"name":"a.b"}', '{"name":"a.b","router_data":{"_bridgehead":"@"}}'],
    [
      'and leaves 1.0, big integers and order',
      '{"router_data":{},"payload":{"b":1.0,"a":12345678901234567890},"name":"a.b"}',
      '{"router_data":{"_bridgehead":"@"},"payload":{"b":1.0,"a":12345678901234567890},"name":"a.b"}',
    ],
    [
      'into the last router_data',
      '{"name":"a.b","router_data":{"x":1},"router_data":{}}',
      '{"name":"a.b","router_data":{"x":1},"router_data":{"_bridgehead":"@"}}',
    ],
    [
      'behind braces in strings',
      '{"name":"a.b}{","router_data":{"q":"}\\"}"}}',
      '{"name":"a.b}{","router_data":{"q":"}\\"}","_bridgehead":"@"}}',
    ],
  ])('goes %s', (_where, before, after) => {
    const text = packet(before);
    expect(insertAnnotation(text, eventOf(text), annotation)).toBe(packet(after.replace('@', annotation)));
  });

  it.each([
    ['plain', '{"_bridgehead":"v1.x"}'],
    ['escaped', '{"\\u005fbridgehead":"v1.x"}'],
    ['wholly escaped', '{"\\u005f\\u0062\\u0072\\u0069\\u0064\\u0067\\u0065\\u0068\\u0065\\u0061\\u0064":"v1.x"}'],
    ['with upper-case hex', '{"\\u005Fbridgehead":"v1.x"}'],
    ['twice', '{"_bridgehead":"v1.x","_bridgehead":"v1.y"}'],
    ['twice in two spellings around others', '{"_bridgehead":1,"a":2,"\\u005fbridgehead":{"b":[1]}}'],
    ['with white space', '{ "_bridgehead" \n: "v1.x" , "a":1 }'],
    ['as null', '{"_bridgehead":null}'],
    ['as an object', '{"_bridgehead":{"_bridgehead":"v1.x"}}'],
    ['as a placeholder', '{"_bridgehead":{"_placeholder":true,"num":0}}'],
  ])('that a client wrote is found and removed: %s', (_how, router) => {
    for (const text of [
      packet(`{"name":"a.b","router_data":${router}}`),
      `40/_event,{"event":{"name":"a.b","router_data":${router}}}`,
    ]) {
      const event = eventOf(text);
      expect(event.forged).toBe(true);
      const clean = stripAnnotation(text, event);
      expect(eventOf(clean).forged).toBe(false);
      expect(JSON.stringify(dataOf(clean))).not.toContain('_bridgehead');
      const annotated = insertAnnotation(clean, event, annotation);
      expect(JSON.stringify(dataOf(annotated)).match(/_bridgehead/g)).toHaveLength(1);
      expect(JSON.stringify(dataOf(annotated))).toContain(annotation);
    }
  });

  it('of a client elsewhere than in router_data is no annotation, and stays', () => {
    const text = packet('{"name":"a.b","payload":{"_bridgehead":"v1.x"},"_bridgehead":1}');
    expect(eventOf(text).forged).toBe(false);
  });

  it('comes and goes without a trace in any event', () => {
    const router = fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('_bridgehead', 'pathname')), fc.jsonValue());
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.jsonValue({ maxDepth: 3 }),
        fc.option(router),
        (name, payload, routerData) => {
          const event = { payload, name, ...(routerData !== null && { router_data: routerData }) };
          const text = packet(JSON.stringify(event));
          fc.pre(parse(text).kind === 'event');
          const clean = stripAnnotation(text, eventOf(text));
          const annotated = insertAnnotation(clean, eventOf(clean), annotation);
          const { router_data: router = {}, ...rest } = (dataOf(annotated) as [string, Record<string, unknown>])[1];
          expect((router as Record<string, unknown>)[ANNOTATION_KEY]).toBe(annotation);
          const { [ANNOTATION_KEY]: _ours, ...others } = router as Record<string, unknown>;
          const { [ANNOTATION_KEY]: _theirs, ...expected } = JSON.parse(JSON.stringify(routerData ?? {})) as Record<
            string,
            unknown
          >;
          expect(others).toEqual(expected);
          expect(rest).toEqual(JSON.parse(JSON.stringify({ payload, name })));
          const back = stripAnnotation(annotated, eventOf(annotated));
          if (routerData !== null) expect(back).toBe(clean);
        },
      ),
    );
  });
});

describe('updates of our own', () => {
  it('hold nothing but JSON-encoded values in constant code', () => {
    const decoder = new Decoder();
    const packets: Packet[] = [];
    decoder.on('decoded', (value: Packet) => packets.push(value));
    decoder.add(toastUpdate('/_event', { id: 'x', level: 'error', text: '"); alert(1); ("' }));
    const decoded = packets[0] as Packet;
    expect(decoded).toMatchObject({ type: PacketType.EVENT, nsp: '/_event' });
    const [name, update] = decoded.data as [string, { events: [{ name: string; payload: { function: string } }] }];
    expect(name).toBe('event');
    const code = update.events[0].payload.function;
    const shown: unknown[] = [];
    // What the browser does with it, with the app's toaster in place.
    const run = (refs: object): unknown => runInNewContext(`(${code})()`, { refs });
    run({ __toast: { error: (...values: unknown[]) => shown.push(values) } });
    expect(shown).toEqual([['"); alert(1); ("', { id: 'x' }]]);
    expect(() => run({})).not.toThrow();
  });
});
