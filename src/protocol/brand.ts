declare const brand: unique symbol;

/** A string or number that only its own parser may make. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** The id of an Engine.IO session (Engine.IO 4, "Handshake"). */
export type SessionId = Brand<string, 'SessionId'>;

/** Reflex's client token: one for each browser tab. A secret: never log it. */
export type ClientToken = Brand<string, 'ClientToken'>;

/** Ends a switch over a union: the compiler complains where a case is missing. */
export function assertNever(value: never): never {
  throw new TypeError(`unexpected value ${JSON.stringify(value)}`);
}
