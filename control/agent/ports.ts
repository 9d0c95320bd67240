/**
 * The ports that are: devices and sockets opened, told to the workers, and brought back when they go. Each
 * reconcile compares with what should be; a port that fails is tried again and does not stop the others.
 */
import { clearPortCounters } from '../../dataplane/counters.ts';
import { MAX_PORTS, type SharedTables } from '../../dataplane/memory/layout.ts';
import type { FaultSpec, NodeSpec, PortSpec } from '../../dataplane/messages.ts';
import type { Native } from '../../dataplane/native/index.ts';
import type { WorkerPool } from '../../dataplane/pool.ts';
import { openIpipSockets } from '../../dataplane/port/ipip.ts';
import { BUCKET_CELLS } from '../../dataplane/port/shaper.ts';
import { openVxlanSockets } from '../../dataplane/port/vxlan.ts';
import { formatAddress6 } from '../address.ts';
import type { DesiredPort } from '../desired.ts';
import { TortieError } from '../error.ts';
import { forEachSideBySide } from '../kernel/each.ts';
import { ipApply, type Link, netnsText, type Route } from '../kernel/iproute.ts';
import { readNamespace, readRoutes6 } from '../kernel/netlink.ts';
import { aliasOf, type Owner, ownerOfAlias, planPod } from '../kernel/plan.ts';
import { planPod6 } from '../kernel/plan6.ts';
import { applyInPod } from '../kernel/rtnetlink.ts';
import { type FoundDevice, findDevices, listNamespaces, type Namespace, netnsInode } from '../kernel/scan.ts';
import { balance, place } from './spread.ts';
import type { DescriptorStore } from './store.ts';
import { type Choice, hostObstacles, type Tunnel } from './ways.ts';

/** Which pods' namespaces to look into, changed or not: `some` comes to all of them in SLICES times. */
export type Refresh = 'none' | 'some' | 'all';
const SLICES = 4;

export interface PortSettings {
  readonly owner: Owner;
  readonly bufferBytes: number;
  readonly vxlanSenders: number;
  readonly udpChecksum: boolean;
  readonly ways: Readonly<Record<Tunnel, Choice>>;
}

/** A port as it is. */
export interface OpenPort {
  readonly id: number;
  desired: DesiredPort;
  /** Empty while it is not open. */
  fds: readonly number[];
  /** Workers that read its first descriptors; the others are for sending only. */
  readers: readonly number[];
  /** Tunnels: how packets leave, and why so. */
  way: Choice | null;
  /** Bytes of virtio's header on its device. */
  vnetHeader: number;
  /** The device: index, and inode of the namespace that it was in. A device made anew differs. */
  ifindex: number;
  inode: number;
  /** State of its limits, which workers share. */
  readonly buckets: SharedArrayBuffer;
  /** What the workers were told, as text; empty if they were told nothing. */
  told: string;
  /** Why it is not as it should be, or null. */
  failure: string | null;
}

export class Ports {
  /** For labs: what goes wrong, by the name of its port. */
  faults: ReadonlyMap<string, FaultSpec> = new Map();
  readonly #native: Native;
  readonly #workers: WorkerPool;
  readonly #counters: Float64Array;
  readonly #store: DescriptorStore;
  readonly #ports = new Map<string, OpenPort>();
  /** Ids that were given back, oldest first: adjacencies of the old port are long gone when one comes up again. */
  readonly #freeIds: number[] = [];
  #nextId = 0;
  #refused: string[] = [];
  #slice = 0;
  #node = '';
  /** Until the tables are full for the first time nobody reads: packets wait in the descriptors. */
  #holding = true;

  constructor(native: Native, workers: WorkerPool, tables: SharedTables, store: DescriptorStore) {
    this.#native = native;
    this.#workers = workers;
    this.#counters = new Float64Array(tables.counters);
    this.#store = store;
  }

