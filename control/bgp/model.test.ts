/**
 * Peers that come, announce, withdraw, ask again, read slowly and go, in any order: what the RIB holds and what each of
 * them was told in the end is what a model says that is too simple to be wrong.
 */
import type { Socket } from 'node:net';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseAddress4 } from '../address.ts';
import { AttributeTable } from './attribute-table.ts';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { openOf } from './fake-peer.ts';
import { FAMILIES, type Family, formatPrefix, IPV4, IPV6 } from './family.ts';
import { Framer } from './framing.ts';
import { MemorySocket } from './memory-socket.ts';
import {
  decodeRouteRefresh,
  encodeRouteRefresh,
  keepalive,
  MAX_EXTENDED_MESSAGE,
  NOTIFICATION,
  REFRESH_BEGIN,
  REFRESH_END,
  REFRESH_REQUEST,
  ROUTE_REFRESH,
  UPDATE,
} from './message.ts';
import { ACCEPT_ALL } from './policy.ts';
import { Speaker } from './speaker.ts';
import { announcing, attributesOf, IBGP, listOf, textsOf, withdrawing } from './test-routes.ts';
import { endOfRib, UpdateDecoder } from './update.ts';

const ASN = 64512;
const NO_EXPORT = 0xffffff01;
const NO_ADVERTISE = 0xffffff02;
const GRACEFUL_SHUTDOWN = 0xffff0000;

interface Kind {
  readonly address: string;
  readonly asn: number;
  readonly client: boolean;
  /** Several paths come from it; so many are sent to it, 0: the best, without identifiers. */
  readonly receive: boolean;
  readonly send: number;
}

/** Two and two share a group; the others have one of their own. */
const KINDS: readonly Kind[] = [
  { address: '10.0.0.2', asn: ASN, client: true, receive: true, send: 2 },
  { address: '10.0.0.3', asn: ASN, client: true, receive: false, send: 2 },
  { address: '10.0.0.4', asn: ASN, client: false, receive: false, send: 0 },
  { address: '10.0.0.5', asn: 65001, client: false, receive: false, send: 0 },
  { address: '10.0.0.6', asn: 65002, client: false, receive: false, send: 0 },
  { address: '10.0.0.7', asn: 65003, client: false, receive: true, send: 3 },
];
const PREFIXES = ['10.0.0.0/8', '10.1.0.0/16', '10.1.1.0/24', '2001:db8::/32', '2001:db8:1::/48'];
const HOPS = [1, 2, 3] as const;
/** That of IPv4 is the address of a peer. */
const PEER_HOP = 3;
/** So many routes with attributes of their own are more than a peer that does not read has room for. */
const CROWD = Array.from({ length: 1200 }, (_, i) => `11.${i >> 8}.${i & 255}.0/24`);
const CROWD_PATH = Array.from({ length: 50 }, (_, i) => 100_000 + i);

/** A path as its peer tells it. */
interface Path {
  readonly hop: number;
  readonly localPref: number;
  readonly asns: readonly number[];
  readonly origin: number;
  readonly med: number | null;
  readonly communities: readonly number[];
}

// ---- The model: what is known, and what follows -------------------------------------------------------

interface ModelPeer {
  readonly kind: Kind;
  isUp: boolean;
  /** Its routes outlive the session. */
  isGraceful: boolean;
  isLeaving: boolean;
  /** "prefix#identifier" to its path, and those that it has not told again. */
  readonly paths: Map<string, Path>;
  readonly stale: Set<string>;
}

interface Ranked extends Path {
  readonly from: Kind;
  readonly pathId: number;
}

const isInternal = ({ asn }: Kind) => asn === ASN;
const nextHopOf = (prefix: string, hop: number) =>
  prefix.includes(':') ? `fd00::9${hop}` : hop === PEER_HOP ? KINDS[1]!.address : `10.0.9.${hop}`;
const neighbour = ({ asns }: Path) => asns[0] ?? 0;
const preference = ({ from, localPref }: Ranked) => (isInternal(from) ? localPref : 100);

