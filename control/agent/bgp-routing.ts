/** The BGP speaker as the agent uses it: configured level-triggered, asked for best routes. */
import type { Logger } from 'pino';
import { formatAddress4, isIp6 } from '../address.ts';
import type { PeerView } from '../api/types.ts';
import { BfdClient } from '../bfd/client.ts';
import { bfdSessions } from '../bfd/sessions.ts';
import { BmpExporter } from '../bgp/bmp-exporter.ts';
import type { SpeakerConfig } from '../bgp/config.ts';
import { Speaker } from '../bgp/speaker.ts';
import { type AgentConfig, stateFolder } from '../config/config.ts';
import { VERSION } from '../version.ts';
import type { BgpPlan } from './bgp-plan.ts';
import { SpeakerView } from './bgp-view.ts';
import type { Feeder } from './feeder.ts';
import type { KernelRoutes } from './kernel-routes.ts';

/** The retry pause doubles up to so many times itself. */
const RETRY_GROWTH = 30;
/** A peer that does not say when it has told all: how long no route may change until we take that for granted. */
const QUIET_MS = 2000;
/** A peer that does not come up holds the picture up no longer than this. */
const SETTLE_LIMIT_MS = 30_000;

export class BgpRouting {
  asn = 0;
  /** What the speaker tells people. */
  readonly view: SpeakerView;
  readonly bfd: BfdClient;
  /** There was an agent before this one, whose forwarding state we have (RFC 4724 section 4.1). */
  isRestart = false;
  readonly #config: () => AgentConfig;
  readonly #feeder: Feeder;
  readonly #kernelRoutes: KernelRoutes;
  readonly #log: Logger;
  readonly #bmp: BmpExporter;
  #speaker: Speaker | null = null;
  #told = '';
  #configuredAt = 0;
  #lastChange = 0;

