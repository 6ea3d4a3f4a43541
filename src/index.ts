/** The library: protocol, ports, core and adapters. It reads no environment and ends no process. */
export * from './protocol/index.ts';
export * from './ports/index.ts';
export {
  Gateway,
  type GatewayLimits,
  type GatewayOptions,
  type GatewayParts,
  type GatewaySettings,
} from './core/gateway/gateway.ts';
export { BackendPool, type BackendPoolOptions } from './core/backends/backend-pool.ts';
export { directUpstream } from './adapters/upstream/direct-upstream.ts';
export { linkServer } from './adapters/link/link-server.ts';
export { nodeTransport } from './adapters/transport/node-transport.ts';
export {
  createPublisher,
  type PublishedChange,
  type PublishedPush,
  type Publisher,
  type PublisherOptions,
} from './publisher.ts';
export { streamWork, type StreamWork, type StreamWorkOptions } from './adapters/bus/stream-work.ts';
export { closeRedis, redisClient, type RedisClient, type RedisClientOptions } from './adapters/redis/redis-client.ts';