/** Of two paths the better one, by the first step in which they differ. */
function better(a: Ranked, b: Ranked): Ranked {
  const steps: [number, number][] = [
    [-preference(a), -preference(b)],
    [a.asns.length, b.asns.length],
    [a.origin, b.origin],
    neighbour(a) === neighbour(b) ? [a.med ?? 0, b.med ?? 0] : [0, 0],
    [Number(isInternal(a.from)), Number(isInternal(b.from))],
    [parseAddress4(a.from.address), parseAddress4(b.from.address)],
    [a.pathId, b.pathId],
  ];
  const [left, right] = steps.find(([x, y]) => x !== y) ?? [0, 0];
  return left <= right ? a : b;
}

/** Among those of each neighbour first, since MED counts only there; then among the winners. */
function bestOf(paths: readonly Ranked[]): Ranked {
  const neighbours = [...new Set(paths.map(neighbour))];
  const winners = neighbours.map((asn) => paths.filter((path) => neighbour(path) === asn).reduce(better));
  return winners.reduce(better);
}

class Model {
  readonly peers: ModelPeer[] = KINDS.map((kind) => ({
    kind,
    isUp: false,
    isGraceful: false,
    isLeaving: false,
    paths: new Map(),
    stale: new Set(),
  }));
  unreachable = new Set<number>();

  /** By prefix the paths to it, the best first. */
  ranked(): Map<string, Ranked[]> {
    const byPrefix = new Map<string, Ranked[]>();
    for (const { kind, paths } of this.peers) {
      for (const [key, path] of paths) {
        if (this.unreachable.has(path.hop)) continue;
        const [prefix, pathId] = key.split('#') as [string, string];
        const ranked = byPrefix.get(prefix) ?? [];
        byPrefix.set(prefix, [...ranked, { ...path, from: kind, pathId: Number(pathId) }]);
      }
    }
    for (const [prefix, paths] of byPrefix) {
      const order: Ranked[] = [];
      for (let left = paths; left.length > 0; left = left.filter((path) => !order.includes(path))) {
        order.push(bestOf(left));
      }
      byPrefix.set(prefix, order);
    }
    return byPrefix;
  }

  /** "prefix: what is told of it" of all that a peer is told, in order. */
  toldTo({ kind, isLeaving }: ModelPeer, all: Map<string, Ranked[]>): string[] {
    const lines: string[] = [];
    for (const [prefix, ranked] of all) {
      const candidates = kind.send === 0 ? ranked.slice(0, 1) : ranked;
      const told = candidates.filter((path) => mayTell(path, kind)).slice(0, Math.max(1, kind.send));
      for (const path of told) {
        // To an external peer, we are the next hop.
        const leadsThere = isInternal(kind) && nextHopOf(prefix, path.hop) === kind.address;
        if (path.from !== kind && !leadsThere) {
          lines.push(`${prefix}: ${tell(prefix, path, kind, isLeaving)}`);
        }
      }
    }
    return lines.sort();
  }

  best(): string[] {
    const best = [...this.ranked()].map(
      ([prefix, [path]]) => `${prefix} from ${path!.from.address}#${path!.pathId}`,
    );
    return best.sort();
  }
}

function mayTell({ from, communities }: Ranked, to: Kind): boolean {
  if (communities.includes(NO_ADVERTISE)) return false;
  if (communities.includes(NO_EXPORT) && !isInternal(to)) return false;
  return !isInternal(from) || !isInternal(to) || from.client || to.client;
}

interface Heard {
  nextHop: string;
  asns: readonly number[];
  origin: number;
  med: number | null;
  localPref: number | null;
  communities: readonly number[];
  originator: number | null;
  clusters: readonly number[];
}
const format = (heard: Heard) => JSON.stringify(heard);

/** A path as `to` hears it. */
function tell(prefix: string, path: Ranked, to: Kind, isLeaving: boolean): string {
  const { from, hop, asns, origin, med, communities } = path;
  const isReflected = isInternal(from) && isInternal(to);
  const ours = prefix.includes(':') ? 'fd00::1' : '10.0.0.1';
  return format({
    nextHop: isInternal(to) ? nextHopOf(prefix, hop) : ours,
    asns: isInternal(to) ? asns : [ASN, ...asns],
    origin,
    med: isInternal(to) ? med : null,
    localPref: isInternal(to) ? preference(path) : null,
    communities: isLeaving ? [...communities, GRACEFUL_SHUTDOWN] : communities,
    originator: isReflected ? parseAddress4(from.address) : null,
    clusters: isReflected ? [parseAddress4('10.0.0.1')] : [],
  });
}

