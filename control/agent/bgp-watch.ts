/** What happens in the BGP speaker, for those who watch: queues that are bounded and read at the reader's pace. */
import type { BgpEvent, BgpRouteView, BgpWatch, BgpWatchQuery } from '../api/types.ts';
import { get16 } from '../bgp/bytes.ts';
import type { Agreement } from '../bgp/connection.ts';
import { Describer } from '../bgp/describe.ts';
import { formatPrefix, type Prefix } from '../bgp/family.ts';
import type { Speaker } from '../bgp/speaker.ts';
import type { PeerStatus } from '../bgp/status.ts';

/** What waits for one reader: events, and bytes of messages. */
const MAX_EVENTS = 16_384;
const MAX_BYTES = 4 * 1024 * 1024;

/** Whole messages as they came or went, one or several. */
interface Messages {
  readonly peer: string;
  readonly direction: 'in' | 'out';
  readonly bytes: Uint8Array;
  readonly internal: boolean;
  /** Of the session; null before it is up. */
  readonly agreement: Agreement | null;
}

type Remembered = { readonly at: number } & (
  | { readonly status: PeerStatus; readonly lastError: string | null }
  | { readonly messages: Messages }
  | { readonly prefix: Prefix }
);

/** The best path of a prefix as it is now, or null. */
export type Look = (prefix: Prefix) => BgpRouteView | null;

export class Monitor {
  readonly #look: Look;
  readonly #watches = new Set<Watch>();
  /** When each peer's last error was: it is told once. */
  readonly #errors = new Map<string, number>();
  #speaker: Speaker | null = null;
  #unlisten: (() => void) | null = null;

  constructor(look: Look) {
    this.#look = look;
  }

  /** Watch this speaker from now on, or none. */
  use(speaker: Speaker | null): void {
    if (speaker === this.#speaker) return;
    this.#speaker = speaker;
    this.#errors.clear();
    this.#listenAsNeeded();
  }

  watch(query: BgpWatchQuery, wake: () => void): BgpWatch {
    const watch = new Watch(query, wake, this.#look, () => {
      this.#watches.delete(watch);
      this.#listenAsNeeded();
    });
    this.#watches.add(watch);
    this.#listenAsNeeded();
    return watch;
  }

  /** Nobody listens where nobody watches: copies of messages and the like cost nothing then. */
  #listenAsNeeded(): void {
    this.#unlisten?.();
    this.#unlisten = null;
    const speaker = this.#speaker;
    if (!speaker || this.#watches.size === 0) return;
    const onState = (status: PeerStatus) => this.#tellState(status);
    const onMessage = (peer: string, direction: 'in' | 'out', messages: Uint8Array) =>
      this.#tellMessages(speaker, peer, direction, messages);
    speaker.on('state', onState);
    speaker.on('message', onMessage);
    const wantsBest = [...this.#watches].some(({ query }) => query.best);
    const ribs = wantsBest ? speaker.ribs : [];
    const onChange = ribs.map((rib) => (ids: Int32Array, count: number) => {
      const at = Date.now();
      for (let i = 0; i < count; i++) {
        const prefix = rib.prefixOf(ids[i]!);
        const peer = rib.bestSource(ids[i]!)?.name ?? null;
        for (const watch of this.#watches) {
          if (watch.query.best) watch.add({ at, prefix }, peer);
        }
      }
    });
    for (const [i, rib] of ribs.entries()) rib.on('change', onChange[i]!);
    this.#unlisten = () => {
      speaker.off('state', onState);
      speaker.off('message', onMessage);
      for (const [i, rib] of ribs.entries()) rib.off('change', onChange[i]!);
    };
  }

  #tellState(status: PeerStatus): void {
    const { address, lastErrorAt } = status;
    const when = lastErrorAt?.getTime() ?? 0;
    const lastError = when === (this.#errors.get(address) ?? 0) ? null : status.lastError;
    this.#errors.set(address, when);
    for (const watch of this.#watches) watch.add({ at: Date.now(), status, lastError }, address);
  }

  #tellMessages(speaker: Speaker, peer: string, direction: 'in' | 'out', messages: Uint8Array): void {
    const session = speaker.session(peer);
    // A copy: a view of a few bytes would keep the whole chunk that they came in.
    const bytes = new Uint8Array(messages);
    const { internal } = session?.source ?? { internal: false };
    const agreement = session?.connection?.agreement ?? null;
    const event = { at: Date.now(), messages: { peer, direction, bytes, internal, agreement } };
    for (const watch of this.#watches) watch.add(event, peer, bytes.length);
  }
}

class Watch implements BgpWatch {
  readonly query: BgpWatchQuery;
  readonly close: () => void;
  readonly #wake: () => void;
  readonly #look: Look;
  readonly #describers = new WeakMap<Agreement, Partial<Record<'in' | 'out', Describer>>>();
  #waiting: Remembered[] = [];
  #count = 0;
  #bytes = 0;
  /** Events after those that wait for which there was no room. */
  #lost = 0;
  #isAwake = false;

  constructor(query: BgpWatchQuery, wake: () => void, look: Look, close: () => void) {
    this.query = query;
    this.#wake = wake;
    this.#look = look;
    this.close = close;
  }

  /** `peer`: whom it concerns; null: nobody that is known. */
  add(event: Remembered, peer: string | null, size = 0): void {
    if (this.query.peer !== undefined && peer !== this.query.peer) return;
    if (this.#lost > 0 || this.#count === MAX_EVENTS || this.#bytes + size > MAX_BYTES) this.#lost++;
    else {
      this.#waiting.push(event);
      this.#count++;
      this.#bytes += size;
    }
    if (this.#isAwake) return;
    this.#isAwake = true;
    this.#wake();
  }

  *events(): Generator<BgpEvent> {
    while (this.#waiting.length > 0 || this.#lost > 0) {
      const waiting = this.#waiting;
      const lost = this.#lost;
      this.#waiting = [];
      this.#lost = 0;
      for (const event of waiting) {
        this.#count--;
        if ('messages' in event) this.#bytes -= event.messages.bytes.length;
        yield* this.#told(event);
      }
      if (lost > 0) yield { at: new Date().toISOString(), event: 'lost', count: lost };
    }
    this.#isAwake = false;
  }

  *#told(event: Remembered): Generator<BgpEvent> {
    const at = new Date(event.at).toISOString();
    if ('status' in event) {
      const { address: peer, asn, state } = event.status;
      yield { at, event: 'state', peer, asn, state, lastError: event.lastError };
    } else if ('prefix' in event) {
      const { prefix } = event;
      const text = formatPrefix(prefix);
      yield { at, event: 'best', family: prefix.family.name, prefix: text, route: this.#look(prefix) };
    } else {
      const { peer, direction, bytes } = event.messages;
      const describer = this.#describer(event.messages);
      for (let from = 0, to: number; from < bytes.length; from = to) {
        to = from + get16(bytes, from + 16);
        yield { at, event: 'message', peer, direction, ...describer.describe(bytes.subarray(from, to)) };
      }
    }
  }

  #describer({ agreement, direction, internal }: Messages): Describer {
    if (!agreement) return new Describer(null, direction, internal);
    let both = this.#describers.get(agreement);
    if (!both) {
      both = {};
      this.#describers.set(agreement, both);
    }
    both[direction] ??= new Describer(agreement, direction, internal);
    return both[direction];
  }
}
