/**
 * A reflector with 500 clients: one of them tells 10,000 routes; how long until all the others have heard all of them. The
 * clients are ours for all reflectors: connections of this process that count what they hear.
 */
import { execFile } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { parseAddress4 } from '../control/address.ts';
import { AttributeTable } from '../control/bgp/attribute-table.ts';
import { encodeAttributes, NO_ATTRIBUTES } from '../control/bgp/attributes.ts';
import { get16 } from '../control/bgp/bytes.ts';
import { ourCapabilities } from '../control/bgp/capabilities.ts';
import { IPV4 } from '../control/bgp/family.ts';
import { encodeOpen, HEADER, keepalive, MAX_MESSAGE, OPEN, UPDATE } from '../control/bgp/message.ts';
import { PrefixList } from '../control/bgp/nlri.ts';
import { until } from '../control/bgp/until.ts';
import { encodeAnnouncements } from '../control/bgp/update.ts';
import { ASN, Bird, startOurs, version } from './bgp-daemons.ts';
import type { BenchContext, BenchEntry, Prepared } from './harness.ts';
import { reasonOf } from './harness.ts';
import { Lab } from './lab.ts';

const run = promisify(execFile);
const CLIENTS = 500;
const QUICK_CLIENTS = 50;
const ROUTES = 10_000;
/** Routes of one set of attributes. */
const ROUTES_A_SET = 100;
const REFLECTOR = '198.19.255.1';
const REFLECTOR_NAME = 'reflector';
const LIMIT_MS = 120_000;
const KEEPALIVE_MS = 20_000;
const HOLD_TIME = 90;
const RETRY_MS = 500;

const clientAddress = (client: number): string => `198.19.${1 + (client >> 7)}.${1 + (client & 127)}`;

/** One session, that counts the prefixes that it is told. */
class Client {
  prefixes = 0;
  isUp = false;
  readonly #address: string;
  #socket: Socket;
  #rest: Uint8Array = new Uint8Array(0);
  #isOver = false;

  constructor(address: string) {
    this.#address = address;
    this.#socket = this.#connect();
  }