// ---- The real one ------------------------------------------------------------------------------------

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A peer's side of a session: what it has heard. */
class Ear {
  readonly socket = new MemorySocket();
  readonly #kind: Kind;
  readonly #framer = new Framer();
  readonly #decoder: UpdateDecoder;
  /** "prefix#identifier" to what was told of it. */
  readonly #heard = new Map<string, string>();
  /** What has not been told again since the mark of a refresh, by family. */
  readonly #unsaid = new Map<string, Set<string>>();
  notified = false;

  constructor(kind: Kind) {
    this.#kind = kind;
    const table = new AttributeTable();
    const internal = isInternal(kind);
    const addPath = [kind.send > 0, kind.send > 0] as const;
    const context = {
      ...IBGP,
      ibgp: internal,
      firstAs: internal ? null : ASN,
      addPath,
      nextHops: table.nextHops,
    };
    this.#decoder = new UpdateDecoder(context, table);
    this.#framer.limit = MAX_EXTENDED_MESSAGE;
  }

  /** Read on; whether there was anything. */
  hears(): boolean {
    const isBusy = this.socket.written.length > 0;
    this.#read();
    return isBusy;
  }

  told(): string[] {
    return [...this.#heard].map(([key, text]) => `${key.split('#')[0]}: ${text}`).sort();
  }

  #read(): void {
    for (const chunk of this.socket.written.splice(0)) {
      this.#framer.push(chunk);
      for (let next = this.#framer.next(); next; next = this.#framer.next()) {
        const { type, bytes, offset, end } = next;
        if (type === NOTIFICATION) this.notified = true;
        else if (type === UPDATE) this.#update(bytes, offset, end);
        else if (type === ROUTE_REFRESH) this.#refresh(bytes, offset, end);
      }
    }
  }

  #update(bytes: Uint8Array, offset: number, end: number): void {
    const { withdrawn, announced, fault, discarded } = this.#decoder.decode(bytes, offset, end);
    if (fault || discarded.length > 0)
      throw new Error(`${this.#kind.address} was told ${fault} ${discarded}`);
    for (const key of withdrawn.flatMap(textsOf)) this.#heard.delete(key);
    for (const { set, prefixes } of announced) {
      const a = set.attributes;
      const text = format({
        nextHop: a.nextHop!.text,
        asns: a.asPath.flatMap(({ asns }) => asns),
        origin: a.origin,
        med: a.med,
        localPref: a.localPref,
        communities: a.communities,
        originator: a.originatorId,
        clusters: a.clusterList,
      });
      for (const key of textsOf(prefixes)) {
        this.#heard.set(key, text);
        for (const unsaid of this.#unsaid.values()) unsaid.delete(key);
      }
    }
  }

  #refresh(bytes: Uint8Array, offset: number, end: number): void {
    const { afi, subtype } = decodeRouteRefresh(bytes, offset, end);
    const family = afi === IPV6.afi ? IPV6 : IPV4;
    const isOf = (key: string) => key.includes(':') === (family === IPV6);
    if (subtype === REFRESH_BEGIN)
      this.#unsaid.set(family.name, new Set([...this.#heard.keys()].filter(isOf)));
    if (subtype !== REFRESH_END) return;
    for (const key of this.#unsaid.get(family.name) ?? []) this.#heard.delete(key);
    this.#unsaid.delete(family.name);
  }
}

const peerConfig = (
  { address, asn, client, receive, send }: Kind,
  gracefulShutdown: boolean,
): PeerConfig => ({
  address,
  asn,
  passive: true,
  label: 'global',
  families: ['ipv4', 'ipv6'],
  nextHop6: 'fd00::1',
  importPolicy: ACCEPT_ALL,
  exportPolicy: ACCEPT_ALL,
  gracefulShutdown,
  ...(client ? { reflectorClient: true } : {}),
  ...(receive || send > 0 ? { addPath: { receive, send } } : {}),
});

class World {
  readonly model = new Model();
  readonly ears: (Ear | null)[] = KINDS.map(() => null);
  readonly errors: string[] = [];
  readonly speaker: Speaker;

  constructor() {
    this.speaker = new Speaker({
      ...this.config,
      log: (level, message, fields) => {
        if (level === 'error') this.errors.push(`${message} ${JSON.stringify(fields)}`);
      },
    });
  }

