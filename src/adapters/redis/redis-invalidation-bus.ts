import { LRUCache } from 'lru-cache';
import type { Invalidation } from '../../ports/auth.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { InvalidationBus, InvalidationHandler } from '../../ports/invalidation-bus.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Keyring } from '../../protocol/keys.ts';
import { readInvalidation } from '../shared/invalidation.ts';
import { Breaker } from '../shared/breaker.ts';
import { PendingInvalidations } from './pending-invalidations.ts';
import { connectRedis, type RedisClient } from './redis-client.ts';
import { readSigned, signText } from './signed-text.ts';

export interface RedisInvalidationBusOptions {
  readonly commands: RedisClient;
  /** A client of its own for the role `subscriber`. */
  readonly subscriber: RedisClient;
  /** The deployment's. */
  readonly name: string;
  /** This process, among all. */
  readonly instance: string;
  /** For the purpose `cache`. */
  readonly keys: Keyring;
  readonly clock: Clock;
  readonly logger: Logger;
}

const BEAT_INTERVAL = 1_000;
/** A beat that is older when it comes back, or none, means blind. Milliseconds. */
const BLIND_AFTER = 3_000;
/** A subscription that brings no beat for so long is made anew. Milliseconds. */
const DEAF_AFTER = 5_000;
const PUBLISH_TIMEOUT = 1_000;
const MAX_MESSAGE = 4_096;
/** Ids of messages that were seen, to tell repeated ones. */
const MAX_SEEN = 10_000;

/**
 * The channel `bridgehead:<name>:invalidate` (docs/PROTOCOL.md, "Invalidation"). It is sure only while its own beats come back: that
 * shows the whole way, to Redis and through the subscription. A subscription that broke has a gap and is blind at once.
 */
export function redisInvalidationBus(options: RedisInvalidationBusOptions): RedisInvalidationBus {
  return new RedisInvalidationBus(options);
}

export class RedisInvalidationBus implements InvalidationBus {
  readonly #options: RedisInvalidationBusOptions;
  readonly #channel: string;
  readonly #pending: PendingInvalidations;
  readonly #seen = new LRUCache<string, true>({ max: MAX_SEEN });
  /** Beats under way: their numbers, and when they were sent. */
  readonly #beats = new Map<number, number>();
  #lastBeat = 0;
  #handler: InvalidationHandler | undefined;
  #onSure = (): void => undefined;
  #blind = true;
  #blindTimer: Timer | undefined;
  #interval: Timer | undefined;
  /** When the subscription last showed life. */
  #heard = 0;
  #ignored = 0;
  #failed = false;

