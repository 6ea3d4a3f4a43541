import { describe, expect, it } from 'vitest';
import { OriginPolicy } from '../../../src/core/gateway/origin-policy.ts';

function allowed(
  origin: string | readonly string[] | undefined,
  host: string | undefined,
  listed: string[],
  fromApp: string[] = [],
): boolean {
  return new OriginPolicy(listed, fromApp).check({ headers: { origin, host }, encrypted: false }).allowed;
}

describe('same-origin', () => {
  it.each([
    ['https://app.test', 'app.test', true],
    ['http://app.test', 'app.test', true],
    ['https://app.test', 'app.test:443', true],
    ['https://app.test:443', 'app.test', true],
    ['http://app.test:80', 'app.test', true],
    // TLS ended before us: the port that the host names is the proxy's own.
    ['https://app.test', 'app.test:80', true],
    ['https://app.test:8443', 'app.test:8443', true],
    ['https://APP.test', 'app.TEST', true],
    ['https://app.test:8443', 'app.test', false],
    ['https://app.test', 'app.test:8443', false],
    ['https://app.test.evil.test', 'app.test', false],
    ['https://evil.test', 'app.test', false],
    ['https://app.test@evil.test', 'app.test', false],
    ['https://sub.app.test', 'app.test', false],
    ['null', 'app.test', false],
    ['', 'app.test', false],
    ['file://', 'app.test', false],
    ['chrome-extension://abc', 'app.test', false],
    ['javascript:alert(1)', 'app.test', false],
    ['https://app.test', undefined, false],
    ['https://app.test', 'app.test/x@evil', true],
    ['http://localhost:3000', 'localhost:8000', true],
    ['http://localhost:3000', '127.0.0.1:8000', true],
    ['http://127.0.0.1:3000', '[::1]:8000', true],
    ['http://[::1]:3000', 'localhost', true],
    ['http://app.localhost:3000', 'localhost:8000', true],
    ['http://localhost:3000', 'app.test', false],
    ['http://localhost.evil.test', 'localhost:8000', false],
    ['https://evil.test', 'localhost:8000', false],
    ['http://127.0.0.1.evil.test', '127.0.0.1', false],
  ])('a page of %s on the host %s: %s', (origin, host, expected) => {
    expect(allowed(origin, host, ['same-origin'])).toBe(expected);
  });

  it('lets programs in, which send no Origin', () => {
    expect(allowed(undefined, 'app.test', ['same-origin'])).toBe(true);
    expect(allowed(undefined, 'app.test', [])).toBe(true);
  });
});

describe('listed origins', () => {
  it.each([
    ['https://other.test', ['https://other.test'], [], true],
    ['https://other.test', ['https://other.test:443'], [], true],
    ['https://other.test', ['https://other.test/'], [], true],
    ['http://other.test', ['https://other.test'], [], false],
    ['https://other.test:8443', ['https://other.test'], [], false],
    ['https://other.test', ['*'], [], true],
    ['null', ['*'], [], true],
    ['null', ['same-origin'], ['*'], false],
    ['https://other.test', ['same-origin'], ['*'], false],
    ['https://other.test', ['same-origin'], ['https://other.test'], true],
    ['https://app.test', ['https://other.test'], [], false],
    ['same-origin', ['same-origin'], [], false],
  ] as [string, string[], string[], boolean][])(
    '%s with %j, and %j of the app: %s',
    (origin, listed, fromApp, expected) => {
      expect(allowed(origin, 'app.test', listed, fromApp)).toBe(expected);
    },
  );

  it('need an Origin that is one', () => {
    expect(allowed(['https://other.test', 'https://evil.test'], 'app.test', ['https://other.test'])).toBe(false);
  });
});

describe('a refusal', () => {
  it('names what to add, fit for a log', () => {
    const origin = `https://evil.test/\u001b[31m\n${'x'.repeat(500)}`;
    const verdict = new OriginPolicy(['same-origin'], []).check({
      headers: { origin, host: 'app.test\r\nX: 1' },
      encrypted: false,
    });
    expect(verdict.allowed).toBe(false);
    expect(JSON.stringify(verdict)).not.toMatch(/\\u001b|\\n|\\r/);
    expect(JSON.stringify(verdict).length).toBeLessThan(900);
    const plain = new OriginPolicy(['same-origin'], []).check({
      headers: { origin: 'https://other.test', host: 'app.test' },
      encrypted: false,
    });
    expect(plain).toMatchObject({ remedy: "origins: ['same-origin', 'https://other.test']" });
  });
});