  get config(): SpeakerConfig {
    const peers = this.model.peers.map(({ kind, isLeaving }) => peerConfig(kind, isLeaving));
    return { asn: ASN, routerId: '10.0.0.1', peers, originate: [] };
  }

  /** Whatever is on its way arrives; then all are told what the model says, and no more comes. */
  async check(): Promise<void> {
    for (const ear of this.ears) if (ear) ear.socket.takes = true;
    for (let calm = 0; calm < 10; calm++) {
      await turn();
      const isBusy = this.ears.some((ear) => ear?.hears()) || this.speaker.ribs.some((rib) => !rib.isSettled);
      if (isBusy) calm = 0;
    }
    expect(this.told()).toEqual(this.expected());
    expect(this.errors).toEqual([]);
    expect(this.best()).toEqual(this.model.best());
    for (const [i, ear] of this.ears.entries()) {
      if (!ear) continue;
      expect(ear.notified).toBe(false);
      const { address } = KINDS[i]!;
      const count = FAMILIES.reduce(
        (sum, family) => sum + [...this.speaker.adjOut(address, family)].length,
        0,
      );
      expect(count, `what ${address} is said to have`).toBe(ear.told().length);
    }
  }

  told(): (string[] | null)[] {
    return this.ears.map((ear) => ear?.told() ?? null);
  }

  expected(): (string[] | null)[] {
    const all = this.model.ranked();
    return this.model.peers.map((peer) => (peer.isUp ? this.model.toldTo(peer, all) : null));
  }

  best(): string[] {
    const lines = this.speaker.ribs.flatMap((rib) =>
      [...rib.best()].map(
        ({ prefix, path }) => `${formatPrefix(prefix)} from ${path.source.name}#${path.pathId >>> 0}`,
      ),
    );
    return lines.sort();
  }
}

type Run = (world: World) => Promise<void> | void;

/** Something that happens, with words for it where a run fails. */
class Step {
  readonly run: Run;
  readonly #what: string;

  constructor(what: string, run: Run) {
    this.#what = what;
    this.run = run;
  }

  [fc.toStringMethod](): string {
    return this.#what;
  }
}

/** The peer's number in `at`, whatever `at` is. */
const peerAt = ({ model, ears }: World, at: number) => {
  const index = at % KINDS.length;
  return { index, peer: model.peers[index]!, kind: KINDS[index]!, ear: ears[index] ?? null };
};

const anyPath: fc.Arbitrary<Path> = fc.record({
  hop: fc.constantFrom(...HOPS),
  localPref: fc.constantFrom(50, 100, 100, 200),
  asns: fc.array(fc.constantFrom(65001, 65002, 7, 8), { maxLength: 2 }),
  origin: fc.constantFrom(0, 0, 2),
  med: fc.constantFrom(null, 0, 5, 9),
  communities: fc.constantFrom([], [], [1], [NO_EXPORT], [NO_ADVERTISE]),
});
const anyKeys = fc.uniqueArray(fc.tuple(fc.constantFrom(...PREFIXES), fc.constantFrom(0, 1, 2)), {
  minLength: 1,
  maxLength: 4,
  selector: String,
});
const anyPeer = fc.nat(KINDS.length - 1);
const keyOf = ({ receive }: Kind, [prefix, pathId]: [string, number]) => `${prefix}#${receive ? pathId : 0}`;
/** Of each family those keys that there are. */
const byFamily = (keys: readonly string[]) =>
  [false, true]
    .map((six) => keys.filter((key) => key.includes(':') === six))
    .filter(({ length }) => length > 0);

function announce(world: World, at: number, keys: readonly string[], path: Path): void {
  const { peer, kind, ear } = peerAt(world, at);
  if (!ear) return;
  // An external peer's path begins with its AS.
  const asns = isInternal(kind) ? path.asns : [kind.asn, ...path.asns];
  for (const some of byFamily([...new Set(keys)])) {
    const attributes = attributesOf(nextHopOf(some[0]!, path.hop), {
      asPath: asns.length > 0 ? [{ set: false, asns }] : [],
      origin: path.origin,
      med: path.med,
      localPref: path.localPref,
      communities: path.communities,
    });
    for (const message of announcing(attributes, listOf(...some), { addPath: kind.receive }))
      ear.socket.push(message);
    for (const key of some) {
      peer.paths.set(key, { ...path, asns });
      peer.stale.delete(key);
    }
  }
}

