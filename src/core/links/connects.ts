import { SocketPacket } from '../../protocol/socket-io.ts';
import { startsWith } from '../relay/connect-watch.ts';
import type { Waiting } from '../relay/inbound-queue.ts';

type PacketItem = Waiting & { kind: 'packet' };

/** Namespaces of one session that are remembered beside Reflex's. */
const MAX_OTHERS = 8;

/**
 * The namespaces a client is connected to, so that a session can be connected to them again at another worker without its client
 * noticing.
 */
export class Connects {
  readonly #namespace: string;
  /** Reflex's namespace: the client has asked for it; its answer has passed to the client. */
  #asked = false;
  #answered = false;
  /** The hash of the frontend's state tree, by which a worker of another build tells the page to reload. */
  #schema: string | undefined;
  /** CONNECT texts of other namespaces. */
  readonly #others = new Map<string, string>();
  /** Acknowledgements that stop here: the client has them. */
  readonly #expected = new Set<string>();

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  /** Reflex's namespace is about to be connected by the client's own packet. */
  get pending(): boolean {
    return !this.#answered || this.#expected.has(this.#namespace);
  }

  /** A client's packet goes out. True for CONNECT of Reflex's namespace. */
  noteClient({ header, text }: PacketItem): boolean {
    const { type, namespace } = header;
    const isMain = namespace === this.#namespace;
    if (type === SocketPacket.disconnect) {
      this.#others.delete(namespace);
      if (isMain) this.#asked = this.#answered = false;
      return false;
    }
    if (type !== SocketPacket.connect) return false;
    if (!isMain) {
      if (this.#others.size < MAX_OTHERS) this.#others.set(namespace, text);
      return false;
    }
    this.#asked = true;
    this.#schema = schemaOf(text.slice(header.dataStart));
    if (this.#answered) this.#expected.add(namespace);
    return true;
  }

  /** A worker's text frame. `connected`: Reflex's namespace is, and the client is told; `joined`: the last acknowledgement that was waited for here. */
  noteWorker(frame: Buffer): 'pass' | 'connected' | 'swallow' | 'joined' | 'refused' {
    if (this.#answered && this.#expected.size === 0) return 'pass';
    for (const namespace of this.#expected) {
      if (startsWith(frame, head(SocketPacket.connectError, namespace))) return 'refused';
      if (!startsWith(frame, head(SocketPacket.connect, namespace))) continue;
      this.#expected.delete(namespace);
      return this.#expected.size === 0 ? 'joined' : 'swallow';
    }
    if (this.#asked && !this.#answered && startsWith(frame, head(SocketPacket.connect, this.#namespace))) {
      this.#answered = true;
      return 'connected';
    }
    return 'pass';
  }

  /**
   * What connects the session at another worker: an empty CONNECT, never a made-up hydrate. `itself`: the client's own CONNECT is
   * sent again, since its page was still loading.
   */
  again(itself: boolean): string[] {
    this.#expected.clear();
    const packets: string[] = [];
    if (this.#answered && !itself) {
      const payload = this.#schema === undefined ? {} : { state_schema: this.#schema };
      packets.push(`${head(SocketPacket.connect, this.#namespace).toString()}${JSON.stringify(payload)}`);
      this.#expected.add(this.#namespace);
    }
    for (const [namespace, text] of this.#others) {
      packets.push(text);
      this.#expected.add(namespace);
    }
    return packets;
  }
}

/** How a packet's frame begins. */
function head(type: number, namespace: string): Buffer {
  return Buffer.from(`4${type}${namespace === '/' ? '' : `${namespace},`}`);
}

function schemaOf(payload: string): string | undefined {
  if (payload === '') return undefined;
  try {
    const { state_schema: schema } = JSON.parse(payload) as { state_schema?: unknown };
    return typeof schema === 'string' && schema.length <= 200 ? schema : undefined;
  } catch {
    return undefined;
  }
}
