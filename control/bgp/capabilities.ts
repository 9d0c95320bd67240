/**
 * Capabilities of an OPEN (RFC 5492): 4-octet AS numbers (6793), families (4760), next hops of the other family
 * (8950), route refresh (2918, 7313), extended messages (8654), graceful restart (4724, 8538), long-lived stale
 * routes (9494), add-path (7911), roles (9234).
 */
import { get16, get32, put32 } from './bytes.ts';
import type { Role } from './config.ts';
import { FAMILIES, type Family, familyOf, IPV4, IPV6 } from './family.ts';

export interface Capability {
  code: number;
  value: Uint8Array;
}

export const CAP_MULTIPROTOCOL = 1;
const CAP_ROUTE_REFRESH = 2;
export const CAP_NEXT_HOP = 5;
const CAP_EXTENDED_MESSAGE = 6;
const CAP_ROLE = 9;
const CAP_GRACEFUL_RESTART = 64;
export const CAP_AS4 = 65;
const CAP_ADD_PATH = 69;
const CAP_ENHANCED_REFRESH = 70;
const CAP_LONG_LIVED = 71;
const CAP_FQDN = 73;

/** By the number that stands for each (RFC 9234 section 4.1). */
const ROLES: readonly Role[] = ['provider', 'rs', 'rs-client', 'customer', 'peer'];

const RESTARTING = 0x8;
const NOTIFICATION = 0x4;
const FORWARDING = 0x80;
const MAX_RESTART_TIME = 0xfff;
const MAX_LONG_LIVED_TIME = 0xffffff;

/** In an add-path capability: what its sender can do. */
const ADD_PATH_RECEIVE = 1;
const ADD_PATH_SEND = 2;

export interface Restart {
  /** Seconds. */
  readonly time: number;
  /** The sender has restarted. */
  readonly restarting: boolean;
  /** Restarts go on through NOTIFICATIONs and expired hold timers (RFC 8538). */
  readonly notification: boolean;
  /** By index of the family. */
  readonly families: readonly [boolean, boolean];
  /** Whether the sender's forwarding state outlived its restart. */
  readonly forwarding: readonly [boolean, boolean];
}

/** What one side's capabilities say, as far as it is understood here. */
export interface Abilities {
  /** AS number of the 4-octet capability, or null without it. */
  readonly as4: number | null;
  /** By index; IPv4 also in the absence of any multiprotocol capability (RFC 4760 section 8). */
  readonly families: readonly [boolean, boolean];
  /** IPv4 routes with IPv6 next hops. */
  readonly nextHop6: boolean;
  readonly refresh: boolean;
  readonly enhancedRefresh: boolean;
  readonly extendedMessage: boolean;
  readonly restart: Restart | null;
  /** It keeps stale routes for long, be it only those of others (RFC 9494). */
  readonly speaksLongLived: boolean;
  /** Seconds, by index of the family; 0: not offered. */
  readonly longLived: readonly [number, number];
  /** Whether the sender's forwarding state outlived the time in which it was away. */
  readonly longLivedForwarding: readonly [boolean, boolean];
  readonly addPathReceive: readonly [boolean, boolean];
  readonly addPathSend: readonly [boolean, boolean];
  readonly role: Role | null;
  /** More than one role was given, and not the same (RFC 9234 section 4.2). */
  readonly rolesDiffer: boolean;
  /** A role of a number that stands for none. */
  readonly roleUnknown: boolean;
}

type Flags = [boolean, boolean];

