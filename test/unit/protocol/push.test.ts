import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodePush, readBusMessage } from '../../../src/protocol/change.ts';
import { PushError, readPush, TOAST_LEVELS, type Push } from '../../../src/protocol/push.ts';
import { isOwnPath, scriptUpdate, toastUpdate } from '../../../src/protocol/reflex-update.ts';

const defaults = { id: 'made', now: 1_000 };
const toast = { toast: 'Hello' };
const everybody = { to: { all: true } };

function refusal(value: unknown): PushError {
  try {
    readPush(value, defaults);
  } catch (error) {
    if (error instanceof PushError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

const target = (to: unknown): unknown => readPush({ to, ...toast }, defaults).to;

describe('reading a push', () => {
  it('knows everybody it can be for', () => {
    expect(target({ all: true })).toEqual({ kind: 'all' });
    expect(target({ session: 'tab-1' })).toEqual({ kind: 'session', id: 'tab-1' });
    expect(target({ group: 'Größe' })).toEqual({ kind: 'group', name: 'Größe' });
    expect(target({ path: '/orders/*' })).toEqual({ kind: 'path', pattern: '/orders/*' });
  });

  it('names a user by the primary key, a number or a text, with or without the model', () => {
    expect(target({ user: 42 })).toEqual({ kind: 'user', id: '42' });
    expect(target({ user: '42' })).toEqual({ kind: 'user', id: '42' });
    expect(target({ user: 'Members.Person:7-a' })).toEqual({ kind: 'user', id: '7-a', model: 'members.person' });
    expect(target({ user: 'urn:x' })).toEqual({ kind: 'user', id: 'urn:x' });
  });

  it('knows everything it can do', () => {
    const what = (body: object): unknown => readPush({ ...everybody, ...body }, defaults).what;
    expect(what({ toast: 'Hi' })).toEqual({ kind: 'toast', text: 'Hi', level: 'info' });
    expect(what({ toast: { text: 'Hi', level: 'error' } })).toEqual({ kind: 'toast', text: 'Hi', level: 'error' });
    expect(what({ redirect: '/orders?page=2#top' })).toEqual({ kind: 'redirect', path: '/orders?page=2#top' });
    expect(what({ script: 'alert(1)' })).toEqual({ kind: 'script', code: 'alert(1)' });
    expect(what({ event: { name: 'shop.cart.Cart.add' } })).toEqual({
      kind: 'event',
      name: 'shop.cart.Cart.add',
      payload: {},
    });
  });

  it.each([
    [null, 'The body'],
    [[], 'The body'],
    [{}, 'The body'],
    [{ ...everybody }, 'The body'],
    [{ ...everybody, ...toast, redirect: '/' }, 'redirect'],
    [{ ...everybody, ...toast, when: 5 }, 'when'],
    [{ ...everybody, ...toast, '<b>': 5 }, '"<b>"'],
    [{ ...everybody, ...toast, id: '' }, 'id'],
    [{ ...everybody, ...toast, id: 'x'.repeat(65) }, 'id'],
    [{ ...toast }, 'to'],
    [{ ...toast, to: 'all' }, 'to'],
    [{ ...toast, to: {} }, 'to'],
    [{ ...toast, to: { all: true, user: 1 } }, 'to'],
    [{ ...toast, to: { everyone: true } }, 'to'],
    [{ ...toast, to: { all: 'true' } }, 'to.all'],
    [{ ...toast, to: { session: '' } }, 'to.session'],
    [{ ...toast, to: { session: 5 } }, 'to.session'],
    [{ ...toast, to: { user: 1.5 } }, 'to.user'],
    [{ ...toast, to: { user: 'auth.user:' } }, 'to.user'],
    [{ ...toast, to: { user: null } }, 'to.user'],
    [{ ...toast, to: { group: 'x'.repeat(256) } }, 'to.group'],
    [{ ...toast, to: { path: 'orders' } }, 'to.path'],
    [{ ...everybody, toast: '' }, 'toast'],
    [{ ...everybody, toast: 5 }, 'toast'],
    [{ ...everybody, toast: { text: 'x'.repeat(1_001) } }, 'toast.text'],
    [{ ...everybody, toast: { text: 'x', level: 'fatal' } }, 'toast.level'],
    [{ ...everybody, toast: { text: 'x', level: '__proto__' } }, 'toast.level'],
    [{ ...everybody, toast: { text: 'x', html: true } }, 'toast.html'],
    [{ ...everybody, script: '' }, 'script'],
    [{ ...everybody, script: 'x'.repeat(16_385) }, 'script'],
    [{ ...everybody, event: 'shop.cart.Cart.add' }, 'event'],
    [{ ...everybody, event: { name: 'add' } }, 'event.name'],
    [{ ...everybody, event: { name: 'shop.cart.Cart.add()' } }, 'event.name'],
    [{ ...everybody, event: { name: 'shop.cart.Cart.add', payload: [] } }, 'event.payload'],
    [{ ...everybody, event: { name: 'shop.cart.Cart.add', payload: { x: 'x'.repeat(16_384) } } }, 'event.payload'],
    [{ ...everybody, event: { name: 'shop.cart.Cart.add', tier: 'none' } }, 'event.tier'],
  ])('refuses %j and names %s', (value, field) => {
    const { field: named, message } = refusal(value);
    expect(named).toBe(field);
    expect(message.startsWith(`${field} `)).toBe(true);
    expect(message).toMatch(/\. [A-Z].*\.$/);
  });

  it.each([
    'javascript:alert(1)',
    'JavaScript:alert(1)',
    ' javascript:alert(1)',
    'data:text/html,x',
    '//evil.example',
    '/\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '\t//evil.example',
    'https://evil.example',
    'orders',
    '/a b',
    '/a\u0000',
    '',
  ])('sends no browser to %j', (redirect) => {
    expect(refusal({ ...everybody, redirect }).field).toBe('redirect');
  });
});

describe('a path of the app', () => {
  it('never leads to another host, however a browser reads it', () => {
    const piece = fc.constantFrom(
      '/',
      '\\',
      '\t',
      '\n',
      ' ',
      ':',
      '@',
      'evil.example',
      'javascript',
      '%2f',
      '.',
      '?',
      '#',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
        const path = `/${pieces.join('')}`;
        if (isOwnPath(path)) expect(new URL(path, 'https://shop.example/page').origin).toBe('https://shop.example');
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('what a browser gets', () => {
  it('holds a text as a text, whatever stands in it', () => {
    const hostile = [
      `'"); alert(1); ("`,
      '</script><script>alert(1)</script>',
      '${alert(1)}',
      '\u2028\u2029\\',
      '\uD800',
    ];
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.constantFrom(...hostile)),
        fc.constantFrom(...TOAST_LEVELS),
        (text, level) => {
          const packet = toastUpdate('/_event', { id: 'x', level, text });
          const [, update] = JSON.parse(packet.slice(packet.indexOf('['))) as [
            string,
            { events: { payload: { function: string } }[] },
          ];
          const code = update.events[0]?.payload.function ?? '';
          const shown: unknown[] = [];
          const refs = { __toast: { [level]: (...args: unknown[]) => shown.push(...args) } };
          // As Reflex's frontend runs it.
          runInNewContext(`eval(${JSON.stringify(code)})()`, { refs });
          expect(shown).toEqual([text, { id: 'x' }]);
        },
      ),
    );
  });

  it('holds a script where Reflex looks for it', () => {
    const packet = scriptUpdate('/_event', 'document.title = "</x>"');
    expect(JSON.parse(packet.slice(packet.indexOf('[')))).toEqual([
      'event',
      {
        delta: {},
        events: [
          {
            name: '_call_script',
            payload: { javascript_code: 'document.title = "</x>"', callback: null },
            router_data: {},
          },
        ],
        final: true,
      },
    ]);
  });
});

const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 });
const pushes: fc.Arbitrary<Push> = fc.record({
  id: fc.stringMatching(/^[!-~]{1,64}$/),
  at: fc.maxSafeInteger(),
  to: fc.oneof(
    fc.constant({ kind: 'all' as const }),
    fc.record({ kind: fc.constant('session' as const), id: text }),
    fc.record({ kind: fc.constant('user' as const), id: fc.stringMatching(/^[\w-]{1,30}$/) }),
    fc.record({ kind: fc.constant('user' as const), id: text, model: fc.constant('auth.user') }),
    fc.record({ kind: fc.constant('group' as const), name: text }),
    fc.record({ kind: fc.constant('path' as const), pattern: text.map((end) => `/${end}`) }),
  ),
  what: fc.oneof(
    fc.record({ kind: fc.constant('toast' as const), text, level: fc.constantFrom(...TOAST_LEVELS) }),
    fc.record({ kind: fc.constant('redirect' as const), path: fc.webPath().map((path) => `/a${path}`) }),
    fc.record({ kind: fc.constant('script' as const), code: text }),
    fc.record({
      kind: fc.constant('event' as const),
      name: fc.stringMatching(/^[a-z]{1,5}\.[A-Z][a-z]{1,5}\.[a-z]{1,5}$/),
      payload: fc
        .dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 })
        .map((value) => JSON.parse(JSON.stringify(value)) as Record<string, unknown>),
    }),
  ),
});

describe('a push on a bus', () => {
  it('comes there and back', () => {
    fc.assert(
      fc.property(pushes, (push) => {
        expect(readBusMessage(encodePush(push), { id: () => 'x', now: 1 })).toEqual({ kind: 'push', push });
      }),
    );
  });

  it.each([
    '{"push":{}}',
    '{"push":null}',
    '{"push":{"to":{"all":true},"redirect":"//evil.example"}}',
    '{"push":{"to":{"all":true},"toast":{"text":"x","level":"constructor"}}}',
  ])('is held to the same rules: %s is none', (message) => {
    expect(readBusMessage(message, { id: () => 'x', now: 1 })).toEqual({ kind: 'unreadable' });
  });
});
