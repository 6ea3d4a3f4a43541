/**
 * Ports: the interfaces between the core and the world. They import the protocol's types alone;
 * core uses them, adapters fill them, and each has one conformance suite in test/conformance.
 */
export * from './clock.ts';
export * from './doctor.ts';
export * from './logger.ts';
export * from './live-metrics.ts';
export * from './metrics.ts';
export * from './operator.ts';
export * from './peer-directory.ts';
export * from './tiers.ts';
export * from './transport.ts';
export * from './upstream.ts';
export * from './virtual-session.ts';
export * from './links.ts';
export * from './auth.ts';
export * from './invalidation-bus.ts';
export * from './budget.ts';
export * from './change-bus.ts';