export function abilitiesOf(capabilities: readonly Capability[]): Abilities {
  const families: Flags = [false, false];
  const receive: Flags = [false, false];
  const send: Flags = [false, false];
  const longLived: [number, number] = [0, 0];
  const longLivedForwarding: Flags = [false, false];
  const roles = new Set<number>();
  let as4: number | null = null;
  let isMultiprotocol = false;
  let nextHop6 = false;
  let restart: Restart | null = null;
  const codes = new Set<number>();
  for (const { code, value } of capabilities) {
    codes.add(code);
    const family = (at: number) => familyOf(get16(value, at), value[at + 2]!);
    switch (code) {
      case CAP_MULTIPROTOCOL: {
        if (value.length !== 4) break;
        isMultiprotocol = true;
        const found = familyOf(get16(value, 0), value[3]!);
        if (found) families[found.index] = true;
        break;
      }
      case CAP_AS4:
        if (value.length === 4) as4 = get32(value, 0) >>> 0;
        break;
      case CAP_NEXT_HOP:
        for (let at = 0; at + 6 <= value.length; at += 6) {
          const found = familyOf(get16(value, at), get16(value, at + 2));
          if (found === IPV4 && get16(value, at + 4) === IPV6.afi) nextHop6 = true;
        }
        break;
      case CAP_ROLE:
        if (value.length === 1) roles.add(value[0]!);
        break;
      case CAP_GRACEFUL_RESTART:
        if (value.length >= 2) restart = restartOf(value);
        break;
      case CAP_LONG_LIVED:
        for (let at = 0; at + 7 <= value.length; at += 7) {
          const found = family(at);
          if (!found) continue;
          longLived[found.index] = (value[at + 4]! << 16) | get16(value, at + 5);
          longLivedForwarding[found.index] = (value[at + 3]! & FORWARDING) !== 0;
        }
        break;
      case CAP_ADD_PATH:
        for (let at = 0; at + 4 <= value.length; at += 4) {
          const found = family(at);
          // Any other mode is to be ignored (RFC 7911 section 4).
          if (!found || value[at + 3]! > 3) continue;
          receive[found.index] = (value[at + 3]! & ADD_PATH_RECEIVE) !== 0;
          send[found.index] = (value[at + 3]! & ADD_PATH_SEND) !== 0;
        }
        break;
    }
  }
  if (!isMultiprotocol) families[IPV4.index] = true;
  const [role] = roles;
  return {
    as4,
    families,
    nextHop6,
    refresh: codes.has(CAP_ROUTE_REFRESH),
    enhancedRefresh: codes.has(CAP_ENHANCED_REFRESH),
    extendedMessage: codes.has(CAP_EXTENDED_MESSAGE),
    restart,
    // Without the capability of RFC 4724 this one is to be ignored (RFC 9494 section 4.1).
    speaksLongLived: restart !== null && codes.has(CAP_LONG_LIVED),
    longLived: restart ? longLived : [0, 0],
    longLivedForwarding: restart ? longLivedForwarding : [false, false],
    addPathReceive: receive,
    addPathSend: send,
    role: role === undefined ? null : (ROLES[role] ?? null),
    rolesDiffer: roles.size > 1,
    roleUnknown: [...roles].some((number) => !ROLES[number]),
  };
}

function restartOf(value: Uint8Array): Restart {
  const families: Flags = [false, false];
  const forwarding: Flags = [false, false];
  for (let at = 2; at + 4 <= value.length; at += 4) {
    const family = familyOf(get16(value, at), value[at + 2]!);
    if (!family) continue;
    families[family.index] = true;
    forwarding[family.index] = (value[at + 3]! & FORWARDING) !== 0;
  }
  return {
    time: get16(value, 0) & MAX_RESTART_TIME,
    restarting: (value[0]! & (RESTARTING << 4)) !== 0,
    notification: (value[0]! & (NOTIFICATION << 4)) !== 0,
    families,
    forwarding,
  };
}

/** What we offer, before it is encoded. */
export interface Offering {
  asn: number;
  families: readonly Family[];
  /** Seconds; 0: not offered. */
  restartTime: number;
  restarting: boolean;
  /** What the peer was told before is still forwarded as told. Default: as `restarting` says. */
  forwarding?: boolean;
  longLivedTime: number;
  addPathReceive: boolean;
  addPathSend: boolean;
  role: Role | null;
}

const none = new Uint8Array(0);

