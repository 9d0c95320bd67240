/** One cell at work: a daemon behind a veth, tortie's speakers before it, and what both sides are asked. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Attributes, NO_ATTRIBUTES } from '../../control/bgp/attributes.ts';
import type { PeerConfig, SpeakerConfig } from '../../control/bgp/config.ts';
import { ACCEPT_ALL } from '../../control/bgp/policy.ts';
import { Speaker } from '../../control/bgp/speaker.ts';
import type { PeerStatus } from '../../control/bgp/status.ts';
import { listOf, prefixOf } from '../../control/bgp/test-routes.ts';
import { until } from '../../control/bgp/until.ts';
import type { Path } from '../../control/rib/decision.ts';
import type { Announced, DaemonConfig, Driver, Held, Peering } from './driver.ts';
import { Place } from './driver.ts';

const execute = promisify(execFile);

export const ASN = 64512;
/** Speakers of ours that a cell can have. */
const SPEAKERS = 3;
const TIMERS = { connectMs: 2000, retryMinMs: 100, retryMaxMs: 500 };
const WAIT_MS = 20_000;

/** A daemon's namespace, joined to ours by a veth: 10.200.N.0/24 and fd00:200:N::/64, the daemon is .2, we are .1, .3 and .4. */
export class Link {
  readonly netns: string;
  readonly #number: number;

  private constructor(netns: string, number: number) {
    this.netns = netns;
    this.#number = number;
  }

  static async make(netns: string, number: number): Promise<Link> {
    const link = new Link(netns, number);
    const device = `to-${netns}`;
    const ip = (...args: string[]) => execute('ip', args);
    await ip('netns', 'add', netns);
    await ip('-n', netns, 'link', 'set', 'lo', 'up');
    await ip('link', 'add', device, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
    await ip('link', 'set', device, 'up');
    await ip('-n', netns, 'link', 'set', 'eth0', 'up');
    await ip('-n', netns, 'addr', 'add', `${link.theirs()}/24`, 'dev', 'eth0');
    await ip('-n', netns, 'addr', 'add', `${link.theirs(6)}/64`, 'dev', 'eth0', 'nodad');
    for (let index = 0; index < SPEAKERS; index++) {
      await ip('addr', 'add', `${link.ours(index)}/24`, 'dev', device);
      await ip('addr', 'add', `${link.ours(index, 6)}/64`, 'dev', device, 'nodad');
    }
    return link;
  }

  theirs(version: 4 | 6 = 4): string {
    return this.#address(2, version);
  }

  /** Of our first, second or third speaker. */
  ours(index = 0, version: 4 | 6 = 4): string {
    return this.#address(index === 0 ? 1 : index + 2, version);
  }

  async remove(): Promise<void> {
    await execute('ip', ['netns', 'delete', this.netns]);
  }

  #address(host: number, version: 4 | 6): string {
    return version === 4 ? `10.200.${this.#number}.${host}` : `fd00:200:${this.#number}::${host}`;
  }
}

export class Trial {
  readonly driver: Driver;
  readonly link: Link;
  readonly #folder = mkdtempSync(join(tmpdir(), 'interop-'));
  readonly #speakers: Speaker[] = [];
  readonly #closers: (() => Promise<void>)[] = [];

