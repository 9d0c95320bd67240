/**
 * Which transfers are tried over a path, and which of them can come to their end: where a link is too small and nobody says so, only
 * fragments and TCP's own probes (RFC 4821) get through.
 */
import { expect } from 'vitest';
import type { MtuPath, Transfer, Tunnel } from './path.ts';

const MEGABYTE = 1 << 20;
const BYTES = 8 * MEGABYTE;
const WIDE = 1500;
/** How long a transfer may take, and how long one that stands still is watched; seconds. */
const LIMIT = 30;
const WATCHED = 4;

export interface Treatment {
  readonly title: string;
  /** Of the pods' packets. */
  readonly df: boolean;
  /** Routers' messages get through. */
  readonly told: boolean;
  /** TCP tries sizes itself. */
  readonly probes: boolean;
}

export const TREATMENTS: readonly Treatment[] = [
  { title: 'DF', df: true, told: true, probes: false },
  { title: 'no DF', df: false, told: true, probes: false },
  { title: 'DF, ICMP filtered', df: true, told: false, probes: false },
  { title: 'DF, ICMP filtered, TCP probes', df: true, told: false, probes: true },
  { title: 'no DF, ICMP filtered', df: false, told: false, probes: false },
];

export interface PathCase {
  readonly title: string;
  /** Of the link in the middle. */
  readonly mtu: number;
  /** It becomes so while a connection lasts. */
  readonly shrinks: boolean;
}

export const PATHS: readonly PathCase[] = [
  { title: '1500', mtu: 1500, shrinks: false },
  { title: '1400', mtu: 1400, shrinks: false },
  { title: '1280', mtu: 1280, shrinks: false },
  { title: '1500, then 1280', mtu: 1280, shrinks: true },
];

/** Why a transfer can end although a link is too small and nobody says so, or why it cannot. */
export const NOTES = {
  told: '',
  wide: '',
  probes:
    "TCP's own probes (tcp_mtu_probing=2; tcp_retries1=1, as 3 lets it retry for 3 s before it tries less)",
  pieces: 'routers fragment the outer packet, which has no DF either',
  theirs: "routers fragment the outer packet: the kernel's VXLAN sends no DF unless told to",
  silent: 'what has DF is lost without a word: that is between the sender and the filter',
  ours: 'tortie’s VXLAN packets always have DF: it cuts the inner packet once it knows the path, which nobody tells here',
} as const;
export type Note = keyof typeof NOTES;

export function noteOf(tunnel: Tunnel, outward: boolean, { df, told, probes }: Treatment, mtu: number): Note {
  if (mtu >= WIDE) return 'wide';
  if (told) return 'told';
  if (tunnel === 'vxlan' && !outward) return 'theirs';
  if (probes) return 'probes';
  if (df) return 'silent';
  return tunnel === 'ipip' ? 'pieces' : 'ours';
}

export const completes = (note: Note): boolean => note !== 'silent' && note !== 'ours';

function settingsOf({ df, probes }: Treatment): string[] {
  return [
    `net.ipv4.ip_no_pmtu_disc=${df ? 0 : 1}`,
    `net.ipv4.tcp_mtu_probing=${probes ? 2 : 0}`,
    `net.ipv4.tcp_retries1=${probes ? 1 : 3}`,
  ];
}

/** One transfer over a path that nobody knows yet; judged by whether it comes to its end. */
export async function tryTransfer(
  path: MtuPath,
  treatment: Treatment,
  { mtu, shrinks }: PathCase,
  outward: boolean,
): Promise<Transfer> {
  await path.forget();
  await path.setTold(treatment.told);
  await path.setTcp(settingsOf(treatment));
  if (!shrinks) await path.narrow(mtu);
  const ends = outward ? ([path.near, path.far] as const) : ([path.far, path.near] as const);
  const note = noteOf(path.tunnel, outward, treatment, mtu);
  const result = await path.transfer(...ends, {
    bytes: BYTES,
    seconds: completes(note) ? LIMIT : WATCHED,
    ...(shrinks && { meanwhile: () => path.narrow(mtu) }),
  });
  expect(result.complete).toBe(completes(note));
  // What stands still does so because of what the routers were kept from saying.
  if (!completes(note)) expect(await path.untold()).toBeGreaterThan(0);
  return result;
}
