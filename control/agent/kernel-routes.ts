/**
 * Learned routes into the kernel of the node's namespace, behind the tables of the workers: for what the host itself sends,
 * and for what leaves unencapsulated, which the host forwards.
 *
 * Level-triggered: a prefix that moved is only noted; a turn of the event loop takes some of them, looks what each should be
 * now, and tells the kernel in one burst of netlink. What the kernel has is remembered as a number for each prefix.
 */
import { getSystemErrorName } from 'node:util';
import { native as load } from '../../dataplane/native/index.ts';
import { isIp6 } from '../address.ts';
import { Bitmap } from '../bgp/bitmap.ts';
import {
  type Family,
  formatPrefix,
  formatWords,
  IPV4,
  IPV6,
  type Prefix,
  parsePrefix,
} from '../bgp/family.ts';
import type { Reach } from '../desired.ts';
import type { Failure, Link, Route } from '../kernel/iproute.ts';
import { readRoutes } from '../kernel/netlink.ts';
import { LEARNED_PROTOCOL, type Resolved } from '../kernel/plan.ts';
import { aimRoute, encodeRoute, type FormHop, type RouteAction } from '../kernel/rtnetlink.ts';
import type { Rib } from '../rib/rib.ts';
import { branchesOf, type Feeder, type Follower, type Way } from './feeder.ts';

/** Routes that the kernel is told in one turn: a millisecond. */
const BURST = 256;
/** While routes come in, the tables of the workers come first: so many in so long, which keeps up with 12,000 changes a second. */
const BUSY_BURST = 128;
const BUSY_MS = 10;
/** With more routes than this, what others change in the kernel is not looked for. */
const MAX_COMPARED = 20_000;
const EEXIST = 17;
const ESRCH = 3;

/** What the kernel is told of a route, shared by all that say the same. */
interface Form {
  readonly number: number;
  readonly hops: readonly Hop[];
  readonly source: string | null;
  uses: number;
  /** Requests that need but the prefix, by action and family. */
  readonly requests: Map<string, Uint8Array>;
}

interface Hop extends FormHop {
  readonly dev: string;
}

interface Change {
  readonly rib: Rib;
  readonly id: number;
  readonly form: Form | null;
}

/** How the kernel reaches next hops; those that it does not are left out. */
export interface Resolution {
  readonly resolved: ReadonlyMap<string, Resolved>;
  readonly failures: readonly Failure[];
}

export type HopResolver = (hops: readonly string[]) => Resolution;

export class KernelRoutes implements Follower {
  /** Next hops are reached otherwise than before. */
  onResolved: () => void = () => {};
  readonly #feeder: Feeder;
  readonly #resolve: HopResolver;
  #ribs: readonly Rib[] = [];
  /** Number of its form in the kernel, by family and number of the prefix. */
  readonly #inKernel: [Uint16Array, Uint16Array] = [new Uint16Array(BURST), new Uint16Array(BURST)];
  readonly #forms: (Form | undefined)[] = [undefined];
  readonly #free: number[] = [];
  readonly #known = new Map<string, Form>();
  /** Prefixes to look at, by family. */
  #queue: [Bitmap, Bitmap] = [new Bitmap(), new Bitmap()];
  /** Some were added since the last turn. */
  #isBusy = false;
  /** Routes of prefixes that the RIBs before had. */
  #orphans: { to: Prefix; form: Form }[] = [];
  #timer: NodeJS.Timeout | null = null;
  #held = false;
  #stopped = false;
  /** By next hop; null: it cannot be reached. */
  readonly #resolved = new Map<string, Resolved | null>();
  readonly #unasked = new Set<string>();
  /** The form of the last way that was asked for, and its reach then: routes often come in runs that travel alike. */
  #recent: { readonly way: Way; readonly reach: Reach; readonly form: Form | null } | null = null;
  #hostDevice = '';
  #indices = new Map<string, number>();
  /** Routes of the agent before, by destination, until it is known whether they are still wanted. */
  #leftover: Map<string, Route> | null = null;
  #sweeping = false;
  /** By destination, what could not be done. */
  readonly #failures = new Map<string, string>();

  constructor(feeder: Feeder, resolve: HopResolver) {
    this.#feeder = feeder;
    this.#resolve = resolve;
    feeder.follower = this;
  }