export function ourCapabilities(offering: Offering): Capability[] {
  const { asn, families, restartTime, restarting, longLivedTime, role } = offering;
  const forwarding = (offering.forwarding ?? restarting) ? FORWARDING : 0;
  const as4 = new Uint8Array(4);
  put32(as4, 0, asn | 0);
  const list: Capability[] = families.map(({ afi, safi }) => ({
    code: CAP_MULTIPROTOCOL,
    value: Uint8Array.of(0, afi, 0, safi),
  }));
  if (families.includes(IPV4)) {
    list.push({ code: CAP_NEXT_HOP, value: Uint8Array.of(0, IPV4.afi, 0, IPV4.safi, 0, IPV6.afi) });
  }
  list.push(
    { code: CAP_ROUTE_REFRESH, value: none },
    { code: CAP_ENHANCED_REFRESH, value: none },
    { code: CAP_EXTENDED_MESSAGE, value: none },
    { code: CAP_AS4, value: as4 },
  );
  if (role) list.push({ code: CAP_ROLE, value: Uint8Array.of(ROLES.indexOf(role)) });
  const mode = (offering.addPathReceive ? ADD_PATH_RECEIVE : 0) | (offering.addPathSend ? ADD_PATH_SEND : 0);
  if (mode !== 0) {
    const value = families.flatMap(({ afi, safi }) => [0, afi, safi, mode]);
    list.push({ code: CAP_ADD_PATH, value: Uint8Array.from(value) });
  }
  // Without families it only promises to keep the peer's routes (RFC 4724 section 3).
  const time = Math.min(restartTime, MAX_RESTART_TIME);
  const flags = (restarting ? RESTARTING : 0) | NOTIFICATION;
  const kept = time > 0 ? families.flatMap(({ afi, safi }) => [0, afi, safi, forwarding]) : [];
  list.push({
    code: CAP_GRACEFUL_RESTART,
    value: Uint8Array.of((flags << 4) | (time >> 8), time, ...kept),
  });
  if (longLivedTime > 0) {
    const seconds = Math.min(longLivedTime, MAX_LONG_LIVED_TIME);
    const value = families.flatMap(({ afi, safi }) => [
      0,
      afi,
      safi,
      forwarding,
      seconds >> 16,
      (seconds >> 8) & 255,
      seconds & 255,
    ]);
    list.push({ code: CAP_LONG_LIVED, value: Uint8Array.from(value) });
  }
  return list;
}

const FAMILY_NAMES = ['IPv4 unicast', 'IPv6 unicast'];

/** In words, for people: one text a capability. */
export function describeCapabilities(capabilities: readonly Capability[]): string[] {
  const all = abilitiesOf(capabilities);
  const named = (flags: readonly boolean[]) =>
    FAMILIES.filter(({ index }) => flags[index]).map(({ index }) => FAMILY_NAMES[index]!);
  const list: string[] = [];
  for (const { code, value } of capabilities) {
    if (code === CAP_MULTIPROTOCOL && value.length === 4) {
      const family = familyOf(get16(value, 0), value[3]!);
      list.push(family ? FAMILY_NAMES[family.index]! : `family ${get16(value, 0)}/${value[3]}`);
    } else if (code === CAP_ADD_PATH) {
      const receive = named(all.addPathReceive).join(', ');
      const send = named(all.addPathSend).join(', ');
      list.push(`add-path${receive && ` receive (${receive})`}${send && ` send (${send})`}`);
    } else if (code === CAP_GRACEFUL_RESTART && all.restart) {
      const { time, restarting, notification, families, forwarding } = all.restart;
      const parts = [`${time} s`];
      if (restarting) parts.push('has restarted');
      if (notification) parts.push('through notifications');
      const held = named(families);
      parts.push(held.length > 0 ? held.join(', ') : 'helper only');
      if (forwarding.includes(true)) parts.push('forwarding kept');
      list.push(`graceful restart (${parts.join('; ')})`);
    } else if (code === CAP_LONG_LIVED) {
      const parts = FAMILIES.filter(({ index }) => all.longLived[index] > 0);
      const texts = parts.map(({ index }) => `${FAMILY_NAMES[index]} ${all.longLived[index]} s`);
      list.push(`long-lived graceful restart (${texts.join(', ') || 'helper only'})`);
    } else if (code === CAP_AS4) list.push(`4-octet AS ${all.as4}`);
    else if (code === CAP_ROLE) list.push(`role ${ROLES[value[0]!] ?? value[0]}`);
    else if (code === CAP_FQDN) list.push('host name');
    else list.push(NAMES[code] ?? `capability ${code}`);
  }
  return list;
}

const NAMES: Record<number, string> = {
  [CAP_ROUTE_REFRESH]: 'route refresh',
  [CAP_NEXT_HOP]: 'IPv6 next hops for IPv4',
  [CAP_EXTENDED_MESSAGE]: 'extended messages',
  [CAP_ENHANCED_REFRESH]: 'enhanced route refresh',
  75: 'software version',
  128: 'route refresh (before its standard)',
};

/** Whether two ends of an external session go together (RFC 9234 section 4.2). */
export function rolesAgree(ours: Role, theirs: Role): boolean {
  const pairs: Record<Role, Role> = {
    provider: 'customer',
    customer: 'provider',
    rs: 'rs-client',
    'rs-client': 'rs',
    peer: 'peer',
  };
  return pairs[ours] === theirs;
}
