/**
 * Learned routes into the kernel of the node's namespace, behind the tables of the workers: for what the host itself sends,
 * and for what leaves unencapsulated, which the host forwards.
 *
 * Level-triggered: a prefix that moved is only noted; a turn of the event loop takes some of them, looks what each should be
 * now, and tells the kernel in one burst of netlink. What the kernel has is remembered as a number for each prefix.
 */
import { getSystemErrorName } from 'node:util';
import { native as load } from '../../dataplane/native/index.ts';
import { formatPrefix, formatWords, type Prefix } from '../bgp/family.ts';
import { type Failure, ipApply, type Link, type Route } from '../kernel/iproute.ts';
import { readRoutes } from '../kernel/netlink.ts';
import { deleteRoute, LEARNED_PROTOCOL, type Resolved } from '../kernel/plan.ts';
import { encodeRoute } from '../kernel/rtnetlink.ts';
import type { Rib } from '../rib/rib.ts';
import type { Feeder, Follower, Way } from './feeder.ts';

/** Routes that the kernel is told in one turn: two milliseconds. */
const BURST = 256;
/** With more routes than this, what others change in the kernel is not looked for. */
const MAX_COMPARED = 20_000;
const EEXIST = 17;
const ESRCH = 3;

/** What the kernel is told of a route, shared by all that say the same. */
interface Form {
  readonly number: number;
  readonly gateway: string | null;
  readonly dev: string;
  readonly index: number;
  readonly source: string | null;
  uses: number;
}