  // ---- What the feeder tells -------------------------------------------------------------------------

  follow(ribs: readonly Rib[]): void {
    for (const rib of this.#ribs) {
      const { index } = rib.family;
      for (let id = 0; id < Math.min(rib.end, this.#inKernel[index].length); id++) {
        const form = this.#forms[this.#inKernel[index][id]!];
        if (form) this.#orphans.push({ to: rib.prefixOf(id), form });
      }
      this.#inKernel[index].fill(0);
    }
    this.#queue = [new Bitmap(), new Bitmap()];
    this.#ribs = ribs;
    this.#schedule();
  }

  moved(rib: Rib, id: number): void {
    const queue = this.#queue[rib.family.index];
    const { size } = queue;
    queue.add(id);
    if (queue.size === size) return;
    rib.hold(id);
    this.#isBusy = true;
    if (!this.#timer) this.#schedule();
  }

  beforeDirect(rib: Rib, id: number, way: Way): void {
    const form = this.#formOf(way);
    if (form) this.#tell([{ rib, id, form }]);
  }

  // ---- What the agent tells --------------------------------------------------------------------------

  /** How the namespace is. Next hops are asked for again. */
  refresh(hostDevice: string, links: readonly Link[], compare: boolean): void {
    this.#recent = null;
    this.#hostDevice = hostDevice;
    const before = this.#indices;
    this.#indices = new Map(links.map(({ ifname, ifindex }) => [ifname, ifindex]));
    this.#leftover ??= new Map(readRoutes(null, LEARNED_PROTOCOL).map((route) => [route.dst, route]));
    // With a device go its routes.
    const isGone = ({ dev }: Hop) => before.get(dev) !== this.#indices.get(dev);
    for (const form of this.#forms) if (form?.hops.some(isGone)) this.#lost(form);
    for (const hop of this.#resolved.keys()) this.#unasked.add(hop);
    this.#ask();
    if (compare) this.#compare();
    this.#retry();
    this.#schedule();
  }

  /** Tell the kernel nothing until `release`: near routes are changing there, and take the place of learned ones or leave it to them. */
  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    this.#schedule();
  }

  /** Whether the kernel has a route of ours for a destination, as it writes it. */
  has(dst: string): boolean {
    const found = this.#find(prefixOf(dst));
    return found !== null && (this.#inKernel[found.rib.family.index][found.id] ?? 0) > 0;
  }

  /**
   * The kernel's near route for a destination is not wanted any more: whether BGP tells one that the kernel can have, and which
   * will take its place.
   */
  inherit(dst: string): boolean {
    const found = this.#leftover && this.#find(prefixOf(dst));
    if (!found || !this.#formOf(this.#feeder.settle(found.rib, found.id))) return false;
    this.#leftover!.set(dst, { dst, protocol: String(LEARNED_PROTOCOL) });
    this.moved(found.rib, found.id);
    return true;
  }

  #find(prefix: Prefix): { rib: Rib; id: number } | null {
    const rib = this.#ribs.find(({ family }) => family === prefix.family);
    const id = rib?.find(prefix) ?? -1;
    return rib && id >= 0 ? { rib, id } : null;
  }

  /** BGP has told all: what the agent before left and nobody wants goes, once the kernel has been told what is wanted. */
  sweep(): void {
    this.#sweeping = true;
    this.#schedule();
  }

  /** Whether a next hop is reached, as far as is known. */
  isReachable(hop: string): boolean {
    return this.#resolved.get(hop) !== null;
  }

  /** A next hop that somebody will ask about. */
  track(hop: string): void {
    if (this.#resolved.has(hop)) return;
    this.#unasked.add(hop);
    this.#schedule();
  }

  problems(): string[] {
    const [first] = this.#failures;
    if (!first) return [];
    const more = this.#failures.size > 1 ? `, and ${this.#failures.size - 1} more` : '';
    return [`the kernel does not take the route to ${first[0]}: ${first[1]}${more}`];
  }

  /** Nothing is left to be told. */
  get isSettled(): boolean {
    const isEmpty = ({ size }: Bitmap) => size === 0;
    return this.#queue.every(isEmpty) && this.#orphans.length === 0;
  }

  /** What the kernel did not take it may take now; what is no longer meant for it is no problem any more. */
  #retry(): void {
    if (this.#failures.size > MAX_COMPARED) return;
    for (const to of this.#failures.keys()) {
      const found = this.#find(prefixOf(to));
      if (found && (this.#isMeant(found.rib, found.id) || this.has(to))) this.moved(found.rib, found.id);
      else this.#failures.delete(to);
    }
  }

  #isMeant(rib: Rib, id: number): boolean {
    return this.#feeder.wayOf(rib, id)?.reach != null && !this.#feeder.isBehindNear(rib, id);
  }

  /** Leave the kernel's routes as they are. */
  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  // ---- Next hops -------------------------------------------------------------------------------------

  #ask(): void {
    if (this.#unasked.size === 0) return;
    const hops = [...this.#unasked];
    this.#unasked.clear();
    const { resolved } = this.#resolve(hops);
    const changed = new Set<string>();
    for (const hop of hops) {
      const before = this.#resolved.get(hop);
      const now = resolved.get(hop) ?? null;
      this.#resolved.set(hop, now);
      if (before !== undefined && textOf(before) !== textOf(now)) changed.add(hop);
      else if (before === undefined && now === null) changed.add(hop);
    }
    if (changed.size === 0) return;
    this.#recent = null;
    this.#requeue(changed);
    this.onResolved();
  }

  #requeue(hops: ReadonlySet<string>): void {
    for (const rib of this.#ribs) {
      for (let id = 0; id < rib.end; id++) {
        const way = this.#feeder.wayOf(rib, id);
        const isVia = ({ reach }: Way) => reach?.via != null && hops.has(reach.via);
        if (way && branchesOf(way).some(isVia)) this.moved(rib, id);
      }
    }
  }

  // ---- The kernel ------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#timer || this.#held || this.#stopped || this.#hostDevice === '') return;
    const hasWork = this.#queue.some(({ size }) => size > 0) || this.#orphans.length > 0 || this.#mustSweep;
    if (!hasWork && this.#unasked.size === 0) return;
    const isBusy = this.#isBusy;
    this.#isBusy = false;
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        if (this.#held) return;
        this.#ask();
        this.#turn(isBusy ? BUSY_BURST : BURST);
        this.#schedule();
      },
      isBusy ? BUSY_MS : 0,
    );
  }

  #turn(burst: number): void {
    const orphans = this.#orphans.splice(0, burst);
    if (orphans.length > 0) this.#forget(orphans);
    const changes: Change[] = [];
    for (const rib of this.#ribs) {
      const queue = this.#queue[rib.family.index];
      while (changes.length < burst && queue.size > 0) {
        const id = queue.take();
        const way = this.#feeder.isBehindNear(rib, id) ? null : this.#feeder.wayOf(rib, id);
        changes.push({ rib, id, form: this.#formOf(way) });
      }
    }
    this.#tell(changes);
    for (const { rib, id } of changes) rib.unhold(id);
    if (this.#mustSweep) this.#sweepSome();
  }

  /** While routes wait to be told, those of the agent before may be theirs. */
  get #mustSweep(): boolean {
    return this.#sweeping && this.isSettled && (this.#leftover?.size ?? 0) > 0;
  }

  /** At once, so that no route that is wanted anew meets one that is about to go. */
  #sweepSome(): void {
    const some: string[] = [];
    for (const dst of this.#leftover!.keys()) if (some.push(dst) === BURST) break;
    for (const dst of some) this.#leftover!.delete(dst);
    send(some.map(prefixOf).map((to) => [removalOf(to.family), to]));
  }

  /** What the kernel should have for a way; null: nothing. */
  #formOf(way: Way | null): Form | null {
    if (!way?.reach) return null;
    const { reach } = way;
    if (this.#recent?.way === way && this.#recent.reach === reach) return this.#recent.form;
    const form = this.#newFormOf(way);
    // A group's members may be reached otherwise without its being seen here.
    this.#recent = way.group ? null : { way, reach, form };
    return form;
  }

  #newFormOf(way: Way): Form | null {
    const all = branchesOf(way).flatMap(({ reach }) => reach ?? []);
    // The kernel takes no device among several next hops of IPv6: then all goes to us, who have the others, too.
    const tunnelled = way.family === IPV6 ? all.filter(({ via }) => via === null) : [];
    const reaches = tunnelled.length > 0 ? tunnelled : all;
    for (const { via } of reaches) if (via !== null && !this.#resolved.has(via)) this.#unasked.add(via);
    this.#ask();
    /** By neighbour and device: all that go into tunnels are one to the kernel. */
    const hops = new Map<string, Hop>();
    for (const { via } of reaches) {
      const hop = via === null ? { gateway: null, dev: this.#hostDevice } : this.#resolved.get(via);
      const index = hop ? this.#indices.get(hop.dev) : undefined;
      if (!hop || index === undefined) continue;
      const key = `${hop.gateway} ${index}`;
      hops.set(key, { ...hop, index, weight: 1 + (hops.get(key)?.weight ?? 0) });
    }
    const source = reaches.find((reach) => reach.source !== null)?.source ?? null;
    return hops.size === 0 ? null : this.#form([...hops.values()], source);
  }

  #form(hops: readonly Hop[], source: string | null): Form | null {
    const key = identityOf(hops, source);
    const known = this.#known.get(key);
    if (known) return known;
    const number = this.#free.pop() ?? this.#forms.length;
    if (number > 0xffff) return null;
    const form: Form = { number, hops, source, uses: 0, requests: new Map() };
    this.#forms[number] = form;
    this.#known.set(key, form);
    return form;
  }

  #leave(form: Form): void {
    if (--form.uses > 0) return;
    if (this.#recent?.form === form) this.#recent = null;
    this.#forms[form.number] = undefined;
    this.#known.delete(identityOf(form.hops, form.source));
    this.#free.push(form.number);
  }

  #tell(changes: readonly Change[]): void {
    const due = changes.filter(
      ({ rib, id, form }) => (this.#inKernel[rib.family.index][id] ?? 0) !== (form?.number ?? 0),
    );
    if (due.length === 0) return;
    const requests = due.map(({ rib, id, form }): [Uint8Array, Prefix] => {
      const to = rib.prefixOf(id);
      const now = this.#forms[this.#inKernel[rib.family.index][id] ?? 0];
      const isOurs = now !== undefined || this.#takeLeftover(to);
      const action = form ? (isOurs ? 'replace' : 'add') : 'del';
      return [requestOf(form ?? now!, action, rib.family), to];
    });
    const errors = send(requests);
    for (const [i, { rib, id, form }] of due.entries()) {
      const error = errors[i]!;
      const isDone = error === 0 || (!form && error === ESRCH);
      if (isDone) this.#note(rib, id, form);
      if (isDone && this.#failures.size === 0) continue;
      const to = formatPrefix(rib.prefixOf(id));
      if (isDone) this.#failures.delete(to);
      else
        this.#failures.set(to, error === EEXIST ? 'it has one of another owner' : getSystemErrorName(-error));
    }
  }

  /** The kernel has this of a prefix now. Its number is held as long as there is something. */
  #note(rib: Rib, id: number, form: Form | null): void {
    const { index } = rib.family;
    if (id >= this.#inKernel[index].length) {
      const grown = new Uint16Array(Math.max(id + 1, 2 * this.#inKernel[index].length));
      grown.set(this.#inKernel[index]);
      this.#inKernel[index] = grown;
    }
    const before = this.#forms[this.#inKernel[index][id]!];
    this.#inKernel[index][id] = form?.number ?? 0;
    if (form) form.uses++;
    if (form && !before) rib.hold(id);
    if (before) this.#leave(before);
    if (before && !form) rib.unhold(id);
  }

  #takeLeftover(to: Prefix): boolean {
    if (!this.#leftover || this.#leftover.size === 0) return false;
    return this.#leftover.delete(destinationOf(to));
  }

  #forget(orphans: readonly { to: Prefix; form: Form }[]): void {
    send(orphans.map(({ to, form }) => [requestOf(form, 'del', to.family), to]));
    for (const { form } of orphans) this.#leave(form);
  }

  /** The kernel has lost all routes of a form; where there were several next hops, it may have kept the others. */
  #lost(form: Form): void {
    for (const rib of this.#ribs) {
      const numbers = this.#inKernel[rib.family.index];
      for (let id = 0; id < numbers.length; id++) {
        if (numbers[id] !== form.number) continue;
        this.moved(rib, id);
        this.#note(rib, id, null);
        if (form.hops.length < 2) continue;
        const dst = destinationOf(rib.prefixOf(id));
        this.#leftover?.set(dst, { dst, protocol: String(LEARNED_PROTOCOL) });
      }
    }
  }

  /** Look for what others have changed. */
  #compare(): void {
    if (!this.isSettled || this.#leftover === null || this.#feeder.size > MAX_COMPARED) return;
    const present = new Map(readRoutes(null, LEARNED_PROTOCOL).map((route) => [route.dst, route]));
    for (const rib of this.#ribs) {
      const numbers = this.#inKernel[rib.family.index];
      for (let id = 0; id < rib.end; id++) {
        const form = this.#forms[numbers[id] ?? 0];
        if (!form) {
          // What the kernel would not take is tried again.
          if (this.#isMeant(rib, id)) this.moved(rib, id);
          continue;
        }
        const to = destinationOf(rib.prefixOf(id));
        const route = present.get(to);
        present.delete(to);
        if (route && isOf(route, form)) continue;
        this.moved(rib, id);
        this.#note(rib, id, null);
        if (route) this.#leftover.set(route.dst, route);
      }
    }
    // Of nobody's: of the agent before, or made by hand with our number. These go once BGP has told all.
    for (const route of present.values()) this.#leftover.set(route.dst, route);
  }
}

function requestOf(form: Form, action: RouteAction, family: Family): Uint8Array {
  const key = `${action} ${family.index}`;
  let request = form.requests.get(key);
  if (!request) {
    request = encodeRoute(action, family, form, LEARNED_PROTOCOL);
    form.requests.set(key, request);
  }
  return request;
}

/** Removes a route of ours by its prefix, whatever else it says: several next hops are not named. */
function removalOf(family: Family): Uint8Array {
  const unnamed = { gateway: null, index: 0, weight: 1 };
  return encodeRoute('del', family, { hops: [unnamed, unnamed], source: null }, LEARNED_PROTOCOL);
}

/** Tell the kernel; errno of each, or 0. */
function send(requests: readonly (readonly [Uint8Array, Prefix])[]): Int32Array {
  const all = new Uint8Array(requests.reduce((sum, [{ length }]) => sum + length, 0));
  const view = new DataView(all.buffer);
  let at = 0;
  for (const [request, to] of requests) {
    all.set(request, at);
    aimRoute(view, at, to);
    at += request.length;
  }
  const errors = new Int32Array(requests.length);
  load().netlinkChange('', all, errors);
  return errors;
}

const textOf = (hop: Resolved | null): string => (hop ? `${hop.gateway} ${hop.dev}` : '');

/** In any order: the kernel keeps IPv6 ones in its own. */
const formKey = (hops: readonly Pick<Hop, 'gateway' | 'dev' | 'weight'>[], source: string | null): string =>
  `${hops
    .map(({ gateway, dev, weight }) => `${gateway} ${dev} ${hops.length > 1 ? weight : ''}`)
    .sort()
    .join()} ${source}`;

/** A device that was made anew has another index. */
const identityOf = (hops: readonly Hop[], source: string | null): string =>
  `${hops.map(({ index }) => index).join()} ${formKey(hops, source)}`;

function isOf({ gateway, dev, prefsrc, nexthops }: Route, form: Form): boolean {
  const hops = (nexthops ?? [{ gateway, dev, weight: 1 }]).map((hop) => ({
    gateway: hop.gateway ?? null,
    dev: hop.dev ?? '',
    weight: hop.weight,
  }));
  return formKey(hops, prefsrc ?? null) === formKey(form.hops, form.source);
}

/** As the kernel's routes are named: a host's without its length. */
const destinationOf = ({ family, words, length }: Prefix): string =>
  length === family.bits ? formatWords(family, words) : formatPrefix({ family, words, length });

function prefixOf(dst: string): Prefix {
  const { bits } = isIp6(dst) ? IPV6 : IPV4;
  return parsePrefix(dst.includes('/') ? dst : `${dst}/${bits}`);
}
