/** The BGP speaker as the control socket shows it. Nothing is copied: lists are walked while they are read. */
import { peerNamed } from '../api/peer-named.ts';
import type {
  BgpDumpQuery,
  BgpProblemView,
  BgpRouteQuery,
  BgpRouteView,
  BgpSummaryView,
  BgpView,
  BgpWatch,
  BgpWatchQuery,
  BgpWhyView,
} from '../api/types.ts';
import type { BmpStatus } from '../bgp/bmp-collector.ts';
import type { SpeakerConfig } from '../bgp/config.ts';
import { FAMILIES } from '../bgp/family.ts';
import type { Speaker } from '../bgp/speaker.ts';
import type { PeerStatus } from '../bgp/status.ts';
import { TortieError } from '../error.ts';
import { dumpOf } from './bgp-dump.ts';
import { bestOf, routesOf, whyOf } from './bgp-routes.ts';
import { Monitor } from './bgp-watch.ts';

/** RFC 9003 section 2. */
const MAX_TEXT_BYTES = 255;

export interface Running {
  readonly speaker: Speaker;
  readonly config: SpeakerConfig;
  /** BMP collectors. Default: none. */
  readonly bmp?: () => BmpStatus[];
}

export class SpeakerView implements BgpView {
  /** Of the plan that the speaker was given last. */
  problems: readonly BgpProblemView[] = [];
  #running: Running | null = null;
  readonly #forwarded: () => number;
  readonly #monitor = new Monitor((prefix) => {
    const speaker = this.#running?.speaker;
    return speaker ? bestOf(speaker, prefix) : null;
  });

  /** `forwarded`: how many learned routes packets follow. */
  constructor(forwarded: () => number = () => 0) {
    this.#forwarded = forwarded;
  }

  /** Show this speaker from now on, or none. */
  use(running: Running | null): void {
    this.#running = running;
    this.#monitor.use(running?.speaker ?? null);
  }

  get isRunning(): boolean {
    return this.#running !== null;
  }

  summary(): BgpSummaryView {
    const { speaker, config, bmp = () => [] } = this.#needed();
    return {
      asn: config.asn,
      routerId: config.routerId,
      clusterId: config.clusterId ?? config.routerId,
      tables: FAMILIES.map(({ name, index }) => {
        const { size, pathCount, bytes } = speaker.ribs[index];
        return { family: name, prefixes: size, paths: pathCount, bytes };
      }),
      attributeSets: speaker.table.size,
      bmp: bmp().map((collector) => ({ ...collector, since: collector.since.toISOString() })),
      forwarded: this.#forwarded(),
      problems: [...this.problems],
    };
  }

  peers(): PeerStatus[] {
    return this.#needed().speaker.peers();
  }

  routes(query: BgpRouteQuery): Iterable<BgpRouteView | null> {
    const { speaker } = this.#needed();
    const name = query.out ?? query.in;
    const peer = name === undefined ? null : this.#peer(name).address;
    return routesOf(speaker, query, peer);
  }

  dump(query: BgpDumpQuery): Iterable<Uint8Array | null> {
    const { speaker, config } = this.#needed();
    return dumpOf(speaker, config, query, query.in === undefined ? null : this.#peer(query.in).address);
  }

  why(prefix: string, to?: string): BgpWhyView {
    const { speaker } = this.#needed();
    return whyOf(speaker, prefix, to === undefined ? null : this.#peer(to).address);
  }

  watch(query: BgpWatchQuery, wake: () => void): BgpWatch {
    this.#needed();
    const peer = query.peer === undefined ? {} : { peer: this.#peer(query.peer).address };
    return this.#monitor.watch({ ...query, ...peer }, wake);
  }

  refresh(name: string): void {
    const { speaker } = this.#needed();
    const { address, state } = this.#peer(name);
    if (state !== 'Established') {
      const advice = 'there is nothing to tell again; "tortie bgp peer" says why';
      throw new TortieError('BGP_PEER_DOWN', `the session with ${address} is ${state}: ${advice}`);
    }
    if (!speaker.refresh(address)) {
      const advice =
        'it was told ours again, and tells its own again in a new session: see "tortie bgp reset"';
      throw new TortieError(
        'BGP_NO_REFRESH',
        `${address} does not offer route refresh (RFC 2918); ${advice}`,
      );
    }
  }

  reset(name: string, message: string): void {
    const { speaker } = this.#needed();
    const { address } = this.#peer(name);
    const bytes = Buffer.byteLength(message);
    if (bytes > MAX_TEXT_BYTES) {
      const advice = `at most ${MAX_TEXT_BYTES} can be sent (RFC 9003); shorten it`;
      throw new TortieError('BGP_TEXT', `the message has ${bytes} bytes, ${advice}`);
    }
    speaker.reset(address, message);
  }

  #needed(): Running {
    if (this.#running) return this.#running;
    const advice = 'see bgp.enabled in the settings, and the log for a listener that failed';
    throw new TortieError('BGP_OFF', `this agent speaks no BGP; ${advice}`);
  }

  #peer(name: string): PeerStatus {
    return peerNamed(this.peers(), name, this.problems);
  }
}
