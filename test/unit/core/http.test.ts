import proxyAddr from 'proxy-addr';
import { describe, expect, it } from 'vitest';
import { cookieValue, withCookie } from '../../../src/core/http/cookies.ts';
import { channelHeaders, clientAddress, responseHeaders, upstreamHeaders } from '../../../src/core/http/forwarded.ts';
import { channelTarget, clientToken, parseTarget } from '../../../src/core/http/query.ts';
import type { Headers, RequestHead } from '../../../src/ports/transport.ts';

const LOOPBACK = proxyAddr.compile(['loopback']);
const NOBODY = (): boolean => false;

function head(headers: Headers, peer = '127.0.0.1', encrypted = false): RequestHead {
  return { method: 'GET', target: '/', headers, peer, encrypted };
}

describe("the client's address", () => {
  const trusts = proxyAddr.compile(['loopback', '10.0.0.0/8', '2001:db8::/32']);
  const chain = (peer: string, forwarded?: Headers[string]): string =>
    clientAddress(head({ 'x-forwarded-for': forwarded }, peer), trusts);

  it.each([
    ['the peer, without proxies', '203.0.113.7', undefined, '203.0.113.7'],
    ['the peer, whose word is not taken', '203.0.113.7', '198.51.100.1', '203.0.113.7'],
    ['what a trusted proxy saw', '127.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['the last that no trusted proxy stands for', '127.0.0.1', '1.1.1.1, 198.51.100.1, 10.1.2.3', '198.51.100.1'],
    ['not what a client claimed before that', '10.0.0.1', '127.0.0.1, 198.51.100.1', '198.51.100.1'],
    ['the first in a chain that is trusted to its end', '127.0.0.1', '10.0.0.5, 10.0.0.4', '10.0.0.5'],
    ['the peer where a trusted proxy said nothing', '127.0.0.1', '', '127.0.0.1'],
    ['the peer where there are only commas', '127.0.0.1', ' , ,', '127.0.0.1'],
    ['IPv6', '2001:db8::1', '2a00::5', '2a00::5'],
    ['a mapped IPv4 peer', '::ffff:127.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['a mapped IPv4 client', '127.0.0.1', '::FFFF:198.51.100.1', '198.51.100.1'],
    ['IPv4 with a port', '127.0.0.1', '198.51.100.1:4711', '198.51.100.1'],
    ['IPv6 with a port', '127.0.0.1', '[2a00::5]:4711', '2a00::5'],
    ['IPv6 in brackets', '127.0.0.1', '[2a00::5]', '2a00::5'],
    ['what is no address, as it stands', '127.0.0.1', 'unknown', 'unknown'],
    ['of several header lines the last entry', '127.0.0.1', ['1.1.1.1', '198.51.100.1'], '198.51.100.1'],
  ])('is %s', (_what, peer, forwarded, expected) => {
    expect(chain(peer, forwarded)).toBe(expected);
  });

  it('of a chain of 10,000 trusted addresses is found', () => {
    expect(chain('127.0.0.1', Array.from({ length: 10_000 }, () => '10.0.0.1').join(','))).toBe('10.0.0.1');
  });
});

describe('headers for the worker', () => {
  const headers = (given: Headers, trusts = LOOPBACK): Record<string, Headers[string]> =>
    upstreamHeaders(head(given), '203.0.113.7', trusts);

  it('are the end-to-end ones, with the address that was decided', () => {
    expect(
      headers({
        host: 'app.test',
        cookie: ['a=1', 'b=2'],
        origin: 'https://app.test',
        'x-forwarded-for': '9.9.9.9, 8.8.8.8',
      }),
    ).toEqual({
      host: 'app.test',
      cookie: ['a=1', 'b=2'],
      origin: 'https://app.test',
      'x-forwarded-for': '203.0.113.7',
      'x-forwarded-proto': 'http',
    });
  });

  it.each([
    'connection',
    'keep-alive',
    'proxy-authorization',
    'proxy-connection',
    'te',
    'trailer',
    'transfer-encoding',
    'upgrade',
  ])('speak of no hop: %s', (name) => {
    expect(headers({ [name]: 'x' })).not.toHaveProperty(name);
  });

  it('leave out what Connection names', () => {
    expect(
      headers({ connection: ['close, X-One', 'x-two'], 'x-one': '1', 'x-two': '2', 'x-three': '3' }),
    ).toMatchObject({ 'x-three': '3' });
    expect(headers({ connection: 'x-one', 'x-one': '1' })).not.toHaveProperty('x-one');
  });

  it.each([
    'x-bridgehead-annotation',
    'x_bridgehead_annotation',
    'x-bridgehead_annotation',
    'x_bridgehead-user',
    'x_forwarded_for',
    'x_forwarded_proto',
    'x-forwarded_for',
  ])('never hold %s, which only we write', (name) => {
    expect(Object.keys(headers({ [name]: 'forged' })).filter((key) => key === name)).toEqual([]);
  });

  it.each(['forwarded', 'x-real-ip', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-prefix'])(
    'hold %s only from a trusted proxy, and in no other spelling',
    (name) => {
      expect(headers({ [name]: 'x' })).toHaveProperty(name, 'x');
      expect(headers({ [name]: 'x' }, NOBODY)).not.toHaveProperty(name);
      if (name.includes('-'))
        expect(headers({ [name.replaceAll('-', '_')]: 'x' })).not.toHaveProperty(name.replaceAll('-', '_'));
    },
  );

  it.each([
    ['https', LOOPBACK, false, 'https'],
    ['http', LOOPBACK, true, 'http'],
    ['https, http', LOOPBACK, false, 'https'],
    ['gopher', LOOPBACK, false, 'http'],
    ['gopher', LOOPBACK, true, 'https'],
    ['https', NOBODY, false, 'http'],
    [undefined, LOOPBACK, true, 'https'],
  ])('tell the protocol: %s', (claimed, trusts, encrypted, expected) => {
    const given = head({ 'x-forwarded-proto': claimed }, '127.0.0.1', encrypted);
    expect(upstreamHeaders(given, '1.1.1.1', trusts)['x-forwarded-proto']).toBe(expected);
  });

  it('of a channel leave the handshake to the channel', () => {
    const given = {
      'sec-websocket-key': 'x',
      'sec-websocket-protocol': 'a',
      'sec-websocket-extensions': 'b',
      'content-length': '0',
      cookie: 'c',
    };
    expect(channelHeaders(given)).toEqual({ cookie: 'c' });
  });

  it('and of its answer are end to end, too', () => {
    expect(
      responseHeaders({
        connection: 'X-Private',
        'x-private': '1',
        'transfer-encoding': 'chunked',
        'x-bridgehead-a': '1',
        x_bridgehead_b: '1',
        'set-cookie': ['a', 'b'],
      }),
    ).toEqual({ 'set-cookie': ['a', 'b'] });
  });
});

describe('a cookie', () => {
  it.each([
    ['sessionid=abc', 'abc'],
    ['a=1; sessionid=abc; b=2', 'abc'],
    ['a=1;sessionid=abc', 'abc'],
    ['sessionid=old; sessionid=new', 'new'],
    ['sessionid="abc"', 'abc'],
    ['sessionid = abc ', 'abc'],
    ['sessionid=a=b=', 'a=b='],
    ['sessionid=', ''],
    ['sessionid="', '"'],
    ['xsessionid=abc', undefined],
    ['SessionID=abc', undefined],
    ['sessionid', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('is read as Django reads it: %s', (header, expected) => {
    expect(cookieValue(header, 'sessionid')).toBe(expected);
  });

  it.each([
    ['sessionid=old', 'new', 'sessionid=new'],
    ['a=1; sessionid=old; b="x=y"; sessionid=older', 'new', 'a=1; b="x=y"; sessionid=new'],
    ['xsessionid=1; a', 'new', 'xsessionid=1; a; sessionid=new'],
    [undefined, 'new', 'sessionid=new'],
    ['a=1; sessionid=old', undefined, 'a=1'],
    ['sessionid=old', undefined, undefined],
    [undefined, undefined, undefined],
    ['a=1; sessionid=old', 'no; cookie=1', 'a=1'],
    ['a=1; sessionid=old', 'no\r\nx: 1', 'a=1'],
  ])('takes the place of those of its name: %s, %s', (header, value, expected) => {
    expect(withCookie(header, 'sessionid', value)).toBe(expected);
  });
});

describe('a target', () => {
  it.each([
    ['/_event/?token=a&EIO=4', '/_event/', 'a'],
    ['/_event', '/_event', ''],
    ['/a?b?c=1&token=x', '/a', 'x'],
    ['/?token=&token=second', '/', 'second'],
    ['/?token=a%20b%2Bc', '/', 'a b+c'],
    ['/?token=%ff', '/', '\ufffd'],
  ])('is taken apart: %s', (target, path, token) => {
    expect(parseTarget(target).path).toBe(path);
    expect(clientToken(parseTarget(target).query)).toBe(token);
  });

  it.each([
    [
      '/_event/?EIO=4&transport=polling&token=a%20b&t=abc&sid=x&j=0&b64=1&own=%26',
      '/_event/?EIO=4&transport=websocket&token=a+b&own=%26',
    ],
    ['/_event', '/_event?EIO=4&transport=websocket'],
    ['/_event?transport=polling&transport=x&EIO=3', '/_event?transport=websocket&EIO=4'],
    ['/_event?x=%0d%0aHost:%20evil', '/_event?x=%0D%0AHost%3A+evil&EIO=4&transport=websocket'],
  ])('of a channel is a new WebSocket: %s', (target, expected) => {
    expect(channelTarget(parseTarget(target))).toBe(expected);
  });
});
