/**
 * What the speaker tells BMP collectors (RFC 7854): sessions as they come and go, the messages in which peers tell routes as
 * they came (Adj-RIB-In, pre-policy), those that told them ours (Adj-RIB-Out, post-policy, RFC 8671), and best routes
 * (Loc-RIB, RFC 9069).
 *
 * A collector that comes later gets what is known by then, from the RIB: a walk over the numbers of its prefixes, a slice in a
 * turn of the event loop and only as fast as the collector reads, with the messages that come meanwhile between.
 */
import { parseAddress4 } from '../address.ts';
import type { Rib } from '../rib/rib.ts';
import { nextHopBytes, withAttribute } from './attribute-list.ts';
import type { AttributeSet } from './attribute-table.ts';
import { AS_TRANS, AttributeType as T } from './attributes.ts';
import {
  ADJ_IN_ROUTES,
  ADJ_IN_ROUTES_OF_FAMILY,
  ADJ_OUT,
  ADJ_OUT_ROUTES,
  ADJ_OUT_ROUTES_OF_FAMILY,
  type BmpPeer,
  GLOBAL_INSTANCE,
  LEGACY_AS_PATH,
  LOC_RIB,
  LOCAL_NO_NOTIFICATION,
  LOCAL_NOTIFICATION,
  POST_POLICY,
  peerDown,
  peerUp,
  REJECTED_BY_POLICY,
  REMOTE_NO_NOTIFICATION,
  REMOTE_NOTIFICATION,
  routeMonitoring,
  type Statistic,
  statisticsReport,
  UPDATES_TREATED_AS_WITHDRAW,
} from './bmp.ts';
import {
  type BmpMode,
  type BmpStatus,
  Collector,
  type CollectorConfig,
  type CollectorHost,
} from './bmp-collector.ts';
import { get16 } from './bytes.ts';
import { CAP_AS4, CAP_MULTIPROTOCOL, CAP_NEXT_HOP, ourCapabilities } from './capabilities.ts';
import type { Agreement } from './connection.ts';
import { FAMILIES, type Family, familyNamed, IPV4, parseWords } from './family.ts';
import { encodeOpen, MAX_MESSAGE, NOTIFICATION, UPDATE } from './message.ts';
import { NextHops } from './next-hop.ts';
import { PrefixList } from './nlri.ts';
import type { Log } from './session.ts';
import type { SessionUp, Speaker } from './speaker.ts';
import { encodeAnnouncements, encodeWithdrawals, endOfRib } from './update.ts';

/** What waits for a collector until the walk through what is known goes on, bytes. */
const LOW_WATER = 256 * 1024;
/** How long a collector is told in one turn of the event loop, ms; and prefixes until the clock is looked at. */
const SLICE_MS = 2;
const SLICE = 64;

/** How routes are written. */
type Form = Pick<Agreement, 'as4' | 'families' | 'addPathReceive' | 'addPathSend' | 'maxMessage'>;

/** A session that collectors know of, or the Loc-RIB. */
interface Monitored {
  readonly address: string;
  readonly peer: BmpPeer;
  readonly agreement: Form;
  /** The Peer Up message. */
  readonly up: Uint8Array;
}

/** What a collector is still to be told of one session: prefixes from number `at` on. */
interface Walk {
  readonly monitored: Monitored;
  readonly mode: BmpMode;
  readonly family: Family;
  at: number;
}

export class BmpExporter {
  readonly #host: CollectorHost;
  #configs: readonly CollectorConfig[] = [];
  #collectors: Collector[] = [];
  readonly #walks = new Map<Collector, Walk[]>();
  readonly #timers = new Map<Collector, NodeJS.Timeout>();
  /** Collectors whose walk goes on in a later turn. */
  readonly #walking = new Set<Collector>();
  readonly #monitored = new Map<string, Monitored>();
  #speaker: Speaker | null = null;
  #unlisten: () => void = () => {};
  /** The NOTIFICATION that is about to end a session, and which way it went. */
  #notification: { address: string; direction: 'in' | 'out'; bytes: Uint8Array } | null = null;