function withdraw(world: World, at: number, keys: readonly string[]): void {
  const { peer, kind, ear } = peerAt(world, at);
  if (!ear) return;
  for (const some of byFamily([...new Set(keys)])) {
    for (const message of withdrawing(listOf(...some), { addPath: kind.receive })) ear.socket.push(message);
    for (const key of some) {
      peer.paths.delete(key);
      peer.stale.delete(key);
    }
  }
}

function sweep({ paths, stale }: ModelPeer): void {
  for (const key of stale) paths.delete(key);
  stale.clear();
}

async function connect(world: World, at: number, isGraceful: boolean, isBack: boolean): Promise<void> {
  const { index, peer, kind, ear } = peerAt(world, at);
  if (ear) return;
  const made = new Ear(kind);
  world.speaker.session(kind.address)!.accept(made.socket as unknown as Socket);
  const offering = { restartTime: isGraceful ? 120 : 0, restarting: isBack };
  const addPath = { addPathSend: kind.receive, addPathReceive: kind.send > 0 };
  made.socket.push(openOf(kind.asn, kind.address, 90, { ...offering, ...addPath }));
  made.socket.push(keepalive);
  await turn();
  expect(world.speaker.session(kind.address)!.status.state).toBe('Established');
  world.ears[index] = made;
  peer.isUp = true;
  peer.isGraceful = isGraceful;
  if (!isGraceful || !isBack) sweep(peer);
}

async function lose(world: World, at: number): Promise<void> {
  const { index, peer, kind, ear } = peerAt(world, at);
  if (!ear) return;
  ear.socket.destroy();
  while (world.speaker.session(kind.address)!.status.state === 'Established') await turn();
  world.ears[index] = null;
  peer.isUp = false;
  for (const key of peer.paths.keys()) peer.stale.add(key);
  if (!peer.isGraceful) sweep(peer);
}

/** All again between the marks of RFC 7313: what is not among it is gone. */
function tellAgain(world: World, at: number, keep: number): void {
  const { peer, ear } = peerAt(world, at);
  if (!ear) return;
  const mark = (subtype: number) => {
    for (const { afi, safi } of FAMILIES) ear.socket.push(encodeRouteRefresh({ afi, safi, subtype }));
  };
  // Not ahead of End-of-RIB (RFC 7313 section 4).
  for (const family of FAMILIES) ear.socket.push(endOfRib(family));
  sweep(peer);
  mark(REFRESH_BEGIN);
  for (const key of peer.paths.keys()) peer.stale.add(key);
  const kept = [...peer.paths].filter((_, i) => i % keep !== 0);
  for (const [key, path] of kept) {
    const asns = isInternal(KINDS[at]!) ? path.asns : path.asns.slice(1);
    announce(world, at, [key], { ...path, asns });
  }
  mark(REFRESH_END);
  sweep(peer);
}

const step = <T>(
  weight: number,
  arbitrary: fc.Arbitrary<T>,
  what: (value: T) => string,
  run: (value: T) => Run,
) => ({
  weight,
  arbitrary: arbitrary.map((value) => new Step(what(value), run(value))),
});
const nameOf = (at: number) => KINDS[at]!.address;
const told = (at: number, keys: [string, number][]) => keys.map((key) => keyOf(KINDS[at]!, key));
const everyFamily = (world: World, at: number, message: (family: Family) => Uint8Array) => {
  for (const family of FAMILIES) peerAt(world, at).ear?.socket.push(message(family));
};