  list(): OpenPort[] {
    return [...this.#ports.values()];
  }

  get(name: string): OpenPort | undefined {
    return this.#ports.get(name);
  }

  /** Id of a port that workers have attached, or null. */
  idOf(name: string): number | null {
    const port = this.#ports.get(name);
    return port && port.told !== '' ? port.id : null;
  }

  /** Why ports are not as they should be, for people. */
  problems(): string[] {
    const refused = this.#refused.map((name) => `port ${name}: all ${MAX_PORTS} ports are in use`);
    const failed = this.list().flatMap(({ desired, failure }) =>
      failure === null ? [] : [`port ${desired.name}: ${failure}`],
    );
    return [...refused, ...failed];
  }

  /** A worker gave up a port: tell the workers of tunnels anew. A device is looked at by the next refresh. */
  distrust(): void {
    for (const port of this.list()) if (port.desired.device === '') port.told = '';
  }

  /** Tell the workers what node they are, if that has changed. */
  async setNode(node: NodeSpec): Promise<void> {
    const text = JSON.stringify(node);
    if (text === this.#node) return;
    await this.#workers.setNode(node);
    this.#node = text;
  }

  /** Open, set up and attach what should be. `refresh`: how many pods' namespaces to look at for drift; changes are seen anyway. */
  async open(desired: readonly DesiredPort[], settings: PortSettings, refresh: Refresh): Promise<void> {
    this.#refused = [];
    const others = desired.filter((port) => port.kind !== 'host');
    if (refresh === 'some') this.#slice = (this.#slice + 1) % SLICES;
    const isDue = (index: number) =>
      refresh === 'all' || (refresh === 'some' && index % SLICES === this.#slice);
    const entries = [...others.entries()];
    await forEachSideBySide(entries, ([index, port]) => this.#openOne(port, settings, isDue(index)));
  }

  /** Open the host device; what is in the node's namespace is known already. Answers whether it was made anew. */
  async openHost(desired: DesiredPort, owner: Owner, links: readonly Link[]): Promise<boolean> {
    const port = this.#claim(desired);
    if (!port) return false;
    return this.#attempt(port, async () => {
      const made = await this.#openTap(port, desired, owner, links, netnsInode(null) ?? 0);
      await this.#attach(port, desired, null);
      return made;
    });
  }

  /** What keeps the host's device from taking super-frames, by tunnel. */
  hostObstacles(device: string): Record<Tunnel, string | null> {
    const host = this.list().find((port) => port.desired.kind === 'host');
    return hostObstacles(this.#native, device, host?.vnetHeader ?? 0);
  }

  /** The tables are full: let the workers read. What the agent before left and nobody wants is given up. */
  async release(): Promise<void> {
    if (!this.#holding) return;
    this.#holding = false;
    this.#store.discard();
    await Promise.all(this.list().map((port) => this.#attachAnew(port)));
  }

  /** Detach and close ports that should not be, then remove devices of this node that nobody wants. */
  async close(desired: readonly DesiredPort[], settings: PortSettings, sweep: boolean): Promise<void> {
    const wanted = new Set(desired.map((port) => port.name));
    let mustSweep = sweep;
    for (const [name, port] of this.#ports) {
      if (wanted.has(name)) continue;
      const { device, netns } = port.desired;
      // One that is not open may have left a device all the same, unless its namespace is gone.
      mustSweep ||= device !== '' && !this.#abandon(port) && netnsInode(netns) !== null;
      await this.#detach(port);
      this.#ports.delete(name);
      this.#freeIds.push(port.id);
    }
    await this.#rebalance();
    if (mustSweep) await removeStrays(settings.owner, desired);
  }

  /** Let a device go with its last descriptor. False if it is not open. */
  #abandon({ fds }: OpenPort): boolean {
    try {
      for (const fd of fds) this.#native.tapRelease(fd);
    } catch {
      // It has gone already.
    }
    return fds.length > 0;
  }

  /** Let go of all descriptors: devices stay, for the next agent. */
  shutdown(): void {
    for (const port of this.#ports.values()) this.#closeFds(port);
  }

  async #openOne(desired: DesiredPort, settings: PortSettings, refresh: boolean): Promise<void> {
    const port = this.#claim(desired);
    if (!port) return;
    const isPod = desired.kind === 'pod';
    const isSettled =
      port.failure === null &&
      port.told !== '' &&
      sameDevice(port.desired, desired) &&
      port.told === JSON.stringify(this.#spec(port, desired, wayOf(desired, settings)));
    const mustLook = isPod && (refresh || netnsInode(desired.netns) !== port.inode);
    if (isSettled && !mustLook) return;
    await this.#attempt(port, async () => {
      if (isPod) await this.#openPod(port, desired, settings);
      else await this.#openSockets(port, desired, settings);
      await this.#attach(port, desired, settings);
    });
  }

  /** The record of a port, made on first sight; undefined, and noted as refused, when there are too many. */
  #claim(desired: DesiredPort): OpenPort | undefined {
    const known = this.#ports.get(desired.name);
    if (known) return known;
    const id = this.#nextId < MAX_PORTS ? this.#nextId++ : this.#freeIds.shift();
    if (id === undefined) {
      this.#refused.push(desired.name);
      return undefined;
    }
    clearPortCounters(this.#counters, id);
    const port: OpenPort = {
      id,
      desired,
      buckets: new SharedArrayBuffer(2 * BUCKET_CELLS * Float64Array.BYTES_PER_ELEMENT),
      fds: [],
      readers: [],
      way: null,
      vnetHeader: 0,
      ifindex: 0,
      inode: 0,
      told: '',
      failure: null,
    };
    this.#ports.set(desired.name, port);
    return port;
  }

  async #attempt<T>(port: OpenPort, action: () => Promise<T>): Promise<T | false> {
    try {
      port.failure = null;
      return await action();
    } catch (error) {
      port.failure = (error as Error).message;
      return false;
    }
  }

  async #openPod(port: OpenPort, desired: DesiredPort, settings: PortSettings): Promise<void> {
    const inode = netnsInode(desired.netns);
    if (inode === null) {
      await this.#detach(port);
      throw new TortieError('NETNS_GONE', `network namespace ${netnsText(desired.netns)} does not exist`);
    }
    const { links, routes } = readNamespace(desired.netns);
    const made = await this.#openTap(port, desired, settings.owner, links, inode);
    const known = made ? links.filter((link) => link.ifname !== desired.device) : links;
    // With a device that was there go its routes; those of others stay.
    const remaining = (all: readonly Route[]) =>
      made ? all.filter(({ dev }) => dev !== desired.device) : all;
    const routes6 = desired.addresses6.length === 0 ? [] : readRoutes6(desired.netns);
    const commands = planPod(desired, aliasOf(settings.owner, desired), known, remaining(routes));
    const commands6 = planPod6(desired, links, remaining(routes6));
    const indexes = new Map(links.map(({ ifname, ifindex }) => [ifname, ifindex]));
    indexes.set(desired.device, port.ifindex);
    const failures = await applyInPod(desired.netns!, [...commands, ...commands6], (name) =>
      indexes.get(name),
    );
    if (failures.length > 0) {
      port.failure = failures.map(({ command, message }) => `ip ${command}: ${message}`).join('; ');
    }
  }

  /** Make or adopt the device unless it is open and still the one that it was. True if it was made. */
  async #openTap(
    port: OpenPort,
    desired: DesiredPort,
    owner: Owner,
    links: readonly Link[],
    inode: number,
  ): Promise<boolean> {
    const link = links.find((candidate) => candidate.ifname === desired.device);
    if (link && ownerOfAlias(link.ifalias)?.node !== owner.node) {
      throw new TortieError(
        'DEVICE_FOREIGN',
        `${desired.device} in ${netnsText(desired.netns)} is not a device of this node; remove or rename it`,
      );
    }
    const queues = Math.min(desired.queues, this.#workers.size);
    const isSame = link?.ifindex === port.ifindex && inode === port.inode;
    if (isSame && port.fds.length === queues) return false;
    await this.#detach(port);
    const place = `tap.${inode}.${link?.ifindex}.`;
    const left = this.#store.claim(
      desired.name,
      (key, count) => key.startsWith(place) && count === queues && isMultiQueue(link) === queues > 1,
    );
    if (left && link) {
      this.#opened(port, left.fds, queues);
      port.vnetHeader = Number(left.key.slice(place.length));
      port.ifindex = link.ifindex;
      port.inode = inode;
      return false;
    }
    // A device is made for one queue or for several, and stays so.
    if (link && isMultiQueue(link) !== queues > 1) {
      await ipApply(desired.netns, [`link del dev ${desired.device}`]);
    }
    const tap = this.#native.tapOpen({
      ...(desired.netns !== null && { netns: desired.netns }),
      name: desired.device,
      queues,
      mtu: desired.mtu,
      offloads: true,
      ...(desired.mac && { mac: desired.mac }),
      alias: aliasOf(owner, desired),
      // Not up yet: the plan first turns IPv6 off.
      persist: true,
    });
    this.#opened(port, tap.fds, queues);
    port.vnetHeader = tap.vnetHeader;
    port.ifindex = tap.ifindex;
    port.inode = inode;
    this.#store.keep(desired.name, `tap.${inode}.${tap.ifindex}.${tap.vnetHeader}`, tap.fds);
    return tap.created;
  }

  async #openSockets(port: OpenPort, desired: DesiredPort, settings: PortSettings): Promise<void> {
    if (port.fds.length > 0 && sameDevice(port.desired, desired)) return;
    // Another address: the old sockets cannot serve it, and the new may need their ports.
    await this.#detach(port);
    const isOver6 = desired.kind === 'vxlan6';
    const address = isOver6 ? formatAddress6(desired.addresses6[0]!) : desired.addresses[0]!;
    const { bufferBytes, vxlanSenders: senders, udpChecksum: checksum } = settings;
    const receivers = this.#workers.size;
    const isVxlan = isOver6 || desired.kind === 'vxlan';
    const join = settings.ways[isOver6 ? 'vxlan6' : 'vxlan'].way !== 'plain';
    const common = { bufferBytes, receivers };
    const vxlan = { address, ...common, senders, checksum, join };
    const options = isVxlan ? vxlan : { address, ...common };
    // Names of descriptors that systemd keeps have no colons.
    const told = Object.values(options).map((value) =>
      typeof value === 'string' ? value.replaceAll(':', '-') : Number(value),
    );
    const key = `${desired.kind}.${settings.owner.scope}.${told.join('.')}`;
    const left = this.#store.claim(desired.name, (candidate) => candidate === key);
    const open = () =>
      isVxlan
        ? openVxlanSockets(this.#native, vxlan)
        : openIpipSockets(this.#native, { ...common, address: desired.addresses[0]! });
    const fds = left?.fds ?? open();
    this.#opened(port, fds, receivers);
    if (!left) this.#store.keep(desired.name, key, fds);
  }

  /** Note a port's descriptors, and choose who reads the first of them. */
  #opened(port: OpenPort, fds: readonly number[], inputs: number): void {
    port.fds = fds;
    const others = this.list().map(({ readers }) => readers);
    port.readers = place(new Array<number>(inputs).fill(-1), others, this.#workers.size);
  }

  /** After ports went: no worker is to read two more than another. */
  async #rebalance(): Promise<void> {
    const ports = this.list().filter(({ told }) => told !== '');
    const balanced = balance(
      ports.map(({ readers }) => readers),
      this.#workers.size,
    );
    for (const [index, port] of ports.entries()) {
      port.readers = balanced[index]!;
      await this.#attachAnew(port);
    }
  }

  async #attach(port: OpenPort, desired: DesiredPort, settings: PortSettings | null): Promise<void> {
    port.desired = desired;
    port.way = settings && wayOf(desired, settings);
    await this.#tell(port);
  }

  /** Attach a port that is open with other readers. */
  async #attachAnew(port: OpenPort): Promise<void> {
    if (port.told === '') return;
    try {
      await this.#tell(port);
    } catch (error) {
      port.failure = (error as Error).message;
    }
  }

  async #tell(port: OpenPort): Promise<void> {
    const spec = this.#spec(port, port.desired, port.way);
    const text = JSON.stringify(spec);
    if (text === port.told) return;
    await this.#workers.attach(spec);
    port.told = text;
  }

  /** What the workers are to know of a port. */
  #spec(port: OpenPort, desired: DesiredPort, choice: Choice | null): PortSpec {
    const { id, fds, vnetHeader } = port;
    const readers = this.#holding ? port.readers.map(() => -1) : port.readers;
    const { name, kind, mac, sources, sources6, mtu } = desired;
    const faults = this.faults.get(name);
    const spec = { id, kind, name, fds, readers, mac, sources, sources6, mtu, ...(faults && { faults }) };
    const { limits } = desired;
    if (!choice)
      return { ...spec, vnetHeader, ...(limits && { limits: { ...limits, state: port.buckets } }) };
    const { way } = choice;
    const host = this.list().find((candidate) => candidate.desired.kind === 'host');
    if (way !== 'host' || !host?.desired.mac) return { ...spec, way };
    return {
      ...spec,
      way,
      uplink: { fds: host.fds, vnetHeader: host.vnetHeader, mac: host.desired.mac },
    };
  }

  async #detach(port: OpenPort): Promise<void> {
    if (port.told !== '') await this.#workers.detach(port.id);
    port.told = '';
    this.#store.forget(port.desired.name);
    this.#closeFds(port);
  }

  #closeFds(port: OpenPort): void {
    for (const fd of port.fds) this.#native.close(fd);
    port.fds = [];
    port.readers = [];
  }
}