  /** `sysName`, `sysDescr`: who we are to collectors. */
  constructor({ sysName, sysDescr, log }: { sysName: string; sysDescr: string; log: Log }) {
    this.#host = {
      sysName,
      sysDescr,
      log,
      onUp: (collector) => this.#begin(collector),
      onDown: (collector) => this.#forget(collector),
      onDrain: (collector) => this.#walk(collector),
    };
  }

  status(): BmpStatus[] {
    return this.#collectors.map((collector) => collector.status);
  }

  /** Tell of this speaker from now on, or of none: collectors are left then. Settles when they are. */
  async use(speaker: Speaker | null): Promise<void> {
    if (speaker === this.#speaker) return;
    this.#unlisten();
    this.#unlisten = () => {};
    this.#speaker = speaker;
    this.#monitored.clear();
    const leaving = this.#collectors.map((collector) => collector.stop('the BGP speaker has stopped'));
    this.#collectors = [];
    if (speaker) this.#open(this.#configs);
    await Promise.all(leaving);
  }

  /** Collectors that stay as they are keep their connection. */
  configure(configs: readonly CollectorConfig[]): void {
    const keyOf = (config: CollectorConfig) => JSON.stringify(config);
    const wanted = new Set(configs.map(keyOf));
    const known = new Set(this.#configs.map(keyOf));
    this.#configs = configs;
    if (!this.#speaker) return;
    for (const collector of this.#collectors) {
      if (!wanted.has(keyOf(collector.config))) void collector.stop('configured otherwise');
    }
    this.#collectors = this.#collectors.filter(({ config }) => wanted.has(keyOf(config)));
    this.#open(configs.filter((config) => !known.has(keyOf(config))));
  }

  #open(configs: readonly CollectorConfig[]): void {
    this.#collectors.push(...configs.map((config) => new Collector(config, this.#host)));
    this.#listenAsNeeded();
  }

  // ---- From the speaker ------------------------------------------------------------------------------

  /** Without collectors, messages are not even looked at. */
  #listenAsNeeded(): void {
    this.#unlisten();
    this.#unlisten = () => {};
    const speaker = this.#speaker;
    if (!speaker || this.#collectors.length === 0) {
      // Nobody hears of sessions that end meanwhile.
      this.#monitored.clear();
      return;
    }
    const onChange = speaker.ribs.map(
      (rib) => (ids: Int32Array, count: number) => this.#tellBest(rib, ids, count),
    );
    const hearBest = this.#collectors.some(({ config }) => config.modes.includes('loc-rib'));
    const onUp = (up: SessionUp) => {
      const monitored = this.#monitor(speaker, up);
      if (monitored) this.#tellAll(monitored.up);
    };
    const onDown = (address: string, reason: string) => this.#tellDown(address, reason);
    const onMessage = (address: string, direction: 'in' | 'out', messages: Uint8Array) =>
      this.#tellMessages(address, direction, messages);
    for (const up of speaker.ups()) {
      if (!this.#monitored.has(up.status.address)) this.#monitor(speaker, up);
    }
    speaker.on('up', onUp).on('down', onDown).on('message', onMessage);
    if (hearBest) for (const [i, rib] of speaker.ribs.entries()) rib.on('change', onChange[i]!);
    this.#unlisten = () => {
      for (const [i, rib] of speaker.ribs.entries()) rib.off('change', onChange[i]!);
      speaker.off('up', onUp).off('down', onDown).off('message', onMessage);
    };
  }

  #monitor(speaker: Speaker, session: SessionUp): Monitored | null {
    const { status, localPort, remotePort, openSent, openReceived } = session;
    const { address, asn, theirs, localAddress } = status;
    const agreement = speaker.session(address)?.connection?.agreement ?? null;
    if (!agreement || !theirs || !localAddress) return null;
    const id = parseAddress4(theirs.routerId);
    const peer = { type: GLOBAL_INSTANCE, address: parseWords(address), asn, id } as const;
    const up = peerUp(peer, {
      localAddress: parseWords(localAddress),
      localPort,
      remotePort,
      openSent,
      openReceived,
    });
    const monitored = { address, peer, agreement, up };
    this.#monitored.set(address, monitored);
    return monitored;
  }

  #tellDown(address: string, reason: string): void {
    const monitored = this.#monitored.get(address);
    if (!monitored) return;
    this.#monitored.delete(address);
    for (const [collector, walks] of this.#walks) {
      this.#walks.set(
        collector,
        walks.filter((walk) => walk.monitored !== monitored),
      );
    }
    this.#tellAll(peerDown(monitored.peer, ...this.#whyDown(address, reason)));
  }

  #whyDown(address: string, reason: string): [reason: number, data: Uint8Array] {
    const notification = this.#notification?.address === address ? this.#notification : null;
    if (notification) {
      const { direction, bytes } = notification;
      return [direction === 'in' ? REMOTE_NOTIFICATION : LOCAL_NOTIFICATION, bytes];
    }
    // Ours is an end without a NOTIFICATION only ahead of a restart; no event of the FSM is like it: 0.
    if (reason.startsWith('connection ')) return [REMOTE_NO_NOTIFICATION, new Uint8Array(0)];
    return [LOCAL_NO_NOTIFICATION, new Uint8Array(2)];
  }

  #tellMessages(address: string, direction: 'in' | 'out', messages: Uint8Array): void {
    const monitored = this.#monitored.get(address);
    const updates: Uint8Array[] = [];
    for (let at = 0, end: number; at < messages.length; at = end) {
      end = at + get16(messages, at + 16);
      const type = messages[at + 18];
      if (type === UPDATE) updates.push(messages.subarray(at, end));
      else if (type === NOTIFICATION) this.#remember(address, direction, messages.slice(at, end));
    }
    if (!monitored || updates.length === 0) return;
    const mode = direction === 'in' ? 'adj-in' : 'adj-out';
    const listeners = this.#listeners(mode);
    if (listeners.length === 0) return;
    const legacy = monitored.agreement.as4 ? 0 : LEGACY_AS_PATH;
    const bytes = routeMonitoring(monitored.peer, flagsOf(mode) | legacy, updates);
    for (const collector of listeners) collector.send(bytes);
  }

  /** RFC 9069: ourselves, as if we were a peer. */
  #ownTable(speaker: Speaker): Monitored {
    const { asn, routerId } = speaker.identity;
    const peer = { type: LOC_RIB, address: [], asn, id: routerId } as const;
    const open = encodeOpen({
      as2: asn > 0xffff ? AS_TRANS : asn,
      holdTime: 0,
      routerId,
      capabilities: ourCapabilities({ ...OWN_OFFERING, asn }).filter(({ code }) => NEEDED.includes(code)),
    });
    const ends = { localAddress: [], localPort: 0, remotePort: 0 };
    const up = peerUp(peer, { ...ends, openSent: open, openReceived: open });
    return { address: '', peer, agreement: OWN_FORM, up };
  }

  /** Best paths of prefixes, by number, are others, or are gone. */
  #tellBest(rib: Rib, ids: Int32Array, count: number): void {
    const listeners = this.#listeners('loc-rib');
    if (listeners.length === 0) return;
    const { family } = rib;
    const { peer } = this.#ownTable(this.#speaker!);
    const gone = new PrefixList(family);
    const lists = new Map<AttributeSet, PrefixList>();
    const words: number[] = [];
    for (let i = 0; i < count; i++) {
      const id = ids[i]!;
      const set = rib.bestSet(id);
      let list = set ? lists.get(set) : gone;
      if (!list) {
        list = new PrefixList(family);
        lists.set(set!, list);
      }
      list.add(rib.wordsOf(id, words), rib.lengthOf(id));
    }
    const format = { family, addPath: false, maxMessage: OWN_FORM.maxMessage };
    const updates = [
      ...encodeWithdrawals(gone, format),
      ...announcements(lists, peer, OWN_FORM, 'loc-rib', family),
    ];
    const bytes = routeMonitoring(peer, 0, updates);
    for (const collector of listeners) collector.send(bytes);
  }

  /** The end of the session follows at once, or it was another connection's. */
  #remember(address: string, direction: 'in' | 'out', bytes: Uint8Array): void {
    this.#notification = { address, direction, bytes };
    queueMicrotask(() => {
      this.#notification = null;
    });
  }

  // ---- To collectors ---------------------------------------------------------------------------------

  #listeners(mode: BmpMode): Collector[] {
    return this.#collectors.filter(({ isUp, config }) => isUp && config.modes.includes(mode));
  }

  #tellAll(message: Uint8Array): void {
    for (const collector of this.#collectors) collector.send(message);
  }

  /** Section 3.3: who is up, then what they have told, and End-of-RIB. */
  #begin(collector: Collector): void {
    const walks: Walk[] = [];
    const { modes } = collector.config;
    const own = modes.includes('loc-rib') ? [this.#ownTable(this.#speaker!)] : [];
    for (const monitored of [...this.#monitored.values(), ...own]) {
      collector.send(monitored.up);
      for (const mode of modes) {
        if ((mode === 'loc-rib') !== (monitored.peer.type === LOC_RIB)) continue;
        for (const family of FAMILIES) {
          if (monitored.agreement.families[family.index]) walks.push({ monitored, mode, family, at: 0 });
        }
      }
    }
    this.#walks.set(collector, walks);
    const { statisticsSeconds } = collector.config;
    this.#timers.set(
      collector,
      setInterval(() => this.#report(collector), statisticsSeconds * 1000),
    );
    this.#walk(collector);
  }

  #forget(collector: Collector): void {
    this.#walks.delete(collector);
    clearInterval(this.#timers.get(collector));
    this.#timers.delete(collector);
  }

  #walk(collector: Collector): void {
    if (this.#walking.has(collector)) return;
    this.#walking.add(collector);
    setImmediate(() => {
      this.#walking.delete(collector);
      const walk = this.#walks.get(collector)?.[0];
      if (!walk || collector.queuedBytes > LOW_WATER) return;
      if (this.#tellSlice(collector, walk)) this.#walks.get(collector)?.shift();
      this.#walk(collector);
    });
  }

  /** Tell some of what is known. True: it was the last of it. */
  #tellSlice(collector: Collector, walk: Walk): boolean {
    const { monitored, mode, family } = walk;
    const { peer, agreement } = monitored;
    const rib = this.#speaker!.ribs[family.index];
    const until = performance.now() + SLICE_MS;
    const lists = new Map<AttributeSet, PrefixList>();
    const words: number[] = [];
    do {
      for (const end = Math.min(rib.end, walk.at + SLICE); walk.at < end; walk.at++) {
        for (const { set, pathId } of this.#told(walk)) {
          const list = lists.get(set) ?? new PrefixList(family);
          lists.set(set, list);
          list.add(rib.wordsOf(walk.at, words), rib.lengthOf(walk.at), pathId);
        }
      }
    } while (walk.at < rib.end && performance.now() < until);
    const updates = [...announcements(lists, peer, agreement, mode, family)];
    const isLast = walk.at >= rib.end;
    if (isLast) updates.push(endOfRib(family));
    // Sets are kept with four-octet ASes, whatever the session has.
    if (updates.length > 0) collector.send(routeMonitoring(peer, flagsOf(mode), updates));
    return isLast;
  }

  *#told({
    monitored: { address },
    mode,
    family,
    at,
  }: Walk): Generator<{ set: AttributeSet; pathId: number }> {
    const speaker = this.#speaker!;
    if (mode === 'loc-rib') {
      const set = speaker.ribs[family.index].bestSet(at);
      if (set && speaker.ribs[family.index].lengthOf(at) >= 0) yield { set, pathId: 0 };
      return;
    }
    if (mode === 'adj-out') return yield* speaker.adjOutAt(address, family, at);
    const source = speaker.source(address);
    for (const path of speaker.ribs[family.index].pathsAt(at)) {
      // What the peer has not told anew in this session goes without a message of its.
      if (path.source === source && !path.stale) yield path;
    }
  }

  /** Section 4.8. */
  #report(collector: Collector): void {
    for (const { address, counters, families } of this.#speaker?.peers() ?? []) {
      const monitored = this.#monitored.get(address);
      if (!monitored) continue;
      const gauges = families.map(({ family, received, filtered, sent }) => ({
        family: familyNamed(family),
        received: received + filtered,
        sent,
      }));
      const sum = (key: 'received' | 'sent') => gauges.reduce((all, gauge) => all + gauge[key], 0);
      const statistics: Statistic[] = [
        { type: REJECTED_BY_POLICY, value: counters.routesFiltered },
        { type: UPDATES_TREATED_AS_WITHDRAW, value: counters.updatesMalformed },
        { type: ADJ_IN_ROUTES, value: sum('received') },
        { type: ADJ_OUT_ROUTES, value: sum('sent') },
        ...gauges.map(({ family, received }) => ({ type: ADJ_IN_ROUTES_OF_FAMILY, value: received, family })),
        ...gauges.map(({ family, sent }) => ({ type: ADJ_OUT_ROUTES_OF_FAMILY, value: sent, family })),
      ];
      collector.send(statisticsReport(monitored.peer, statistics));
    }
  }
}

