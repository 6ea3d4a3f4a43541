/** How a client of each peer connects and subscribes. After that all are alike: frames with a stamp in them. */

export interface Dialect {
  readonly path: string;
  readonly protocol?: string;
  /** What to say once the WebSocket is open. */
  readonly hello?: string;
  /** What to answer, or that the connection is subscribed. */
  hear(text: string): { readonly say?: string; readonly ready?: true };
  /** What to say before it leaves, where a server would keep messages for it otherwise. */
  readonly bye?: string;
}

const anycableChannel = JSON.stringify({ channel: '$pubsub', stream_name: 'bench' });

export const dialects = {
  anycable: {
    path: '/cable',
    protocol: 'actioncable-v1-json',
    hear: (text) => {
      if (text.includes('"welcome"')) {
        return { say: JSON.stringify({ command: 'subscribe', identifier: anycableChannel }) };
      }
      return text.includes('"confirm_subscription"') ? { ready: true } : {};
    },
  },
  centrifuge: {
    path: '/connection/websocket',
    hello: '{"connect":{},"id":1}',
    hear: (text) => {
      if (text === '{}') return { say: '{}' };
      return text.startsWith('{"id":1') ? { ready: true } : {};
    },
  },
  bridgehead: {
    path: `/_event/?EIO=4&transport=websocket&token=TOKEN`,
    protocol: '0.10.1',
    hear: (text) => {
      if (text.startsWith('0')) return { say: '40/_event,' };
      if (text === '2') return { say: '3' };
      return text.startsWith('40/_event') ? { ready: true } : {};
    },
    bye: '41/_event,',
  },
} as const satisfies Readonly<Record<string, Dialect>>;

export type DialectName = keyof typeof dialects;
