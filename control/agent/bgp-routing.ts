/** The BGP speaker as the agent uses it: configured level-triggered, asked for best routes. */
import type { Logger } from 'pino';
import { formatAddress4, formatPrefix4 } from '../address.ts';
import type { PeerView } from '../api/types.ts';
import type { SpeakerConfig } from '../bgp/config.ts';
import { IPV4 } from '../bgp/family.ts';
import { ACCEPT_ALL } from '../bgp/policy.ts';
import { Speaker } from '../bgp/speaker.ts';
import type { AgentConfig } from '../config/config.ts';
import type { BgpRoute, Desired } from '../desired.ts';
import type { BgpPlan } from './bgp-plan.ts';
import { SpeakerView } from './bgp-view.ts';

/** The retry pause doubles up to so many times itself. */
const RETRY_GROWTH = 30;
/** After all sessions are up: how long no route may change until we take the picture for full. */
const QUIET_MS = 2000;
/** A peer that does not come up holds the picture up no longer than this. */
const SETTLE_LIMIT_MS = 30_000;

export class BgpRouting {
  asn = 0;
  /** What the speaker tells people. */
  readonly view = new SpeakerView();
  readonly #config: () => AgentConfig;
  readonly #changed: () => void;
  readonly #log: Logger;
  #speaker: Speaker | null = null;
  #told = '';
  #configuredAt = 0;
  #lastChange = 0;

  /** `config` is asked anew at each change, `changed` is called when best routes are others. */
  constructor(config: () => AgentConfig, changed: () => void, log: Logger) {
    this.#config = config;
    this.#changed = changed;
    this.#log = log;
  }

  /**
   * Become what the plan says; sessions that it does not touch go on. With BGP off there are none. Rejects if it
   * cannot listen.
   */
  async configure(plan: BgpPlan, node: Desired['node'], originate: Desired['originate']): Promise<void> {
    this.asn = plan.asn;
    if (!this.#config().bgp.enabled) return this.stop();
    const config = this.#speakerConfig(plan, node, originate);
    const text = JSON.stringify(config);
    if (text === this.#told) return;
    this.#configuredAt ||= performance.now();
    try {
      if (this.#speaker) await this.#speaker.reconfigure(config);
      else await this.#start(config);
      this.view.use({ speaker: this.#speaker!, config });
      this.#told = text;
    } catch (error) {
      // Half a speaker is none: the next attempt begins anew.
      await this.stop();
      throw error;
    }
  }

  /** Best routes that others announced. */
  *routes(): Iterable<BgpRoute> {
    const [rib] = this.#speaker?.ribs ?? [];
    for (const id of rib?.ids() ?? []) {
      const source = rib!.bestSource(id)!;
      const nextHop = rib!.bestSet(id)!.nextHop;
      if (source.local || nextHop?.family !== IPV4) continue;
      yield {
        prefix: rib!.wordOf(id, 0),
        length: rib!.lengthOf(id),
        nextHop: nextHop.words[0]!,
        peerLabel: `${source.name} (AS ${source.asn})`,
      };
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

  /** Whether all peers are up and have told what they know, as far as one can tell: nothing new for a while. */
  isSynchronised(): boolean {
    if (!this.#config().bgp.enabled) return true;
    if (!this.#speaker) return false;
    const now = Date.now();
    const peers = this.#speaker.peers();
    if (peers.some(({ state }) => state !== 'Established')) return false;
    const since = Math.max(this.#lastChange, ...peers.map((peer) => peer.since.getTime()));
    return now - since > QUIET_MS;
  }

  /** Cease to all peers. */
  async stop(): Promise<void> {
    const speaker = this.#speaker;
    this.#speaker = null;
    this.view.use(null);
    this.#told = '';
    await speaker?.stop();
  }

  async #start(config: SpeakerConfig): Promise<void> {
    const speaker = new Speaker({
      ...config,
      log: (level, message, fields) => this.#log[level](fields, message),
    });
    this.#speaker = speaker;
    speaker.ribs[0].on('change', () => {
      this.#lastChange = Date.now();
      this.#changed();
    });
    await speaker.start();
  }

  #speakerConfig(plan: BgpPlan, node: Desired['node'], originate: Desired['originate']): SpeakerConfig {
    const { holdTime, retrySeconds } = this.#config().bgp;
    const address = formatAddress4(node.address);
    return {
      asn: plan.asn,
      routerId: address,
      listen: { addresses: [address], port: plan.listenPort },
      peers: plan.peers.map((peer) => ({
        address: formatAddress4(peer.address),
        port: peer.port,
        asn: peer.asn,
        holdTime,
        label: peer.type,
        importPolicy: ACCEPT_ALL,
        exportPolicy: ACCEPT_ALL,
      })),
      originate: originate.map(({ prefix, length }) => ({ prefix: formatPrefix4(prefix, length) })),
      timers: { retryMinMs: retrySeconds * 1000, retryMaxMs: retrySeconds * 1000 * RETRY_GROWTH },
    };
  }
}
