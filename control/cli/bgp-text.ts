/** What `tortie bgp` prints for people. */
import { isIp6, parseAddress4, tryAddress6 } from '../address.ts';
import type {
  BgpEvent,
  BgpPeerView,
  BgpProblemView,
  BgpRouteView,
  BgpSummaryView,
  BgpToldView,
  BgpWhyView,
  BmpCollectorView,
} from '../api/types.ts';
import type { MessageView, UpdateView } from '../bgp/describe.ts';
import { columns } from './table.ts';

const orDash = (value: string | number | null): string =>
  value === null || value === '' ? '-' : String(value);
export const counted = (count: number, thing: string, things = `${thing}s`): string =>
  `${count} ${count === 1 ? thing : things}`;
const sum = (peer: BgpPeerView, field: 'received' | 'filtered' | 'stale' | 'sent'): string =>
  String(peer.families.reduce((total, family) => total + family[field], 0));

/** How long ago: "04:12:05", "3d04h", "5w2d", as routers tell it. */
export function ageText(since: string, now: Date): string {
  const seconds = Math.max(0, Math.floor((now.getTime() - Date.parse(since)) / 1000));
  const two = (value: number) => String(Math.floor(value)).padStart(2, '0');
  const days = Math.floor(seconds / 86_400);
  if (days >= 7) return `${Math.floor(days / 7)}w${days % 7}d`;
  if (days >= 1) return `${days}d${two((seconds % 86_400) / 3600)}h`;
  return [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(two).join(':');
}

export const peersText = (peers: readonly BgpPeerView[], now: Date): string =>
  peers.length === 0
    ? 'No peers.\n'
    : columns(
        ['PEER', 'AS', 'TYPE', 'STATE', 'FOR', 'RECEIVED', 'SENT', 'BFD', 'LAST ERROR'],
        peers.map((peer) => [
          peer.address,
          String(peer.asn),
          peer.label,
          peer.state,
          ageText(peer.since, now),
          sum(peer, 'received'),
          sum(peer, 'sent'),
          // How often it sends is for `bgp peer`.
          orDash(peer.bfd?.split(/[,:]/)[0] ?? null),
          orDash(downText(peer)),
        ]),
      );

export function summaryText(
  { asn, routerId, clusterId, tables, attributeSets, bmp }: BgpSummaryView,
  peers: readonly BgpPeerView[],
  now: Date,
): string {
  const cluster = clusterId === routerId ? '' : `, cluster ${clusterId}`;
  const lines = [
    `AS ${asn}, router id ${routerId}${cluster}`,
    ...tables.map(
      ({ family, prefixes, paths }) =>
        `${familyText(family)}: ${counted(paths, 'path')} to ${counted(prefixes, 'prefix', 'prefixes')}`,
    ),
    `${counted(attributeSets, 'set')} of attributes`,
    ...bmp.map((collector) => bmpText(collector, now)),
    '',
  ];
  const rows = peers.map((peer) => [
    peer.address,
    String(peer.asn),
    String(peer.counters.messagesIn),
    String(peer.counters.messagesOut),
    String(peer.queuedBytes),
    String(peer.counters.flaps),
    peer.state,
    ageText(peer.since, now),
    sum(peer, 'received'),
    sum(peer, 'filtered'),
    sum(peer, 'stale'),
    sum(peer, 'sent'),
  ]);
  const header = [
    'PEER',
    'AS',
    'MSG IN',
    'MSG OUT',
    'QUEUE',
    'FLAPS',
    'STATE',
    'FOR',
    'RECEIVED',
    'FILTERED',
    'STALE',
    'SENT',
  ];
  return `${lines.join('\n')}\n${rows.length > 0 ? columns(header, rows) : 'No peers.\n'}`;
}

/** Below a table. */
export const problemsText = (problems: readonly BgpProblemView[]): string =>
  problems.length === 0 ? '' : `\n${problems.map(({ text }) => `${text}\n`).join('')}`;

const familyText = (family: BgpRouteView['family']): string => (family === 'ipv4' ? 'IPv4' : 'IPv6');

/** Title and value, the values below each other. */
const facts = (list: readonly (readonly [title: string, value: string])[]): string => {
  const width = Math.max(...list.map(([title]) => title.length)) + 3;
  return list.map(([title, value]) => `${title.padEnd(width)}${value}\n`).join('');
};

const bmpText = (
  { address, port, up, since, lastError, queuedBytes }: BmpCollectorView,
  now: Date,
): string => {
  const name = `BMP collector ${address.includes(':') ? `[${address}]` : address}:${port}`;
  if (up) return `${name}: up for ${ageText(since, now)}, ${counted(queuedBytes, 'byte')} waiting`;
  return `${name}: down for ${ageText(since, now)}${lastError === null ? '' : `: ${lastError}`}`;
};

export function peerText(peer: BgpPeerView, now: Date): string {
  const { counters } = peer;
  const kind = peer.internal ? 'internal' : 'external';
  const own = peer.asn === peer.localAsn || peer.internal ? '' : `, ours ${peer.localAsn}`;
  const told = facts([
    ['Peer', `${peer.address} port ${peer.port}, ${peer.label}${resourceText(peer)}`],
    ['AS', `${peer.asn} (${kind}${own})`],
    ['State', `${peer.state}, since ${peer.since} (${ageText(peer.since, now)})`],
    ['Last error', errorText(peer.lastError, peer.lastErrorAt, now)],
    ['Last session', endText(peer, now)],
    ...(peer.restartUntil === null
      ? []
      : ([['Restart', `its routes are kept until ${peer.restartUntil}`]] as const)),
    ['Local address', orDash(peer.localAddress)],
    [
      'Timers',
      peer.holdTime === null
        ? '-'
        : peer.holdTime === 0
          ? 'none: no hold time was agreed on'
          : `hold ${peer.holdTime} s, keepalive ${Number((peer.keepaliveTime ?? 0).toFixed(1))} s`,
    ],
    ['BFD', orDash(peer.bfd)],
    ['Waits to be sent', counted(peer.queuedBytes, 'byte')],
  ]);
  const messages = columns(
    ['MESSAGES', 'IN', 'OUT'],
    [
      ['all', counters.messagesIn, counters.messagesOut],
      ['bytes', counters.bytesIn, counters.bytesOut],
      ['UPDATE', counters.updatesIn, counters.updatesOut],
      ['KEEPALIVE', counters.keepalivesIn, counters.keepalivesOut],
      ['ROUTE-REFRESH', counters.refreshesIn, counters.refreshesOut],
      ['NOTIFICATION', counters.notificationsIn, counters.notificationsOut],
    ].map((row) => row.map(String)),
  );
  const counts = columns(
    ['COUNTED', ''],
    [
      ['sessions established', counters.established],
      ['sessions that ended', counters.flaps],
      ['prefixes refused: loops and the like', counters.routesRefused],
      ['prefixes refused by the import policy', counters.routesFiltered],
      ['malformed UPDATEs, taken as withdrawals', counters.updatesMalformed],
      ['attributes discarded', counters.attributesDiscarded],
    ].map((row) => row.map(String)),
  );
  const families = columns(
    ['FAMILY', 'RECEIVED', 'FILTERED', 'STALE', 'SENT', 'END-OF-RIB', 'ADD-PATH'],
    peer.families.map((family) => [
      familyText(family.family),
      ...[family.received, family.filtered, family.stale, family.sent].map(String),
      bothWays(family.endOfRibReceived, family.endOfRibSent, 'received', 'sent'),
      bothWays(family.addPathReceive, family.addPathSend, 'receive', 'send'),
    ]),
  );
  return [told, offersText(peer), families, messages, counts].join('\n');
}

const resourceText = ({ resource }: BgpPeerView): string =>
  resource === null ? '' : `, ${resource.kind === 'Node' ? 'node' : resource.kind} ${resource.name}`;

/** Why a session is down: what ended it is of more use than what came of the attempts since. */
const downText = ({ lastError, endReason }: BgpPeerView): string | null =>
  lastError === null || endReason === null || endReason === lastError
    ? lastError
    : `${endReason}; since then ${lastError}`;

const errorText = (reason: string | null, at: string | null, now: Date): string =>
  reason === null || at === null ? 'none' : `${reason}, ${ageText(at, now)} ago`;

const endText = ({ endReason, endedAt }: BgpPeerView, now: Date): string =>
  endReason === null || endedAt === null
    ? 'none has ended'
    : `ended ${ageText(endedAt, now)} ago: ${endReason}`;

function bothWays(incoming: boolean, outgoing: boolean, inWord: string, outWord: string): string {
  const words = [...(incoming ? [inWord] : []), ...(outgoing ? [outWord] : [])];
  return orDash(words.join(', '));
}

/** What both sides said in OPEN, side by side. */
function offersText({ ours, theirs }: BgpPeerView): string {
  const sides = [ours, theirs];
  if (!ours && !theirs) return 'No OPEN was sent yet.\n';
  const offers = sides.map((side) => new Map(side?.capabilities.map(nameAndValue)));
  const names = new Set(offers.flatMap((offer) => [...offer.keys()]));
  const value = (read: (side: NonNullable<BgpPeerView['ours']>) => string) =>
    sides.map((side) => (side === null ? '-' : read(side)));
  return columns(
    ['OPEN', 'OURS', 'THE PEER’S'],
    [
      ['AS', ...value((side) => String(side.asn))],
      ['router id', ...value((side) => side.routerId)],
      ['hold time', ...value((side) => `${side.holdTime} s`)],
      ...[...names].map((name) => [name, ...offers.map((offer) => offer.get(name) ?? '-')]),
    ],
  );
}

/** Capabilities that say more than that they are there. */
const VALUED = /^(4-octet AS|role|add-path|(?:long-lived )?graceful restart) +(.*)$/;

function nameAndValue(capability: string): [name: string, value: string] {
  const [, name, value] = VALUED.exec(capability) ?? [];
  return name === undefined || value === undefined
    ? [capability, 'yes']
    : [name, value.replace(/^\((.*)\)$/, '$1')];
}

const MARKS: Readonly<Record<BgpRouteView['state'], string>> = {
  best: '*',
  multipath: '=',
  worse: '',
  excluded: '!',
  sent: '',
};

export const ROUTE_HEADER = [
  '',
  'PREFIX',
  'NEXT HOP',
  'MED',
  'LOCPREF',
  'AS PATH',
  'ORIGIN',
  'FROM',
  'AGE',
  'REASON',
];

export const routeCells = (route: BgpRouteView, now: Date): string[] => [
  MARKS[route.state],
  route.pathId === 0 ? route.prefix : `${route.prefix}#${route.pathId}`,
  orDash(route.nextHop),
  orDash(route.attributes.med),
  orDash(route.attributes.localPref),
  orDash(route.attributes.asPath),
  route.attributes.origin,
  fromText(route),
  route.since === null ? '-' : ageText(route.since, now),
  reasonText(route),
];

const fromText = ({ peer, peerAsn }: Pick<BgpRouteView, 'peer' | 'peerAsn'>): string =>
  peer === null ? 'this node' : `${peer} (AS ${peerAsn})`;

function reasonText(route: BgpRouteView): string {
  const { state, reason, stale } = route;
  const words =
    state === 'worse'
      ? `worse by ${stepText(route)}`
      : state === 'multipath'
        ? `equal up to ${stepText(route)}`
        : reason;
  return orDash(stale ? `${words}, stale` : words);
}

/** "AS path length, 3 against 1". */
const stepText = ({ reason, detail }: BgpRouteView): string =>
  detail === null ? reason : `${reason}, ${detail}`;

/** By family, address and length; paths of a prefix stay in their order. */
export function byPrefix(a: BgpRouteView, b: BgpRouteView): number {
  if (a.family !== b.family) return a.family < b.family ? -1 : 1;
  const [left, right] = [keyOf(a.prefix), keyOf(b.prefix)];
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return left[i]! - right[i]!;
  return 0;
}

function keyOf(prefix: string): number[] {
  const [address, length] = prefix.split('/') as [string, string];
  const words = isIp6(address) ? tryAddress6(address)! : [parseAddress4(address)];
  return [...words.map((word) => word >>> 0), Number(length)];
}

/** `asked`: as the user wrote it. */
export function whyText(
  asked: string,
  { prefix, covering, decidedBy, candidates, told }: BgpWhyView,
  now: Date,
): string {
  const instead =
    covering === null ? 'nor is there a route that holds it' : `BGP’s route to it is ${covering}`;
  if (prefix === null) return `Nobody announces ${asked}; ${instead}.\n`;
  const usable = candidates.filter(({ state }) => state !== 'excluded').length;
  const excluded = candidates.length - usable;
  const rest = excluded === 0 ? '' : `; ${counted(excluded, 'path')} cannot be used`;
  const verdict =
    decidedBy === null
      ? `${candidates.length === 1 ? 'its one path cannot' : `none of its ${candidates.length} paths can`} be used; ${instead}`
      : usable === 1
        ? `one path${excluded === 0 ? '' : ' can be used'}${rest}`
        : `the first of ${usable} paths is best, by ${decidedBy}${rest}`;
  const paths = candidates.map((route, i) => candidateText(route, i + 1, now));
  return `${prefix}: ${verdict}.\n${paths.join('')}${told === null ? '' : toldText(told)}`;
}

function toldText({ peer, routes, reason }: BgpToldView): string {
  if (routes.length === 0) return `\nNot told to ${peer}: ${reason}.\n`;
  const lines = routes.map((route) => {
    const named = route.pathId === 0 ? '' : `path identifier ${route.pathId}, `;
    return `   ${named}${attributesText(route)}\n`;
  });
  return `\nTold to ${peer}:\n${lines.join('')}`;
}

const VERDICTS: Readonly<Record<BgpRouteView['state'], string>> = {
  best: 'best',
  multipath: 'may share the load',
  worse: 'worse',
  excluded: 'cannot be used',
  sent: 'sent',
};

function candidateText(route: BgpRouteView, place: number, now: Date): string {
  const why =
    route.state === 'excluded'
      ? `: ${route.reason}`
      : route.reason === 'only path'
        ? ''
        : route.state === 'best'
          ? ` by ${route.reason}`
          : ` ${route.state === 'worse' ? 'by' : 'and is equal up to'} ${stepText(route)}`;
  const age = route.since === null ? '' : `, ${ageText(route.since, now)} old`;
  const stale = route.stale ? ', stale' : '';
  const named = route.pathId === 0 ? '' : `, path identifier ${route.pathId}`;
  const cost = route.cost === null ? '' : ` (cost ${route.cost})`;
  const lists: [string, readonly string[]][] = [
    ['communities', route.attributes.communities],
    ['large communities', route.attributes.largeCommunities],
    ['extended communities', route.attributes.extendedCommunities],
    ['cluster list', route.attributes.clusterList],
    ['other attributes', route.attributes.others],
  ];
  const lines = [
    `from ${fromText(route)}${named}${age}${stale}`,
    `next hop ${route.nextHop ?? 'this node'}${cost}`,
    `local preference ${route.attributes.localPref ?? '100 (none came)'}, AS path ${route.attributes.asPath || 'empty'}, ` +
      `origin ${route.attributes.origin}, MED ${route.attributes.med ?? 'none'}`,
    ...(route.attributes.originatorId === null ? [] : [`originator ${route.attributes.originatorId}`]),
    ...(route.attributes.aggregator === null ? [] : [`aggregated by AS ${route.attributes.aggregator}`]),
    ...(route.attributes.onlyToCustomer === null
      ? []
      : [`only to customers, says AS ${route.attributes.onlyToCustomer}`]),
    ...lists.filter(([, values]) => values.length > 0).map(([name, values]) => `${name} ${values.join(' ')}`),
  ];
  return `\n${place}. ${VERDICTS[route.state]}${why}\n${lines.map((line) => `   ${line}\n`).join('')}`;
}

/** One line. */
export function eventText(event: BgpEvent): string {
  const at = event.at.slice(11, 23);
  switch (event.event) {
    case 'state': {
      const error = event.lastError === null ? '' : `: ${event.lastError}`;
      return `${at} ${event.peer} (AS ${event.asn}) is ${event.state}${error}\n`;
    }
    case 'message':
      return `${at} ${event.direction === 'in' ? 'from' : 'to'} ${event.peer}: ${messageText(event)}\n`;
    case 'lost':
      return `${at} ${counted(event.count, 'event')} more, too fast to tell\n`;
    case 'best': {
      const { route, prefix } = event;
      if (route === null) return `${at} best: nothing for ${prefix}\n`;
      const via = route.nextHop === null ? '' : ` via ${route.nextHop}`;
      return `${at} best: ${prefix}${via} from ${fromText(route)}, ${reasonText(route)}\n`;
    }
  }
}

/** Prefixes of one message that are shown. */
const MAX_SHOWN = 8;

const some = (prefixes: readonly string[]): string =>
  prefixes.length <= MAX_SHOWN
    ? prefixes.join(' ')
    : `${prefixes.slice(0, MAX_SHOWN).join(' ')} and ${prefixes.length - MAX_SHOWN} more`;

function messageText(message: MessageView): string {
  switch (message.type) {
    case 'OPEN': {
      const { asn, routerId, holdTime, capabilities } = message;
      const able = capabilities.length === 0 ? 'no capabilities' : capabilities.join(', ');
      return `OPEN AS ${asn}, router id ${routerId}, hold time ${holdTime} s; ${able}`;
    }
    case 'UPDATE':
      return `UPDATE ${updateText(message)}`;
    case 'NOTIFICATION':
      return `NOTIFICATION ${message.text}`;
    case 'KEEPALIVE':
      return 'KEEPALIVE';
    case 'ROUTE-REFRESH':
      return `ROUTE-REFRESH ${message.family} ${message.subtype}`;
    case 'malformed':
      return `a message of ${message.length} bytes that cannot be read: ${message.reason}`;
  }
}

function updateText(update: UpdateView): string {
  const { withdrawn, announced, endOfRib, fault, discarded, unlisted } = update;
  const parts = [
    ...announced.map((announcement) => `${some(announcement.prefixes)} ${attributesText(announcement)}`),
    ...(withdrawn.length === 0 ? [] : [`withdrawn ${some(withdrawn)}`]),
    ...(endOfRib === null ? [] : [`end of ${endOfRib}: all routes are told`]),
    ...(fault === null ? [] : [`malformed, taken as a withdrawal: ${fault}`]),
    ...(unlisted === 0 ? [] : [`${unlisted} prefixes more`]),
    ...discarded.map((text) => `left out: ${text}`),
  ];
  return parts.length === 0 ? 'nothing' : parts.join('; ');
}

const attributesText = ({
  nextHop,
  attributes: told,
}: Pick<UpdateView['announced'][number], 'nextHop' | 'attributes'>): string =>
  [
    `via ${nextHop ?? 'nowhere'}`,
    `AS path ${told.asPath || 'empty'}`,
    ...(told.origin === 'IGP' ? [] : [`origin ${told.origin}`]),
    ...(told.localPref === null ? [] : [`local preference ${told.localPref}`]),
    ...(told.med === null ? [] : [`MED ${told.med}`]),
    ...[...told.communities, ...told.largeCommunities, ...told.extendedCommunities].map(
      (community) => `community ${community}`,
    ),
    ...(told.originatorId === null ? [] : [`originator ${told.originatorId}`]),
    ...(told.clusterList.length === 0 ? [] : [`cluster list ${told.clusterList.join(' ')}`]),
  ].join(', ');