/** How the kernel reaches next hops; those that it does not are left out. */
export type HopResolver = (
  hops: readonly string[],
) => Promise<{ resolved: ReadonlyMap<string, Resolved>; failures: readonly Failure[] }>;

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
  /** Prefixes to look at, each once. */
  #queue: { rib: Rib; id: number }[] = [];
  #at = 0;
  readonly #queued: [Set<number>, Set<number>] = [new Set(), new Set()];
  /** Routes of prefixes that the RIBs before had. */
  #orphans: { to: Prefix; form: Form }[] = [];
  #scheduled = false;
  /** By next hop; null: it cannot be reached. */
  readonly #resolved = new Map<string, Resolved | null>();
  readonly #unasked = new Set<string>();
  #asking = false;
  #hostDevice = '';
  #indices = new Map<string, number>();
  /** Routes of the agent before, by destination, until it is known whether they are still wanted. */
  #leftover: Map<string, Route> | null = null;
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
      this.#queued[index].clear();
    }
    this.#queue = [];
    this.#at = 0;
    this.#ribs = ribs;
    this.#schedule();
  }

  moved(rib: Rib, id: number): void {
    const queued = this.#queued[rib.family.index];
    if (queued.has(id)) return;
    queued.add(id);
    rib.hold(id);
    this.#queue.push({ rib, id });
    this.#schedule();
  }

  beforeDirect(rib: Rib, id: number, way: Way): void {
    const form = this.#formOf(way);
    if (form) this.#tell([{ rib, id, form }]);
  }

  // ---- What the agent tells --------------------------------------------------------------------------

  /** How the namespace is. Next hops are asked for again. */
  async refresh(hostDevice: string, links: readonly Link[], compare: boolean): Promise<void> {
    this.#hostDevice = hostDevice;
    const before = this.#indices;
    this.#indices = new Map(links.map(({ ifname, ifindex }) => [ifname, ifindex]));
    this.#leftover ??= new Map(readRoutes(LEARNED_PROTOCOL).map((route) => [route.dst, route]));
    // With a device go its routes.
    for (const form of this.#forms) {
      if (form && before.get(form.dev) !== this.#indices.get(form.dev)) this.#lost(form);
    }
    for (const hop of this.#resolved.keys()) this.#unasked.add(hop);
    await this.#ask();
    if (compare) this.#compare();
    this.#schedule();
  }

  /** What the agent before left and nobody wants goes. */
  async sweep(): Promise<void> {
    const routes = [...(this.#leftover?.values() ?? [])];
    this.#leftover?.clear();
    await ipApply(null, routes.map(deleteRoute));
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
    return this.#at === this.#queue.length && this.#orphans.length === 0;
  }

  // ---- Next hops -------------------------------------------------------------------------------------

  async #ask(): Promise<void> {
    if (this.#asking || this.#unasked.size === 0) return;
    this.#asking = true;
    const hops = [...this.#unasked];
    this.#unasked.clear();
    try {
      const { resolved } = await this.#resolve(hops);
      const changed = new Set<string>();
      for (const hop of hops) {
        const before = this.#resolved.get(hop);
        const now = resolved.get(hop) ?? null;
        this.#resolved.set(hop, now);
        if (before !== undefined && textOf(before) !== textOf(now)) changed.add(hop);
        else if (before === undefined && now === null) changed.add(hop);
      }
      if (changed.size === 0) return;
      this.#requeue(changed);
      this.onResolved();
    } finally {
      this.#asking = false;
      this.#schedule();
    }
  }

  #requeue(hops: ReadonlySet<string>): void {
    for (const rib of this.#ribs) {
      for (let id = 0; id < rib.end; id++) {
        const via = this.#feeder.wayOf(rib, id)?.reach?.via;
        if (via != null && hops.has(via)) this.moved(rib, id);
      }
    }
  }

  // ---- The kernel ------------------------------------------------------------------------------------

  #schedule(): void {
    if (this.#scheduled || this.#hostDevice === '') return;
    if (this.isSettled && this.#unasked.size === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      // The tables of the workers come first.
      if (this.#ribs.every((rib) => rib.isSettled)) this.#turn();
      void this.#ask();
      if (!this.isSettled && !this.#asking) this.#schedule();
    });
  }

  #turn(): void {
    const orphans = this.#orphans.splice(0, BURST);
    if (orphans.length > 0) this.#forget(orphans);
    const changes: { rib: Rib; id: number; form: Form | null }[] = [];
    const end = Math.min(this.#queue.length, this.#at + BURST);
    while (this.#at < end) {
      const { rib, id } = this.#queue[this.#at++]!;
      const way = this.#feeder.wayOf(rib, id);
      const form = this.#formOf(way);
      if (form === undefined) {
        // Its next hop is being asked for.
        this.#queue.push({ rib, id });
        continue;
      }
      this.#queued[rib.family.index].delete(id);
      changes.push({ rib, id, form });
    }
    if (this.#at === this.#queue.length) {
      this.#queue = [];
      this.#at = 0;
    }
    this.#tell(changes);
    for (const { rib, id } of changes) rib.unhold(id);
  }

  /** What the kernel should have for a way; null: nothing; undefined: that is not known yet. */
  #formOf(way: Way | null): Form | null | undefined {
    if (!way?.reach) return null;
    const { via, source } = way.reach;
    if (via === null) return this.#form(null, this.#hostDevice, source);
    const hop = this.#resolved.get(via);
    if (hop === undefined) this.#unasked.add(via);
    return hop && this.#form(hop.gateway, hop.dev, source);
  }

  #form(gateway: string | null, dev: string, source: string | null): Form | null {
    const index = this.#indices.get(dev);
    if (index === undefined) return null;
    const key = `${gateway} ${index} ${source}`;
    const known = this.#known.get(key);
    if (known) return known;
    const number = this.#free.pop() ?? this.#forms.length;
    if (number > 0xffff) return null;
    const form: Form = { number, gateway, dev, index, source, uses: 0 };
    this.#forms[number] = form;
    this.#known.set(key, form);
    return form;
  }

  #leave(form: Form): void {
    if (--form.uses > 0) return;
    this.#forms[form.number] = undefined;
    this.#known.delete(`${form.gateway} ${form.index} ${form.source}`);
    this.#free.push(form.number);
  }

  #tell(changes: readonly { rib: Rib; id: number; form: Form | null }[]): void {
    const due = changes.filter(({ rib, id, form }) => {
      const now = this.#inKernel[rib.family.index][id] ?? 0;
      return now !== (form?.number ?? 0);
    });
    if (due.length === 0) return;
    const requests = due.map(({ rib, id, form }) => {
      const to = rib.prefixOf(id);
      const now = this.#forms[this.#inKernel[rib.family.index][id] ?? 0];
      const isOurs = now !== undefined || this.#takeLeftover(to);
      return encodeRoute(form ? (isOurs ? 'replace' : 'add') : 'del', to, form ?? now!, LEARNED_PROTOCOL);
    });
    const errors = new Int32Array(due.length);
    load().netlinkChange('', Buffer.concat(requests), errors);
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
    const requests = orphans.map(({ to, form }) => encodeRoute('del', to, form, LEARNED_PROTOCOL));
    load().netlinkChange('', Buffer.concat(requests), new Int32Array(orphans.length));
    for (const { form } of orphans) this.#leave(form);
  }

  /** The kernel has lost all routes of a form. */
  #lost(form: Form): void {
    for (const rib of this.#ribs) {
      const numbers = this.#inKernel[rib.family.index];
      for (let id = 0; id < numbers.length; id++) {
        if (numbers[id] !== form.number) continue;
        this.moved(rib, id);
        this.#note(rib, id, null);
      }
    }
  }

  /** Look for what others have changed. */
  #compare(): void {
    if (!this.isSettled || this.#leftover === null || this.#feeder.size > MAX_COMPARED) return;
    const present = new Map(readRoutes(LEARNED_PROTOCOL).map((route) => [route.dst, route]));
    for (const rib of this.#ribs) {
      const numbers = this.#inKernel[rib.family.index];
      for (let id = 0; id < rib.end; id++) {
        const form = this.#forms[numbers[id] ?? 0];
        if (!form) {
          // What the kernel would not take is tried again.
          if (this.#feeder.wayOf(rib, id)?.reach) this.moved(rib, id);
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

const textOf = (hop: Resolved | null): string => (hop ? `${hop.gateway} ${hop.dev}` : '');

const isOf = ({ gateway, dev, prefsrc }: Route, form: Form): boolean =>
  dev === form.dev && (gateway ?? null) === form.gateway && (prefsrc ?? null) === form.source;

/** As the kernel's routes are named: a host's without its length. */
const destinationOf = ({ family, words, length }: Prefix): string =>
  length === family.bits ? formatWords(family, words) : formatPrefix({ family, words, length });
