/** Which peer is meant. */
import { tryAddress6 } from '../address.ts';
import { TortieError } from '../error.ts';
import type { BgpPeerView, BgpProblemView } from './types.ts';

/** Peers, or problems, that an error lists. */
const MAX_LISTED = 20;

type Named = Pick<BgpPeerView, 'address' | 'resource'>;

/**
 * The peer of this address in any spelling, or of this name. Throws TortieError PEER_UNKNOWN, with the reason if it is left out, or
 * PEER_AMBIGUOUS.
 */
export function peerNamed<T extends Named>(
  peers: readonly T[],
  text: string,
  problems: readonly BgpProblemView[],
): T {
  const byAddress = peers.find(({ address }) => isSame(address, text));
  if (byAddress) return byAddress;
  const [first, ...others] = peers.filter(({ resource }) => resource?.name === text);
  if (first && others.length === 0) return first;
  if (first) {
    const addresses = listed(', ', [first, ...others], ({ address }) => address);
    const message = `several peers are named "${text}": ${addresses}; give the address of one`;
    throw new TortieError('PEER_AMBIGUOUS', message);
  }
  const reasons = problems.filter(({ leftOut }) => leftOut.some((name) => isSame(name, text)));
  const why =
    reasons.length > 0
      ? listed('; ', reasons, (problem) => problem.text)
      : `peers: ${listed(', ', peers, labelOf) || 'none'}`;
  throw new TortieError('PEER_UNKNOWN', `no peer "${text}"; ${why}`);
}

const labelOf = ({ address, resource }: Named): string =>
  resource === null ? address : `${address} (${resource.name})`;

/** IPv6 addresses have many spellings. */
function isSame(name: string, text: string): boolean {
  if (name === text) return true;
  const words = tryAddress6(text)?.join();
  return words !== undefined && tryAddress6(name)?.join() === words;
}

function listed<T>(separator: string, all: readonly T[], textOf: (one: T) => string): string {
  const more = all.length > MAX_LISTED ? ` and ${all.length - MAX_LISTED} more` : '';
  return `${all.slice(0, MAX_LISTED).map(textOf).join(separator)}${more}`;
}