const steps: fc.Arbitrary<Step> = fc.oneof(
  step(
    8,
    fc.tuple(anyPeer, anyKeys, anyPath),
    ([at, keys, path]) => `${nameOf(at)} announces ${told(at, keys)}: ${JSON.stringify(path)}`,
    ([at, keys, path]) =>
      (world) =>
        announce(world, at, told(at, keys), path),
  ),
  step(
    4,
    fc.tuple(anyPeer, anyKeys),
    ([at, keys]) => `${nameOf(at)} withdraws ${told(at, keys)}`,
    ([at, keys]) =>
      (world) =>
        withdraw(world, at, told(at, keys)),
  ),
  step(
    2,
    anyPeer,
    (at) => `${nameOf(at)} gives its paths other identifiers`,
    (at) => (world) => {
      if (!KINDS[at]!.receive) return;
      for (const [key, { asns, ...path }] of [...peerAt(world, at).peer.paths]) {
        const [prefix, pathId] = key.split('#') as [string, string];
        const own = isInternal(KINDS[at]!) ? asns : asns.slice(1);
        announce(world, at, [`${prefix}#${(Number(pathId) + 1) % 3}`], { ...path, asns: own });
        withdraw(world, at, [key]);
      }
    },
  ),
  step(
    5,
    fc.tuple(anyPeer, fc.boolean(), fc.boolean()),
    ([at, graceful, back]) => `${nameOf(at)} connects, graceful ${graceful}, back ${back}`,
    ([at, graceful, back]) =>
      (world) =>
        connect(world, at, graceful, back),
  ),
  step(
    2,
    anyPeer,
    (at) => `${nameOf(at)} is lost`,
    (at) => (world) => lose(world, at),
  ),
  step(
    2,
    anyPeer,
    (at) => `${nameOf(at)} says End-of-RIB`,
    (at) => (world) => {
      const { peer, ear } = peerAt(world, at);
      everyFamily(world, at, endOfRib);
      if (ear) sweep(peer);
    },
  ),
  step(
    3,
    anyPeer,
    (at) => `${nameOf(at)} asks for all again`,
    (at) => (world) =>
      everyFamily(world, at, ({ afi, safi }) => encodeRouteRefresh({ afi, safi, subtype: REFRESH_REQUEST })),
  ),
  step(
    1,
    fc.tuple(anyPeer, fc.integer({ min: 1, max: 3 })),
    ([at, part]) => `${nameOf(at)} tells all again but 1 in ${part}`,
    ([at, part]) =>
      (world) =>
        tellAgain(world, at, part),
  ),
  step(
    4,
    fc.tuple(anyPeer, fc.boolean()),
    ([at, takes]) => `${nameOf(at)} reads: ${takes}`,
    ([at, takes]) =>
      (world) => {
        const { ear } = peerAt(world, at);
        if (ear) ear.socket.takes = takes;
      },
  ),
  step(
    2,
    fc.tuple(anyPeer, fc.nat(9)),
    ([at, med]) => `${nameOf(at)} announces a crowd from ${med}`,
    ([at, med]) =>
      (world) => {
        for (const [i, prefix] of CROWD.entries()) {
          const path = { hop: 1, localPref: 100, origin: 0, med: i + med, communities: [], asns: CROWD_PATH };
          announce(world, at, [`${prefix}#0`], path);
        }
      },
  ),
  step(
    1,
    anyPeer,
    (at) => `${nameOf(at)} withdraws the crowd`,
    (at) => (world) =>
      withdraw(
        world,
        at,
        CROWD.map((prefix) => `${prefix}#0`),
      ),
  ),
  step(
    1,
    anyPeer,
    (at) => `${nameOf(at)} is to move its traffic away, or no more`,
    (at) => async (world) => {
      const { peer } = peerAt(world, at);
      peer.isLeaving = !peer.isLeaving;
      await world.speaker.reconfigure(world.config);
    },
  ),
  step(
    1,
    fc.subarray([...HOPS]),
    (hops) => `next hops ${hops} cannot be reached`,
    (hops) => (world) => {
      const away = new Set(hops.flatMap((hop) => PREFIXES.map((prefix) => nextHopOf(prefix, hop))));
      world.model.unreachable = new Set(hops);
      world.speaker.resolver = ({ text }) => ({ reachable: !away.has(text), cost: 0 });
    },
  ),
  step(
    1,
    fc.constant(0),
    () => 'check',
    () => (world) => world.check(),
  ),
);

it('is what a naive model says, in the RIB and with every peer', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(steps, fc.nat(2)), { minLength: 5, maxLength: 60 }), async (list) => {
      const world = new World();
      await world.speaker.start();
      try {
        for (const at of KINDS.keys()) await connect(world, at, at % 2 === 0, false);
        for (const [{ run }, turns] of list) {
          await run(world);
          for (let i = 0; i < turns; i++) await turn();
        }
        await world.check();
        for (const at of KINDS.keys()) await lose(world, at);
        await world.speaker.reconfigure({ ...world.config, peers: [] });
        for (let i = 0; i < 500 && world.speaker.table.size > 0; i++) await turn();
        expect(world.speaker.table.size).toBe(0);
      } finally {
        await world.speaker.stop();
      }
    }),
    { numRuns: 20 },
  );
});