  constructor(driver: Driver, link: Link) {
    this.driver = driver;
    this.link = link;
    driver.place = new Place(link.netns, this.#folder);
  }

  /** A session as the daemon has it with a speaker of ours. */
  peering(more: Partial<Peering> = {}, index = 0): Peering {
    return {
      peer: this.link.ours(index),
      peerAsn: ASN,
      local: this.link.theirs(),
      families: ['ipv4'],
      ...more,
    };
  }

  /** The same as we have it. */
  peer(more: Partial<PeerConfig> = {}): PeerConfig {
    return {
      address: this.link.theirs(),
      asn: ASN,
      label: 'global',
      importPolicy: ACCEPT_ALL,
      exportPolicy: ACCEPT_ALL,
      ...more,
    };
  }

  /** What a daemon is told. */
  config(config: Partial<DaemonConfig> & { routes?: readonly Announced[] }): DaemonConfig {
    const [routerId, address6] = [this.link.theirs(), this.link.theirs(6)];
    return { asn: ASN, routerId, address6, peerings: [this.peering()], routes: [], ...config };
  }

  async startDaemon(config: Partial<DaemonConfig>, options?: { restarting?: boolean }): Promise<void> {
    await this.driver.start(this.config(config), options);
  }

  speakerConfig({ index = 0, ...more }: Partial<SpeakerConfig> & { index?: number } = {}): SpeakerConfig {
    return {
      asn: ASN,
      routerId: this.link.ours(index),
      listen: { addresses: [this.link.ours(index), this.link.ours(index, 6)], port: 179 },
      peers: [this.peer()],
      originate: [],
      timers: TIMERS,
      ...more,
    };
  }

  async startSpeaker(config: Partial<SpeakerConfig> & { index?: number } = {}): Promise<Speaker> {
    const speaker = new Speaker({ ...this.speakerConfig(config), log: () => {} });
    this.#speakers.push(speaker);
    await speaker.start();
    return speaker;
  }

  /** A path in a folder that goes with the trial. */
  file(name: string): string {
    return join(this.#folder, name);
  }

  /** To be done when the cell is over, the latest first. */
  onClose(action: () => Promise<void>): void {
    this.#closers.push(action);
  }

  /** End and remove all, whatever state it is in. */
  async close(): Promise<void> {
    for (const action of this.#closers.reverse()) await action();
    await Promise.all([this.driver.crash(), ...this.#speakers.map((speaker) => speaker.stop())]);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  // ---- What is seen ----------------------------------------------------------------------------------

  status(speaker: Speaker, address = this.link.theirs()): PeerStatus {
    return speaker.peers().find((peer) => peer.address === address)!;
  }

  /** Wait until a session is up, as both sides see it. */
  async established(
    speaker: Speaker,
    { address = this.link.theirs(), ours = this.link.ours() } = {},
  ): Promise<void> {
    await this.until(
      `a session with ${address}`,
      () => this.status(speaker, address).state === 'Established',
      () => this.#tell(speaker, address),
    );
    await this.until(
      `the daemon takes the session with ${ours} for established`,
      () => this.driver.isEstablished(ours),
      () => this.driver.describe(ours),
    );
  }

  /** Wait until a session has ended; why, in words. */
  ended(speaker: Speaker, pattern: RegExp, address = this.link.theirs()): Promise<string> {
    return this.until(
      `the session with ${address} ends by ${pattern}`,
      () => {
        const { state, lastError } = this.status(speaker, address);
        return state !== 'Established' && lastError !== null && pattern.test(lastError) && lastError;
      },
      () => this.#tell(speaker, address),
    );
  }

  paths(speaker: Speaker, prefix: string): Path[] {
    const parsed = prefixOf(prefix);
    const candidates = speaker.ribs[parsed.family.index].candidates(parsed);
    return candidates.map(({ path }) => path).filter(({ source }) => !source.local);
  }

  /** Wait until a speaker has learnt a prefix; its best path. */
  async learnt(speaker: Speaker, prefix: string, test: (path: Path) => boolean = () => true): Promise<Path> {
    return this.until(
      `tortie learns ${prefix}`,
      () => {
        const [path] = this.paths(speaker, prefix);
        return path !== undefined && path.excluded === null && test(path) && path;
      },
      () =>
        JSON.stringify(
          this.paths(speaker, prefix).map(({ attributes, excluded }) => ({ attributes, excluded })),
        ),
    );
  }

  async forgotten(speaker: Speaker, prefix: string): Promise<void> {
    await this.until(`tortie forgets ${prefix}`, () => this.paths(speaker, prefix).length === 0);
  }

  /** Wait until the daemon holds a path of a prefix such as is looked for. */
  async held(prefix: string, test: (path: Held) => boolean = () => true): Promise<Held> {
    return this.until(
      `the daemon holds ${prefix}`,
      async () => (await this.driver.routes(prefix)).find(test),
      async () => `paths: ${JSON.stringify(await this.driver.routes(prefix))}`,
    );
  }

  async dropped(prefix: string): Promise<void> {
    await this.until(
      `the daemon drops ${prefix}`,
      async () => (await this.driver.routes(prefix)).length === 0,
      async () => JSON.stringify(await this.driver.routes(prefix)),
    );
  }

  /** Wait until the daemon says something of a session. */
  async said(pattern: RegExp, peer = this.link.ours()): Promise<void> {
    await this.until(
      `the daemon says ${pattern}`,
      async () => pattern.test(await this.driver.describe(peer)),
      () => this.driver.describe(peer),
    );
  }

  /** Wait until something holds; if it never does, what was there instead is told. */
  async until<T>(
    what: string,
    probe: () => T | Promise<T>,
    explain: () => string | Promise<string> = () => '',
  ): Promise<NonNullable<Exclude<T, false>>> {
    try {
      return await until(what, probe, WAIT_MS);
    } catch (error) {
      const text = await Promise.resolve(explain()).catch(String);
      throw new Error(`${error instanceof Error ? error.message : error}${text && `; ${text}`}`);
    }
  }

  /** Have a speaker announce a route of its own with any attributes. */
  originate(speaker: Speaker, prefix: string, attributes: Partial<Attributes>): void {
    const set = speaker.table.acquire({ ...NO_ATTRIBUTES, ...attributes });
    const list = listOf(prefix);
    const rib = speaker.ribs[list.family.index];
    rib.announce(speaker.local, set, list);
    speaker.table.release(set.id);
  }

  #tell(speaker: Speaker, address: string): string {
    const { state, lastError } = this.status(speaker, address);
    return `tortie is ${state}${lastError ? `, because of: ${lastError}` : ''}`;
  }
}