const flagsOf = (mode: BmpMode): number => (mode === 'adj-out' ? ADJ_OUT | POST_POLICY : 0);

const OWN_FORM: Form = {
  as4: true,
  families: [true, true],
  addPathReceive: [false, false],
  addPathSend: [false, false],
  maxMessage: MAX_MESSAGE,
};

/** What it takes to read the routes (RFC 9069 section 5.2). */
const NEEDED = [CAP_MULTIPROTOCOL, CAP_NEXT_HOP, CAP_AS4];
const OWN_OFFERING = {
  families: FAMILIES,
  restartTime: 0,
  restarting: false,
  longLivedTime: 0,
  addPathReceive: false,
  addPathSend: false,
  role: null,
};

function* announcements(
  lists: ReadonlyMap<AttributeSet, PrefixList>,
  { id }: BmpPeer,
  { addPathReceive, addPathSend, maxMessage }: Form,
  mode: BmpMode,
  family: Family,
): Generator<Uint8Array> {
  const addPath = (mode === 'adj-in' ? addPathReceive : addPathSend)[family.index];
  for (const [set, list] of lists) {
    yield* encodeAnnouncements(encodedOf(set, family, id), list, { family, addPath, maxMessage });
  }
}

const TRANSITIVE = 0x40;

/** As an UPDATE takes it. Routes of our own, for which each session puts its next hop, have our BGP identifier `id`. */
function encodedOf({ bytes, nextHop }: AttributeSet, family: Family, id: number) {
  const hop = nextHop ?? new NextHops().at(family, family === IPV4 ? [id] : [0, 0, 0xffff, id]);
  if (family !== IPV4 || hop.family !== IPV4) return { bytes, nextHop: hop };
  const value = nextHopBytes(hop);
  return { bytes: withAttribute(bytes, [TRANSITIVE, T.NEXT_HOP, value.length, ...value]), nextHop: null };
}
