/** Which BFD sessions the peers of a BGP speaker ask for. Pure. */
import type { SpeakerConfig } from '../bgp/config.ts';
import type { SessionSpec } from './protocol.ts';

const DEFAULT_INTERVAL_MS = 300;
const DEFAULT_MULTIPLIER = 3;

/** From the address that the BGP session has; where that is for the kernel to choose, so it is here. */
export function bfdSessions({ peers, listen }: SpeakerConfig): SessionSpec[] {
  return peers.flatMap(({ address, localAddress, bfd, shutdown }) => {
    if (!bfd || shutdown !== undefined) return [];
    const isIp6 = address.includes(':');
    const own = listen?.addresses.find((candidate) => candidate.includes(':') === isIp6);
    return {
      peer: address,
      local: localAddress ?? own ?? (isIp6 ? '::' : '0.0.0.0'),
      multihop: bfd.multihop ?? false,
      minTxMs: bfd.minTxMs ?? DEFAULT_INTERVAL_MS,
      minRxMs: bfd.minRxMs ?? DEFAULT_INTERVAL_MS,
      multiplier: bfd.multiplier ?? DEFAULT_MULTIPLIER,
    };
  });
}
