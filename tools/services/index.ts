/** Real services from installed binaries, each on free ports in a temporary folder. For tests, benches and the demo. */
export * from './redis.ts';
export * from './redis-cluster.ts';
export * from './redis-sentinel.ts';
export * from './postgres.ts';
export * from './pgbouncer.ts';
export * from './nginx.ts';
export * from './haproxy.ts';
export * from './chromium.ts';
export * from './install.ts';