const wayOf = ({ kind }: DesiredPort, { ways }: PortSettings): Choice | null =>
  kind === 'vxlan' || kind === 'ipip' || kind === 'vxlan6' ? ways[kind] : null;
const isMultiQueue = (link: Link | undefined): boolean => link?.linkinfo?.info_data?.multi_queue === true;

/** Whether two descriptions of a port are of one device with one set-up. */
const sameDevice = (a: DesiredPort, b: DesiredPort): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Remove devices of this node, in whatever namespace, that no port stands for. */
async function removeStrays({ node, scope }: Owner, desired: readonly DesiredPort[]): Promise<void> {
  const wanted = new Set(
    desired.filter((port) => port.device !== '').map((port) => `${netnsInode(port.netns)} ${port.device}`),
  );
  await forEachSideBySide(listNamespaces(), async (namespace) => {
    const strays = devicesIn(namespace).filter(
      ({ owner, name }) =>
        owner.node === node && owner.scope === scope && !wanted.has(`${namespace.inode} ${name}`),
    );
    await ipApply(
      namespace.netns,
      strays.map(({ name }) => `link del dev ${name}`),
    );
  });
}

/** A namespace that is closed to us holds nothing that we made. */
function devicesIn(namespace: Namespace): FoundDevice[] {
  try {
    return findDevices(namespace);
  } catch {
    return [];
  }
}