  /** A reflector that begins with so many at once may turn some away: they come again. */
  #connect(): Socket {
    const socket = connect({ host: REFLECTOR, port: 179, localAddress: this.#address });
    socket.on('error', () => {});
    socket.once('close', () => {
      if (this.isUp || this.#isOver) return;
      this.#rest = new Uint8Array(0);
      setTimeout(() => {
        if (!this.#isOver) this.#socket = this.#connect();
      }, RETRY_MS);
    });
    const offering = {
      asn: ASN,
      families: [IPV4],
      restartTime: 0,
      restarting: false,
      longLivedTime: 0,
      addPathReceive: false,
      addPathSend: false,
      role: null,
    };
    const open = encodeOpen({
      as2: ASN,
      holdTime: HOLD_TIME,
      routerId: parseAddress4(this.#address),
      capabilities: ourCapabilities(offering),
    });
    socket.once('connect', () => socket.write(open));
    socket.on('data', (bytes: Uint8Array) => this.#hear(bytes));
    return socket;
  }

  get isClosed(): boolean {
    return this.#socket.destroyed;
  }

  send(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  close(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #hear(chunk: Uint8Array): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    let at = 0;
    for (; at + HEADER <= bytes.length; ) {
      const end = at + get16(bytes, at + 16);
      if (end > bytes.length) break;
      const type = bytes[at + 18];
      if (type === OPEN) this.send(keepalive);
      else if (type === UPDATE) this.prefixes += announced(bytes, at + HEADER, end);
      else this.isUp = true;
      at = end;
    }
    this.#rest = bytes.slice(at);
  }
}

/** Prefixes that the body of an UPDATE announces: those behind the attributes. */
function announced(bytes: Uint8Array, start: number, end: number): number {
  const attributes = start + 2 + get16(bytes, start);
  let at = attributes + 2 + get16(bytes, attributes);
  let count = 0;
  for (; at < end; at += 1 + ((bytes[at]! + 7) >> 3)) count++;
  return count;
}

/** The routes, as the first client tells them. */
function updates(): Uint8Array {
  const table = new AttributeTable();
  const nextHop = table.nextHops.at(IPV4, [parseAddress4(clientAddress(0))]);
  const messages: Uint8Array[] = [];
  for (let first = 0; first < ROUTES; first += ROUTES_A_SET) {
    const list = new PrefixList(IPV4);
    for (let i = first; i < first + ROUTES_A_SET; i++) list.add([(10 << 24) | (i << 8)], 24);
    const set = { ...NO_ATTRIBUTES, localPref: 100, communities: [first], nextHop };
    const encoded = { bytes: encodeAttributes(set, { as4: true, nextHop: true }), nextHop: null };
    const form = { family: IPV4, addPath: false, maxMessage: MAX_MESSAGE };
    messages.push(...encodeAnnouncements(encoded, list, form));
  }
  return Buffer.concat(messages);
}

class Reflection {
  readonly #lab = new Lab();
  readonly #context: BenchContext;
  readonly #count: number;

  constructor(context: BenchContext) {
    this.#context = context;
    this.#count = context.quick ? QUICK_CLIENTS : CLIENTS;
  }

  async build(): Promise<void> {
    await this.#lab.netns(REFLECTOR_NAME);
    await run('ip', [
      'link',
      'add',
      'clients',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      REFLECTOR_NAME,
    ]);
    const device = ['dev', 'clients'];
    for (let client = 0; client < this.#count; client++) {
      await run('ip', ['addr', 'add', `${clientAddress(client)}/16`, ...device]);
    }
    await run('ip', ['link', 'set', 'clients', 'up']);
    await this.#lab.ip(REFLECTOR_NAME, 'link set eth0 up', `addr add ${REFLECTOR}/16 dev eth0`);
  }

  async ours(): Promise<number> {
    const peers = Array.from({ length: this.#count }, (_, client) => ({
      kind: 'BGPPeer',
      name: `client-${client}`,
      spec: { peerIP: clientAddress(client), asNumber: ASN, session: { passive: true } },
    }));
    const reflector = await startOurs(this.#lab, this.#context, REFLECTOR_NAME, [
      // What is of no pool is not passed on.
      { kind: 'IPPool', name: 'pods', spec: { cidr: '10.0.0.0/8' } },
      { kind: 'BGPConfiguration', name: 'default', spec: { asNumber: ASN, nodeToNodeMeshEnabled: false } },
      {
        kind: 'Node',
        name: REFLECTOR_NAME,
        spec: { bgp: { ipv4Address: `${REFLECTOR}/16`, routeReflectorClusterID: '1.0.0.1' }, blocks: [] },
      },
      ...peers,
    ]);
    try {
      return await this.#measure();
    } finally {
      await reflector.stop();
    }
  }

  async bird(): Promise<number> {
    const sessions = Array.from(
      { length: this.#count },
      (_, client) =>
        `protocol bgp c${client} { local ${REFLECTOR} as ${ASN}; neighbor ${clientAddress(client)} as ${ASN}; passive; rr client; ipv4 { import all; export all; }; }`,
    );
    const config = `router id ${REFLECTOR};\nprotocol device { }\n${sessions.join('\n')}\n`;
    const bird = await Bird.start(this.#lab, REFLECTOR_NAME, config);
    try {
      return await this.#measure();
    } finally {
      await bird.stop();
    }
  }

  /** Seconds from the first byte of the routes until every other client has heard all. */
  async #measure(): Promise<number> {
    const clients = Array.from({ length: this.#count }, (_, client) => new Client(clientAddress(client)));
    const timer = setInterval(() => {
      for (const client of clients) client.send(keepalive);
    }, KEEPALIVE_MS);
    try {
      await until('all clients are up', () => clients.every(({ isUp }) => isUp), LIMIT_MS);
      // Their End-of-RIBs are behind them.
      await sleep(1000);
      const [teller, ...others] = clients as [Client, ...Client[]];
      const begun = performance.now();
      teller.send(updates());
      while (others.some(({ prefixes }) => prefixes < ROUTES)) {
        if (clients.some(({ isClosed }) => isClosed)) throw new Error('a session has ended');
        if (performance.now() - begun > LIMIT_MS) throw new Error('not all clients have heard all');
        await sleep(5);
      }
      return (performance.now() - begun) / 1000;
    } finally {
      clearInterval(timer);
      for (const client of clients) client.close();
    }
  }

  async close(): Promise<void> {
    await run('ip', ['link', 'del', 'clients']).catch(() => {});
    await this.#lab.close();
  }
}

async function prepare(context: BenchContext): Promise<Prepared> {
  const reflection = new Reflection(context);
  try {
    await reflection.build();
  } catch (error) {
    await reflection.close();
    throw error;
  }
  const bird = await version('bird', '--version').then(
    (text) => ({ version: text, run: () => reflection.bird() }),
    (error) => ({ unavailable: `bird: ${reasonOf(error)}` }),
  );
  const clients = context.quick ? QUICK_CLIENTS : CLIENTS;
  return {
    setting: `${clients} clients, ${ROUTES} routes in ${ROUTES / ROUTES_A_SET} sets, Node ${process.version}`,
    ours: () => reflection.ours(),
    peers: { bird },
    close: () => reflection.close(),
  };
}

export const entries: BenchEntry[] = [
  { name: 'bgp-reflect', unit: 's until all clients have all', better: 'lower', peers: ['bird'], prepare },
];
