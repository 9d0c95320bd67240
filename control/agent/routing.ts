/** What the agent needs of a routing protocol. */
import type { PeerView } from '../api/types.ts';
import type { BgpRoute, Desired } from '../desired.ts';
import type { BgpPlan } from './bgp-plan.ts';

export interface Routing {
  readonly asn: number;
  /** Become what the plan says; sessions that it does not touch go on. Rejects if it cannot listen. */
  configure(plan: BgpPlan, node: Desired['node'], originate: Desired['originate']): Promise<void>;
  /** Best routes that others announced. */
  routes(): Iterable<BgpRoute>;
  peers(): PeerView[];
  /** Whether all that was known before a restart may be taken as known again: sessions up, or long enough waited. */
  isSettled(): boolean;
  /** Cease to all peers. */
  stop(): Promise<void>;
}

/** A node without BGP: routes come from the datastore only. */
export const noRouting: Routing = {
  asn: 0,
  configure: () => Promise.resolve(),
  routes: () => [],
  peers: () => [],
  isSettled: () => true,
  stop: () => Promise.resolve(),
};
