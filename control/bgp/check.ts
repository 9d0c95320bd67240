/** Whether a configuration can be meant. */
import { parseAddress4 } from '../address.ts';
import { TortieError } from '../error.ts';
import { MAX_SOURCES } from '../rib/rib.ts';
import { AS_TRANS } from './attributes.ts';
import type { PeerConfig, SpeakerConfig } from './config.ts';
import { canonicalAddress, parseWords, tryPrefix } from './family.ts';
import { MAX_PASSWORD } from './socket.ts';

/** Seconds. */
export const DEFAULT_HOLD_TIME = 90;
const MAX_ADD_PATH = 64;
const MIN_BFD_MS = 10;
const MAX_BFD_MS = 60_000;

const isPassword = (text: string): boolean =>
  text !== '' && Buffer.byteLength(text) <= MAX_PASSWORD && !text.includes('\0');

const fault = (text: string) => new TortieError('BGP_CONFIG', `BGP: ${text}`);
const isAsn = (value: number) =>
  Number.isInteger(value) && value > 0 && value < 2 ** 32 && value !== AS_TRANS;

const wellFormed = <T>(what: string, parse: () => T): T => {
  try {
    return parse();
  } catch (error) {
    throw fault(`${what}: ${error instanceof Error ? error.message : error}`);
  }
};

const within = (what: string, value: number | undefined, least: number, most: number) => {
  if (value !== undefined && (!Number.isInteger(value) || value < least || value > most)) {
    throw fault(`${what} ${value} is not within ${least} to ${most}`);
  }
};

/** Throws TortieError BGP_CONFIG with the first fault of the whole. */
export function checkSpeaker({ asn, routerId, clusterId, listen, peers, originate }: SpeakerConfig): void {
  if (!isAsn(asn)) throw fault(`AS number ${asn} is not within 1 to 4294967295`);
  if (wellFormed('routerId', () => parseAddress4(routerId)) === 0) throw fault('routerId 0.0.0.0');
  if (clusterId !== undefined) wellFormed('clusterId', () => parseAddress4(clusterId));
  for (const address of listen?.addresses ?? []) wellFormed('listen', () => parseWords(address));
  for (const { prefix } of originate) {
    if (!tryPrefix(prefix)) throw fault(`originate: "${prefix}" is no prefix, or has host bits`);
  }
  if (peers.length >= MAX_SOURCES)
    throw fault(`${peers.length} peers; at most ${MAX_SOURCES - 1} are allowed`);
  const seen = new Set<string>();
  for (const peer of peers) {
    checkPeer(peer, asn);
    if (seen.has(peer.address)) throw fault(`two peers have the address ${peer.address}`);
    seen.add(peer.address);
  }
}

/** The same of one peer of a speaker in this AS. */
export function checkPeer(peer: PeerConfig, asn: number): void {
  const name = `peer ${peer.address}`;
  wellFormed('peer', () => parseWords(peer.address));
  // The kernel tells in this form who connects.
  const canonical = canonicalAddress(peer.address);
  if (canonical !== peer.address) throw fault(`${name}: write the address as ${canonical}`);
  if (!isAsn(peer.asn)) throw fault(`${name}: AS number ${peer.asn}`);
  if (peer.localAsn !== undefined && !isAsn(peer.localAsn)) throw fault(`${name}: local AS ${peer.localAsn}`);
  const hold = peer.holdTime ?? DEFAULT_HOLD_TIME;
  if (!Number.isInteger(hold) || hold < 0 || hold === 1 || hold === 2 || hold > 65535) {
    throw fault(`${name}: hold time ${hold}; 0 or 3 to 65535 s are allowed`);
  }
  within(`${name}: port`, peer.port, 1, 65535);
  within(`${name}: keepalive time`, peer.keepaliveTime, 1, 65535);
  within(`${name}: TTL security`, peer.ttlSecurity, 1, 255);
  within(`${name}: BFD interval`, peer.bfd?.minTxMs, MIN_BFD_MS, MAX_BFD_MS);
  within(`${name}: BFD interval`, peer.bfd?.minRxMs, MIN_BFD_MS, MAX_BFD_MS);
  within(`${name}: BFD multiplier`, peer.bfd?.multiplier, 1, 255);
  within(`${name}: own ASes allowed`, peer.allowOwnAs, 0, 255);
  within(`${name}: prefix limit`, peer.maxPrefixes, 1, 2 ** 31 - 1);
  within(`${name}: restart after too many prefixes`, peer.maxPrefixesRestart, 0, 86_400);
  within(`${name}: restart time`, peer.restartTime, 0, 4095);
  within(`${name}: long-lived time`, peer.longLivedTime, 0, 2 ** 24 - 1);
  within(`${name}: paths to send`, peer.addPath?.send, 0, MAX_ADD_PATH);
  for (const address of [peer.localAddress, peer.nextHop4, peer.nextHop6]) {
    if (address != null) wellFormed(name, () => parseWords(address));
  }
  if (peer.localAddress != null && peer.localAddress.includes(':') !== peer.address.includes(':'))
    throw fault(`${name}: source address ${peer.localAddress} is of the other family`);
  if (peer.password !== undefined && !isPassword(peer.password))
    throw fault(`${name}: a password has 1 to ${MAX_PASSWORD} bytes, none of them 0`);
  const internal = peer.asn === (peer.localAsn ?? asn);
  if (peer.role && internal) throw fault(`${name}: roles are for external peers`);
  if (peer.reflectorClient && !internal) throw fault(`${name}: a reflector's client is an internal peer`);
}
