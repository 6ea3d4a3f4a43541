/**
 * Pure codecs of everything on the wire: Engine.IO, Socket.IO, Reflex's events, annotation and link. No I/O, no state
 * but a reader's own; imports nothing of the project, and everyone may import it.
 */
export * from './annotation.ts';
export * from './brand.ts';
export * from './change.ts';
export * from './close-code.ts';
export * from './engine-io.ts';
export * from './keys.ts';
export * from './link.ts';
export * from './link-session.ts';
export * from './link-session-reader.ts';
export * from './manifest.ts';
export * from './peer-note.ts';
export * from './reflex-event.ts';
export * from './reflex-update.ts';
export * from './shadow-report.ts';
export * from './socket-io.ts';
export * from './tier.ts';