  constructor(options: RedisInvalidationBusOptions) {
    this.#options = options;
    this.#channel = `bridgehead:${options.name}:invalidate`;
    const { clock } = options;
    const breaker = new Breaker({ timeout: PUBLISH_TIMEOUT, pause: 0, clock });
    this.#pending = new PendingInvalidations({
      clock,
      retryDelay: BEAT_INTERVAL,
      send: async (what, id) => {
        const sent = await breaker.run(() => this.#send(what, id));
        this.#say(sent === undefined);
        return sent !== undefined;
      },
    });
  }

  get blind(): boolean {
    return this.#blind;
  }

  /** Messages that were not signed with a secret of this deployment, or say nothing that is known. */
  get ignored(): number {
    return this.#ignored;
  }

  async start(handler: InvalidationHandler, timeout: number): Promise<void> {
    const { clock, commands, subscriber } = this.#options;
    this.#handler = handler;
    this.#heard = clock.monotonic();
    let timer: Timer | undefined;
    const begun = new Promise<void>((resolve) => {
      this.#onSure = resolve;
      timer = clock.setTimeout(resolve, timeout);
    });
    subscriber.on('message', this.#receive);
    subscriber.on('ready', this.#subscribe);
    subscriber.on('close', this.#lose);
    commands.on('ready', this.#beat);
    this.#interval = clock.setInterval(this.#beat, BEAT_INTERVAL);
    void connectRedis(commands);
    if (subscriber.status === 'ready') this.#subscribe();
    else void connectRedis(subscriber);
    await begun;
    timer?.cancel();
    if (this.#blind) handler.blind(true);
  }

  publish(what: Invalidation, id?: string): Promise<void> {
    return this.#pending.add(what, id);
  }

  admit(id: string): boolean {
    const isNew = !this.#seen.has(id);
    this.#seen.set(id, true);
    return isNew;
  }

  /** The clients stay open: they belong to whoever made them. */
  async close(): Promise<void> {
    const { commands, subscriber } = this.#options;
    this.#handler = undefined;
    this.#onSure();
    this.#interval?.cancel();
    this.#blindTimer?.cancel();
    this.#pending.close();
    commands.off('ready', this.#beat);
    subscriber.off('message', this.#receive);
    subscriber.off('ready', this.#subscribe);
    subscriber.off('close', this.#lose);
    if (subscriber.status === 'ready') await subscriber.unsubscribe(this.#channel).catch(() => undefined);
  }

  async #send(what: Invalidation, id: string): Promise<void> {
    this.#seen.set(id, true);
    await this.#options.commands.publish(this.#channel, signText({ id, ...what }, this.#options.keys));
  }

  readonly #subscribe = (): void => {
    const { subscriber, logger } = this.#options;
    const subscribed = async (): Promise<void> => {
      try {
        await subscriber.subscribe(this.#channel);
        this.#beat();
      } catch (error) {
        // Gone again, or not allowed: without beats this bus stays blind and subscribes anew.
        const cause = error instanceof Error ? error.name : 'unknown';
        logger.debug({ cause }, 'the invalidation channel cannot be subscribed to');
      }
    };
    void subscribed();
  };

  readonly #beat = (): void => {
    const { clock, commands, instance, keys, subscriber } = this.#options;
    const now = clock.monotonic();
    for (const [number, sent] of this.#beats) if (now - sent > BLIND_AFTER) this.#beats.delete(number);
    if (now - this.#heard > DEAF_AFTER && subscriber.status === 'ready') {
      this.#heard = now;
      subscriber.disconnect(true);
    }
    const number = ++this.#lastBeat;
    this.#beats.set(number, now);
    // A number that only this process knows to be under way: an old beat that somebody repeats proves nothing.
    commands.publish(this.#channel, signText({ beat: instance, n: number }, keys)).catch(() => undefined);
  };

  readonly #receive = (channel: string, text: string): void => {
    if (channel !== this.#channel) return;
    const body = text.length > MAX_MESSAGE ? undefined : readSigned(text, this.#options.keys);
    if (body === undefined) {
      this.#ignore();
      return;
    }
    const { beat, id } = body;
    if (beat !== undefined) {
      if (beat === this.#options.instance && typeof body['n'] === 'number') this.#hear(body['n']);
      return;
    }
    if (typeof id === 'string' && this.#seen.has(id)) return;
    const what = readInvalidation(body);
    if (what === undefined) {
      this.#ignore();
      return;
    }
    if (typeof id === 'string') this.#seen.set(id, true);
    this.#handler?.invalidated(what);
  };

  #hear(number: number): void {
    const sent = this.#beats.get(number);
    if (sent === undefined) return;
    this.#beats.delete(number);
    const { clock } = this.#options;
    this.#heard = clock.monotonic();
    const left = BLIND_AFTER - (this.#heard - sent);
    if (left <= 0) return;
    this.#blindTimer?.cancel();
    this.#blindTimer = clock.setTimeout(() => this.#setBlind(true), left);
    this.#setBlind(false);
    this.#onSure();
  }

  readonly #lose = (): void => {
    this.#blindTimer?.cancel();
    this.#beats.clear();
    this.#setBlind(true);
  };

  #setBlind(blind: boolean): void {
    if (blind === this.#blind) return;
    this.#blind = blind;
    const { logger } = this.#options;
    if (blind) logger.warn({}, 'invalidations may be missed: users are asked for again, and kept shortly');
    else logger.info({}, 'invalidations arrive');
    this.#handler?.blind(blind);
  }

  #ignore(): void {
    if (this.#ignored++ > 0) return;
    this.#options.logger.warn(
      { channel: this.#channel },
      'a message that was not signed with a secret of this deployment is ignored, as further ones will be',
    );
  }

  #say(failed: boolean): void {
    if (failed === this.#failed) return;
    this.#failed = failed;
    if (failed) this.#options.logger.warn({}, 'an invalidation could not be published; trying on');
  }
}
