import { SocketPacket } from '../../protocol/socket-io.ts';
import type { Waiting } from '../relay/inbound-queue.ts';

type PacketItem = Waiting & { kind: 'packet' };

const DIGIT_0 = 0x30;
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
  #loads = false;
  /** CONNECT texts of other namespaces, and whether the client has got its answer. */
  readonly #others = new Map<string, { readonly text: string; answered: boolean }>();
  /** Acknowledgements that stop here: the client has them. */
  readonly #expected = new Set<string>();

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  /** Reflex's namespace is about to be connected by the client's own packet. */
  get pending(): boolean {
    return !this.#answered || this.#expected.has(this.#namespace);
  }

  /** Some namespace's CONNECT has not been answered, Reflex's or another one's. */
  get unanswered(): boolean {
    return this.pending || [...this.#others.values()].some(({ answered }) => !answered);
  }

  /** Whether the client's last CONNECT had the event in it that loads its page. */
  get loads(): boolean {
    return this.#loads;
  }

  /** The hash of the page's state tree, once its CONNECT has passed. */
  get schema(): string | undefined {
    return this.#schema;
  }

  /** The same in a packet that waits. */
  schemaIn({ header, text }: PacketItem): string | undefined {
    const isMain = header.type === SocketPacket.connect && header.namespace === this.#namespace;
    return isMain ? schemaOf(text.slice(header.dataStart)) : undefined;
  }

  /** Acknowledgements are to come that stop here. */
  get incomplete(): boolean {
    return this.#expected.size > 0;
  }

  /** A client's packet goes out. True for CONNECT of Reflex's namespace. */
  noteClient({ header, text }: PacketItem): boolean {
    const { type, namespace } = header;
    const isMain = namespace === this.#namespace;
    if (type === SocketPacket.disconnect) {
      this.#forget(namespace);
      return false;
    }
    if (type !== SocketPacket.connect) return false;
    if (!isMain) {
      if (this.#others.size < MAX_OTHERS) this.#others.set(namespace, { text, answered: false });
      return false;
    }
    this.#asked = true;
    const payload = text.slice(header.dataStart);
    this.#loads = payload !== '';
    this.#schema = schemaOf(payload);
    if (this.#answered) this.#expected.add(namespace);
    return true;
  }

  /** A worker's text frame. `connected`: Reflex's namespace is, and the client is told; `joined`: the last acknowledgement that was waited for here. */
  noteWorker(frame: Buffer): 'pass' | 'connected' | 'swallow' | 'joined' | 'refused' {
    const type = (frame[1] ?? 0) - DIGIT_0;
    if (type !== SocketPacket.connect && type !== SocketPacket.connectError && type !== SocketPacket.disconnect) {
      return 'pass';
    }
    const namespace = namespaceOf(frame);
    if (type === SocketPacket.connect) return this.#acknowledged(namespace);
    if (this.#expected.has(namespace)) return 'refused';
    this.#forget(namespace);
    return 'pass';
  }

  /** These go out again as the client sent them. True where CONNECT of Reflex's namespace is among them. */
  returned(items: readonly Waiting[]): boolean {
    const namespaces = items.flatMap((item) =>
      item.kind === 'packet' && item.header.type === SocketPacket.connect ? [item.header.namespace] : [],
    );
    for (const namespace of namespaces) this.#others.delete(namespace);
    return namespaces.includes(this.#namespace);
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
      packets.push(`${head(SocketPacket.connect, this.#namespace)}${JSON.stringify(payload)}`);
      this.#expected.add(this.#namespace);
    }
    for (const [namespace, { text, answered }] of this.#others) {
      packets.push(text);
      if (answered) this.#expected.add(namespace);
    }
    return packets;
  }

  #acknowledged(namespace: string): ReturnType<Connects['noteWorker']> {
    if (this.#expected.delete(namespace)) return this.#expected.size === 0 ? 'joined' : 'swallow';
    const other = this.#others.get(namespace);
    if (other !== undefined) other.answered = true;
    if (namespace !== this.#namespace || !this.#asked || this.#answered) return 'pass';
    this.#answered = true;
    return 'connected';
  }

  /** The client is not connected to it any more. */
  #forget(namespace: string): void {
    this.#others.delete(namespace);
    if (namespace === this.#namespace) this.#asked = this.#answered = false;
  }
}

/** How a packet's frame begins. */
function head(type: number, namespace: string): string {
  return `4${type}${namespace === '/' ? '' : `${namespace},`}`;
}

function namespaceOf(frame: Buffer): string {
  return /^4\d(\/[^,]*)/.exec(frame.toString())?.[1] ?? '/';
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