  /** `config` is asked anew at each change. Best routes go to the feeder; next hops are those of the kernel. */
  constructor(config: () => AgentConfig, feeder: Feeder, kernelRoutes: KernelRoutes, log: Logger) {
    this.#config = config;
    this.#feeder = feeder;
    this.view = new SpeakerView(() => feeder.size);
    this.#kernelRoutes = kernelRoutes;
    this.#log = log;
    this.bfd = new BfdClient({
      socket: `${stateFolder(config().nodeName)}/bfd.sock`,
      onState: ({ peer, text, failed, independent }) =>
        this.#speaker?.bfdChanged(peer, text, failed, independent),
      log: (level, message, fields) => log[level](fields, message),
    });
    this.#bmp = new BmpExporter({
      sysName: config().nodeName,
      sysDescr: `tortie ${VERSION}`,
      log: (level, message, fields) => log[level](fields, message),
    });
    kernelRoutes.onResolved = () => this.#speaker?.nextHopsChanged();
  }

  /**
   * Become what the plan says; sessions that it does not touch go on. With BGP off there are none. Rejects if it
   * cannot listen.
   */
  async configure(plan: BgpPlan, routerId: number): Promise<void> {
    this.asn = plan.asn;
    if (!this.#config().bgp.enabled) return this.#abandon();
    // A peer that is left out is no part of what the speaker is told.
    this.view.problems = plan.problems;
    this.#bmp.configure(this.#config().bgp.bmp);
    const config = this.#speakerConfig(plan, routerId);
    const text = JSON.stringify(config);
    if (text === this.#told) return;
    this.#configuredAt ||= performance.now();
    try {
      if (this.#speaker) await this.#speaker.reconfigure(config);
      else await this.#start(config);
      this.bfd.configure(bfdSessions(config));
      this.view.use({ speaker: this.#speaker!, config, bmp: () => this.#bmp.status() });
      this.#told = text;
    } catch (error) {
      // Half a speaker is none: the next attempt begins anew.
      await this.#abandon();
      throw error;
    }
  }

  peers(): PeerView[] {
    return (this.#speaker?.peers() ?? []).map(({ address, label, state, since, lastError }) => ({
      address,
      type: label,
      // calicoctl prints the state of BIRD's protocol: up, or start while it tries.
      state: state === 'Established' ? 'up' : 'start',
      since: since.toISOString(),
      info: state,
      lastError,
    }));
  }

  /** Whether all that was known before a restart may be taken as known again: sessions up, or long enough waited. */
  isSettled(): boolean {
    if (!this.#config().bgp.enabled) return true;
    if (!this.#speaker) return false;
    return performance.now() - this.#configuredAt > SETTLE_LIMIT_MS || this.isSynchronised();
  }

  /** Whether all peers are up and have told what they know: each said so, or there was nothing new for a while. */
  isSynchronised(): boolean {
    if (!this.#config().bgp.enabled) return true;
    if (!this.#speaker) return false;
    const peers = this.#speaker.peers();
    if (!this.#speaker.isSynchronised) return false;
    if (this.#speaker.ribs.some((rib) => !rib.isSettled)) return false;
    // Nodes that restart together wait for each other's End-of-RIB here: what is forwarded is not to go before.
    const { hasToldAll } = this.#speaker;
    if (hasToldAll !== null) return hasToldAll;
    const since = Math.max(this.#lastChange, ...peers.map((peer) => peer.since.getTime()));
    return Date.now() - since > QUIET_MS;
  }

  /** End all sessions. Peers that can are to keep our routes: what we forward goes on, and the next agent comes soon. */
  async stop(): Promise<void> {
    const speaker = this.#speaker;
    this.#speaker = null;
    this.view.use(null);
    this.#told = '';
    const restarting = this.#config().bgp.enabled;
    // A session that went while peers keep our routes would have them dropped.
    this.bfd.stop({ keep: restarting });
    await speaker?.stop({ restarting });
    await this.#bmp.use(null);
  }

  /** The same, and what was learned is forgotten. */
  async #abandon(): Promise<void> {
    await this.stop();
    this.#feeder.follow([]);
  }

  async #start(config: SpeakerConfig): Promise<void> {
    const speaker = new Speaker({
      ...config,
      restarting: this.isRestart,
      log: (level, message, fields) => this.#log[level](fields, message),
    });
    this.#speaker = speaker;
    this.isRestart = false;
    speaker.resolver = ({ text }) => {
      this.#kernelRoutes.track(text);
      return { reachable: this.#kernelRoutes.isReachable(text), cost: 0 };
    };
    for (const rib of speaker.ribs) {
      rib.on('change', () => {
        this.#lastChange = Date.now();
      });
    }
    this.#feeder.follow(speaker.ribs);
    await this.#bmp.use(speaker);
    await speaker.start();
  }

  #speakerConfig(plan: BgpPlan, routerId: number): SpeakerConfig {
    const { holdTime, retrySeconds } = this.#config().bgp;
    const [anyFour, anySix] = ['0.0.0.0', '::'];
    const everywhere = plan.addresses.some(isIp6) ? [anyFour, anySix] : [anyFour];
    return {
      asn: plan.asn,
      routerId: formatAddress4(routerId),
      ...(plan.clusterId !== null && { clusterId: plan.clusterId }),
      listen: { addresses: plan.bindAll ? everywhere : plan.addresses, port: plan.listenPort },
      peers: plan.peers.map((peer) => ({
        holdTime,
        // Where BGP listens on all addresses, it still speaks from the node's.
        ...(plan.bindAll && { localAddress: ownAddress(plan, peer.address) }),
        ...peer,
      })),
      originate: plan.originate,
      timers: { retryMinMs: retrySeconds * 1000, retryMaxMs: retrySeconds * 1000 * RETRY_GROWTH },
    };
  }
}

/** The node's address of the family of a peer's. */
const ownAddress = ({ addresses }: BgpPlan, peer: string): string | null =>
  addresses.find((address) => isIp6(address) === isIp6(peer)) ?? null;
