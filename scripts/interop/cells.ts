/** The matrix's cells: what a daemon and tortie do together, and what must be seen on both sides. */

import { BfdClient } from '../../control/bfd/client.ts';
import { bfdSessions } from '../../control/bfd/sessions.ts';
import { AS_TRANS, INCOMPLETE } from '../../control/bgp/attributes.ts';
import { formatPrefix } from '../../control/bgp/family.ts';
import { ROUTE_REFRESH } from '../../control/bgp/message.ts';
import type { Speaker } from '../../control/bgp/speaker.ts';
import { prefixOf } from '../../control/bgp/test-routes.ts';
import {
  asPathText,
  communityText,
  extendedCommunityTexts,
  largeCommunityTexts,
} from '../../control/bgp/text.ts';
import { ASN, type Trial } from './trial.ts';

export interface Cell {
  /** Also in Driver.cannot. */
  readonly id: string;
  /** Row of the table. */
  readonly title: string;
  /** Part of the short form that every test run has. */
  readonly quick?: boolean;
  /** Rejects with what was not seen. */
  run(trial: Trial): Promise<void>;
}

const OURS = '10.65.0.0/26';
const OURS_TOO = '10.65.1.0/26';
const OURS6 = 'fd65::/64';
const THEIRS = '10.66.0.0/26';
const THEIRS_TOO = '10.66.1.0/26';
const THEIRS6 = 'fd66::/64';
const OTHER_ASN = 4_200_000_001;
const PASSWORD = 'correct-horse';
const TEXT = 'maintenance until 14:00, see ticket 4711';
const RESTART_S = 60;

const originate = (...prefixes: string[]) => prefixes.map((prefix) => ({ prefix }));
const routes = (...prefixes: string[]) => prefixes.map((prefix) => ({ prefix }));

/** One session, a route each way. */
async function exchange(trial: Trial, speaker: Speaker): Promise<void> {
  await trial.established(speaker);
  await trial.learnt(speaker, THEIRS);
  await trial.held(OURS, ({ nextHop }) => nextHop === trial.link.ours());
}

/** Watch that a prefix is never without a best path; call what it answers to stop and to have it judged. */
function watch(trial: Trial, speaker: Speaker, prefix: string): () => void {
  const { family } = prefixOf(prefix);
  const rib = speaker.ribs[family.index];
  let told = '';
  const look = (ids: Int32Array, count: number) => {
    const isGone = ids
      .subarray(0, count)
      .some((id) => formatPrefix(rib.prefixOf(id)) === prefix && !rib.hasBest(id));
    if (isGone) told ||= JSON.stringify(trial.status(speaker).theirs);
  };
  rib.on('change', look);
  return () => {
    rib.off('change', look);
    if (told) throw new Error(`tortie withdrew ${prefix} meanwhile; the peer's OPEN then: ${told}`);
  };
}

const sorted = (values: Iterable<string>) => [...values].sort().join(' ');

export const CELLS: readonly Cell[] = [
  {
    id: 'dial',
    title: 'Session that tortie dials; IPv4 both ways',
    quick: true,
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      await exchange(trial, await trial.startSpeaker({ originate: originate(OURS) }));
    },
  },
  {
    id: 'accept',
    title: 'Session that the peer dials; IPv4 both ways',
    run: async (trial) => {
      const speaker = await trial.startSpeaker({
        originate: originate(OURS),
        peers: [trial.peer({ passive: true })],
      });
      await trial.startDaemon({ routes: routes(THEIRS), peerings: [trial.peering({ passive: false })] });
      await exchange(trial, speaker);
    },
  },
  {
    id: 'collision',
    title: 'Both dial: one session stays',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS), peerings: [trial.peering({ passive: false })] });
      await exchange(trial, await trial.startSpeaker({ originate: originate(OURS) }));
    },
  },
  {
    id: 'withdraw',
    title: 'Withdrawal by tortie; session end by the peer',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS, OURS_TOO) });
      await exchange(trial, speaker);
      await trial.held(OURS_TOO);
      await speaker.reconfigure(trial.speakerConfig({ originate: originate(OURS) }));
      await trial.dropped(OURS_TOO);
      await trial.held(OURS);
      await trial.driver.stop();
      await trial.ended(speaker, /./);
      await trial.forgotten(speaker, THEIRS);
    },
  },
  {
    id: 'ipv6',
    title: 'IPv6 over a session of its own, both ways',
    quick: true,
    run: async (trial) => {
      const { link } = trial;
      const six = { peer: link.ours(0, 6), local: link.theirs(6), families: ['ipv6'] as const };
      await trial.startDaemon({ routes: routes(THEIRS6), peerings: [trial.peering(six)] });
      const address = link.theirs(6);
      const peers = [trial.peer({ address })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS6), peers });
      await trial.established(speaker, { address, ours: link.ours(0, 6) });
      await trial.learnt(speaker, THEIRS6, ({ nextHop }) => nextHop?.text === link.theirs(6));
      await trial.held(OURS6, ({ nextHop }) => nextHop === link.ours(0, 6));
    },
  },
  {
    id: 'multiprotocol',
    title: 'Both families over one IPv4 session',
    run: async (trial) => {
      const families = ['ipv4', 'ipv6'] as const;
      await trial.startDaemon({
        routes: routes(THEIRS, THEIRS6),
        peerings: [trial.peering({ families })],
      });
      const peers = [trial.peer({ families, nextHop6: trial.link.ours(0, 6) })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS, OURS6), peers });
      await exchange(trial, speaker);
      await trial.learnt(speaker, THEIRS6);
      await trial.held(OURS6, ({ nextHop }) => nextHop === trial.link.ours(0, 6));
    },
  },
  {
    id: 'external',
    title: 'eBGP with a 4-octet AS number',
    run: async (trial) => {
      await trial.startDaemon({ asn: OTHER_ASN, routes: routes(THEIRS) });
      const peers = [trial.peer({ asn: OTHER_ASN })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
      await exchange(trial, speaker);
      await trial.learnt(speaker, THEIRS, ({ attributes: { asPath } }) => asPath[0]?.asns[0] === OTHER_ASN);
      await trial.held(OURS, ({ asPath }) => asPath === `${ASN}`);
    },
  },
  {
    id: 'as-trans',
    title: 'AS_PATH through a peer without 4-octet AS numbers (RFC 6793)',
    run: async (trial) => {
      const { link } = trial;
      const [old, last] = [64_999, 64_513];
      const more = { as4: false };
      const peerings = [trial.peering(more), trial.peering({ ...more, peerAsn: last }, 2)];
      await trial.startDaemon({ asn: old, peerings });
      const source = trial.peer({ asn: OTHER_ASN, address: link.ours(1), passive: true });
      await trial.startSpeaker({ peers: [trial.peer({ asn: old }), source] });
      await trial.startSpeaker({
        index: 1,
        asn: OTHER_ASN,
        originate: originate(OURS),
        peers: [trial.peer({ address: link.ours() })],
      });
      const receiver = await trial.startSpeaker({ index: 2, asn: last, peers: [trial.peer({ asn: old })] });
      // What the session cannot carry is in AS4_PATH. Daemons that know it although they were told to do without show both in one.
      const shown = [`${ASN} ${AS_TRANS}`, `${ASN} ${OTHER_ASN}`];
      await trial.held(OURS, ({ asPath }) => shown.includes(asPath));
      const path = await trial.learnt(receiver, OURS);
      const text = asPathText(path.attributes.asPath);
      if (text !== `${old} ${ASN} ${OTHER_ASN}`) throw new Error(`the AS_PATH behind the peer is ${text}`);
    },
  },
  {
    id: 'attributes',
    title: 'ORIGIN, MULTI_EXIT_DISC and LOCAL_PREF',
    run: async (trial) => {
      await trial.startDaemon({});
      const speaker = await trial.startSpeaker();
      await trial.established(speaker);
      trial.originate(speaker, OURS, { origin: INCOMPLETE, med: 77, localPref: 222 });
      await trial.held(
        OURS,
        ({ origin, med, localPref }) => origin === 'incomplete' && med === 77 && localPref === 222,
      );
    },
  },
  communities(
    'communities',
    'Communities, both ways',
    { communities: ['64512:1', '64512:2'] },
    { communities: [0xfc000003, 0xfc000004] },
  ),
  communities(
    'large',
    'Large communities, both ways',
    { largeCommunities: ['64512:1:2', '4200000001:3:4294967295'] },
    { largeCommunities: [64512, 5, 6, OTHER_ASN, 7, 0xffffffff] },
  ),
  communities(
    'extended',
    'Extended communities, both ways',
    { extendedCommunities: ['rt:64512:1', 'rt:64512:2'] },
    { extendedCommunities: [0x0002fc00, 3, 0x0002fc00, 4] },
  ),
  {
    id: 'refresh-ask',
    title: 'Route refresh that tortie asks for',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      const before = trial.status(speaker).counters.updatesIn;
      if (!speaker.refresh(trial.link.theirs())) throw new Error('the peer does not offer route refresh');
      await trial.until(
        'all is told again',
        () => trial.status(speaker).counters.updatesIn > before,
        () => trial.driver.describe(trial.link.ours()),
      );
      await exchange(trial, speaker);
    },
  },
  {
    id: 'refresh-answer',
    title: 'Route refresh that the peer asks for',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      const before = trial.status(speaker).counters;
      await trial.driver.refresh(trial.link.ours());
      await trial.until(
        'the peer asks',
        () => trial.status(speaker).counters.refreshesIn > before.refreshesIn,
      );
      await trial.until(
        'it is answered',
        () => trial.status(speaker).counters.updatesOut > before.updatesOut,
      );
      await exchange(trial, speaker);
    },
  },
  {
    id: 'refresh-marks',
    title: 'Enhanced route refresh (RFC 7313): its beginning and end are marked both ways',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      const { address } = trial.status(speaker);
      const heard: string[] = [];
      speaker.on('message', (_peer, direction, messages) => {
        if (messages[18] === ROUTE_REFRESH) heard.push(`${direction} ${messages[21]}`);
      });
      // Ours is answered between marks, and theirs, which we ask for by a command, too.
      speaker.refresh(address);
      await trial.until(
        'marks of the peer',
        () => heard.includes('in 1') && heard.includes('in 2'),
        () => `heard: ${heard.join(', ')}`,
      );
      heard.length = 0;
      await trial.driver.refresh(trial.link.ours());
      await trial.until(
        'our own marks',
        () => heard.includes('in 0') && heard.includes('out 1') && heard.includes('out 2'),
        () => `heard: ${heard.join(', ')}`,
      );
      await exchange(trial, speaker);
    },
  },
  {
    id: 'md5-dial',
    title: 'MD5 (RFC 2385), tortie dials',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS), peerings: [trial.peering({ password: PASSWORD })] });
      const wrong = trial.speakerConfig({
        originate: originate(OURS),
        peers: [trial.peer({ password: 'no' })],
      });
      const speaker = await trial.startSpeaker(wrong);
      await trial.ended(speaker, /cannot connect|no answer/);
      const right = [trial.peer({ password: PASSWORD })];
      await speaker.reconfigure({ ...wrong, peers: right });
      await exchange(trial, speaker);
    },
  },
  {
    id: 'md5-accept',
    title: 'MD5, the peer dials',
    run: async (trial) => {
      const peers = [trial.peer({ password: PASSWORD, passive: true })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
      const peerings = [trial.peering({ password: PASSWORD, passive: false })];
      await trial.startDaemon({ routes: routes(THEIRS), peerings });
      await exchange(trial, speaker);
    },
  },
  {
    id: 'md5-ipv6',
    title: 'MD5 over IPv6',
    run: async (trial) => {
      const { link } = trial;
      const six = { peer: link.ours(0, 6), local: link.theirs(6), families: ['ipv6'] as const };
      await trial.startDaemon({
        routes: routes(THEIRS6),
        peerings: [trial.peering({ ...six, password: PASSWORD })],
      });
      const address = link.theirs(6);
      const speaker = await trial.startSpeaker({
        originate: originate(OURS6),
        peers: [trial.peer({ address, password: PASSWORD })],
      });
      await trial.established(speaker, { address, ours: link.ours(0, 6) });
      await trial.learnt(speaker, THEIRS6);
      await trial.held(OURS6);
    },
  },
  {
    id: 'ttl',
    title: 'TTL security (RFC 5082)',
    run: async (trial) => {
      const peerings = [trial.peering({ ttlSecurity: true })];
      await trial.startDaemon({ asn: OTHER_ASN, routes: routes(THEIRS), peerings });
      const peers = [trial.peer({ asn: OTHER_ASN, ttlSecurity: 1 })];
      await exchange(trial, await trial.startSpeaker({ originate: originate(OURS), peers }));
    },
  },
  {
    id: 'restart-helper',
    title: 'Graceful restart of the peer: tortie keeps its routes',
    run: async (trial) => {
      const peerings = [trial.peering({ restartTime: RESTART_S })];
      await trial.startDaemon({ peerings, routes: routes(THEIRS, THEIRS_TOO) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      await trial.learnt(speaker, THEIRS_TOO);
      await trial.until('End-of-RIB', () => trial.status(speaker).families[0]!.endOfRibReceived);
      const unwatched = watch(trial, speaker, THEIRS);
      await trial.driver.crash();
      await trial.ended(speaker, /./);
      await trial.learnt(speaker, THEIRS_TOO, ({ stale }) => stale);
      await trial.startDaemon({ peerings, routes: routes(THEIRS) }, { restarting: true });
      await exchange(trial, speaker);
      await trial.forgotten(speaker, THEIRS_TOO);
      await trial.learnt(speaker, THEIRS, ({ stale }) => !stale);
      unwatched();
    },
  },
  {
    id: 'restart',
    title: 'Graceful restart of tortie: the peer keeps its routes',
    run: async (trial) => {
      const peerings = [trial.peering({ restartTime: RESTART_S })];
      await trial.startDaemon({ peerings, routes: routes(THEIRS) });
      const first = await trial.startSpeaker({ originate: originate(OURS, OURS_TOO) });
      await exchange(trial, first);
      await trial.held(OURS_TOO);
      await first.stop({ restarting: true });
      await trial.until(
        'the daemon sees the end of the session',
        async () => !(await trial.driver.isEstablished(trial.link.ours())),
      );
      const kept = await trial.driver.routes(OURS_TOO);
      if (kept.length === 0) throw new Error('the daemon dropped the routes at once');
      const second = await trial.startSpeaker({ originate: originate(OURS), restarting: true });
      await trial.until('the session is back', async () => {
        if ((await trial.driver.routes(OURS)).length === 0)
          throw new Error('the daemon dropped a route meanwhile');
        return trial.status(second).state === 'Established';
      });
      await exchange(trial, second);
      await trial.dropped(OURS_TOO);
    },
  },
  {
    id: 'long-lived-helper',
    title: 'Long-lived graceful restart of the peer (RFC 9494)',
    run: async (trial) => {
      const peerings = [trial.peering({ restartTime: 1, longLivedTime: 600 })];
      await trial.startDaemon({ peerings, routes: routes(THEIRS) });
      const peers = [trial.peer({ longLivedTime: 600 })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
      await exchange(trial, speaker);
      await trial.driver.crash();
      await trial.ended(speaker, /./);
      const rib = speaker.ribs[0];
      await trial.until('the route is long-lived stale', () => {
        const route = rib.lookup([0x0a420001]);
        return route !== null && [...rib.ids()].some((id) => rib.bestIsLongLivedStale(id));
      });
      await trial.startDaemon({ peerings, routes: routes(THEIRS) }, { restarting: true });
      await exchange(trial, speaker);
      await trial.learnt(speaker, THEIRS, ({ stale }) => !stale);
    },
  },
  {
    id: 'long-lived',
    title: 'Long-lived graceful restart of tortie',
    run: async (trial) => {
      const peerings = [trial.peering({ restartTime: 1, longLivedTime: 600 })];
      await trial.startDaemon({ peerings, routes: routes(THEIRS) });
      const peers = [trial.peer({ restartTime: 1, longLivedTime: 600 })];
      const first = await trial.startSpeaker({ originate: originate(OURS), peers });
      await exchange(trial, first);
      await first.stop({ restarting: true });
      await trial.held(OURS, ({ communities }) =>
        communities.some((c) => c === '65535:6' || /llgr.stale/i.test(c)),
      );
      const second = await trial.startSpeaker({ originate: originate(OURS), peers, restarting: true });
      await exchange(trial, second);
      await trial.held(OURS, ({ communities }) => communities.length === 0);
    },
  },
  {
    id: 'reflector',
    title: 'tortie reflects between the peer and another client',
    run: async (trial) => {
      const { link } = trial;
      await trial.startDaemon({ routes: routes(THEIRS) });
      const client = { reflectorClient: true };
      const peers = [trial.peer(client), trial.peer({ ...client, address: link.ours(1), passive: true })];
      const reflector = await trial.startSpeaker({ peers, clusterId: '9.9.9.9' });
      const other = await trial.startSpeaker({
        index: 1,
        originate: originate(OURS),
        peers: [trial.peer({ address: link.ours() })],
      });
      await trial.established(reflector);
      // The next hop is who announced it, not the reflector.
      await trial.held(OURS, ({ nextHop }) => nextHop === link.ours(1));
      const path = await trial.learnt(other, THEIRS, ({ nextHop }) => nextHop?.text === link.theirs());
      if (path.attributes.originatorId === null || path.attributes.clusterList.length !== 1) {
        throw new Error('the reflected route has no ORIGINATOR_ID or CLUSTER_LIST');
      }
    },
  },
  {
    id: 'client',
    title: 'tortie is a client of the peer as reflector',
    run: async (trial) => {
      const { link } = trial;
      const peerings = [trial.peering({ client: true }), trial.peering({ client: true }, 1)];
      await trial.startDaemon({ peerings });
      const one = await trial.startSpeaker({ originate: originate(OURS) });
      const two = await trial.startSpeaker({ index: 1, originate: originate(OURS_TOO) });
      await trial.established(one);
      for (const [speaker, prefix, nextHop] of [
        [one, OURS_TOO, link.ours(1)],
        [two, OURS, link.ours()],
      ] as const) {
        const path = await trial.learnt(speaker, prefix, (found) => found.nextHop?.text === nextHop);
        if (path.attributes.originatorId === null || path.attributes.clusterList.length !== 1) {
          throw new Error('the reflected route has no ORIGINATOR_ID or CLUSTER_LIST');
        }
      }
      await one.stop();
      await trial.forgotten(two, OURS);
    },
  },
  {
    id: 'paths-receive',
    title: 'Add-path: tortie receives several paths',
    run: async (trial) => {
      const { driver } = trial;
      const receiver = { addPath: 'send', client: driver.reflects } as const;
      const peers = [trial.peer({ addPath: { receive: true } })];
      let speaker: Speaker;
      if (driver.reflects) {
        const client = { client: true };
        const peerings = [trial.peering(receiver), trial.peering(client, 1), trial.peering(client, 2)];
        await trial.startDaemon({ peerings });
        speaker = await trial.startSpeaker({ peers });
        for (const index of [1, 2]) await trial.startSpeaker({ index, originate: originate(THEIRS) });
      } else {
        const both = [1, 2].map((pathId) => ({ prefix: THEIRS, pathId }));
        await trial.startDaemon({ peerings: [trial.peering(receiver)], routes: both });
        speaker = await trial.startSpeaker({ peers });
      }
      await trial.established(speaker);
      const told = () =>
        trial.paths(speaker, THEIRS).map(({ pathId, nextHop }) => `${nextHop?.text}#${pathId}`);
      await trial.until(
        'two paths',
        () => new Set(told()).size === 2,
        () => `paths: ${told().join(', ') || 'none'}; ${JSON.stringify(trial.status(speaker).theirs)}`,
      );
    },
  },
  {
    id: 'paths-send',
    title: 'Add-path: tortie sends several paths',
    run: async (trial) => {
      const { link } = trial;
      await trial.startDaemon({ peerings: [trial.peering({ addPath: 'receive' })] });
      const client = { reflectorClient: true, passive: true };
      const peers = [
        trial.peer({ reflectorClient: true, addPath: { send: 2 } }),
        ...[1, 2].map((index) => trial.peer({ ...client, address: link.ours(index) })),
      ];
      const speaker = await trial.startSpeaker({ peers });
      for (const index of [1, 2]) {
        const reflector = [trial.peer({ address: link.ours() })];
        await trial.startSpeaker({ index, originate: originate(OURS), peers: reflector });
      }
      await trial.established(speaker);
      const nextHops = async () => sorted((await trial.driver.routes(OURS)).map(({ nextHop }) => nextHop));
      const expected = sorted([link.ours(1), link.ours(2)]);
      await trial.until(
        'two paths at the daemon',
        async () => (await nextHops()) === expected,
        async () => `next hops: ${await nextHops()}`,
      );
    },
  },
  {
    id: 'limit-ours',
    title: 'Prefix limit of tortie ends the session',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS, THEIRS_TOO, '10.66.2.0/26') });
      const speaker = await trial.startSpeaker({ peers: [trial.peer({ maxPrefixes: 2 })] });
      await trial.ended(speaker, /more than 2 ipv4 prefixes/);
      const { state } = trial.status(speaker);
      if (state !== 'Idle') throw new Error(`the session is tried again at once: ${state}`);
      await trial.until(
        'the daemon sees the end',
        async () => !(await trial.driver.isEstablished(trial.link.ours())),
      );
    },
  },
  {
    id: 'limit-theirs',
    title: 'Prefix limit of the peer ends the session',
    run: async (trial) => {
      await trial.startDaemon({ peerings: [trial.peering({ maxPrefixes: 2 })] });
      const prefixes = [OURS, OURS_TOO, ...['10.65.2.0/26', '10.65.3.0/26', '10.65.4.0/26']];
      const speaker = await trial.startSpeaker({ originate: originate(...prefixes) });
      await trial.ended(speaker, /maximum number of prefixes/);
    },
  },
  {
    id: 'shutdown-send',
    title: 'Shutdown text from tortie (RFC 9003)',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      await speaker.reconfigure(trial.speakerConfig({ peers: [trial.peer({ shutdown: TEXT })] }));
      await trial.said(new RegExp(TEXT));
    },
  },
  {
    id: 'shutdown-receive',
    title: 'Shutdown text from the peer',
    run: async (trial) => {
      await trial.startDaemon({ routes: routes(THEIRS) });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      await trial.driver.shutdown(trial.link.ours(), TEXT);
      await trial.ended(speaker, new RegExp(TEXT));
    },
  },
  {
    id: 'graceful-shutdown',
    title: 'Graceful shutdown of tortie: GRACEFUL_SHUTDOWN on all routes (RFC 8326)',
    run: async (trial) => {
      await trial.startDaemon({ asn: OTHER_ASN, routes: routes(THEIRS) });
      const peers = [trial.peer({ asn: OTHER_ASN })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
      await exchange(trial, speaker);
      const leaving = [trial.peer({ asn: OTHER_ASN, gracefulShutdown: true })];
      await speaker.reconfigure(trial.speakerConfig({ originate: originate(OURS), peers: leaving }));
      await trial.held(OURS, ({ communities }) =>
        communities.some((community) => community === '65535:0' || /graceful.?shutdown/i.test(community)),
      );
    },
  },
  {
    id: 'next-hop6',
    title: 'IPv4 with IPv6 next hops (RFC 8950), both ways',
    run: async (trial) => {
      const { link } = trial;
      const families = ['ipv4', 'ipv6'] as const;
      const six = { peer: link.ours(0, 6), local: link.theirs(6), families, nextHop6: true };
      await trial.startDaemon({ routes: routes(THEIRS), peerings: [trial.peering(six)] });
      const address = link.theirs(6);
      const peers = [trial.peer({ address, families })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
      await trial.established(speaker, { address, ours: link.ours(0, 6) });
      await trial.learnt(speaker, THEIRS, ({ nextHop }) => nextHop?.text === link.theirs(6));
      await trial.held(OURS, ({ nextHop }) => nextHop === link.ours(0, 6));
    },
  },
  {
    id: 'roles',
    title: 'Roles (RFC 9234): provider and customer agree; two providers do not',
    run: async (trial) => {
      const daemon = (role: 'customer' | 'provider') => ({
        asn: OTHER_ASN,
        routes: routes(THEIRS),
        peerings: [trial.peering({ role })],
      });
      await trial.startDaemon(daemon('customer'));
      const peers = [trial.peer({ asn: OTHER_ASN, role: 'provider', strictRole: true })];
      const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
      await exchange(trial, speaker);
      await trial.driver.crash();
      await trial.startDaemon(daemon('provider'));
      await trial.ended(speaker, /role mismatch/);
    },
  },
  {
    id: 'only-to-customer',
    title: 'Only to Customer (RFC 9234): on routes of a provider, either way',
    run: async (trial) => {
      for (const [ours, theirs] of [
        ['customer', 'provider'],
        ['provider', 'customer'],
      ] as const) {
        const peerings = [trial.peering({ role: theirs })];
        await trial.startDaemon({ asn: OTHER_ASN, routes: routes(THEIRS), peerings });
        const peers = [trial.peer({ asn: OTHER_ASN, role: ours })];
        const speaker = await trial.startSpeaker({ originate: originate(OURS), peers });
        await exchange(trial, speaker);
        // From a provider: it, or we for it, have marked the route as one for customers alone.
        const { attributes } = await trial.learnt(speaker, THEIRS);
        const expected = ours === 'customer' ? OTHER_ASN : null;
        if (attributes.otc !== expected) throw new Error(`OTC of the peer's route: ${attributes.otc}`);
        if (theirs === 'customer') {
          await trial.held(OURS, ({ otc }) => otc === undefined || otc === ASN);
        }
        await speaker.stop();
        await trial.driver.crash();
      }
    },
  },
  {
    id: 'extended-messages',
    title: 'Extended messages (RFC 8654): a route larger than 4096 bytes',
    run: async (trial) => {
      const peerings = [trial.peering({ extendedMessages: true })];
      await trial.startDaemon({ routes: routes(THEIRS), peerings });
      const speaker = await trial.startSpeaker({ originate: originate(OURS) });
      await exchange(trial, speaker);
      const count = 1500;
      const communities = Array.from({ length: count }, (_, value) => ((ASN << 16) | value) >>> 0);
      trial.originate(speaker, OURS_TOO, { communities });
      // Some daemons print only the first of so many.
      await trial.held(OURS_TOO, (path) => path.communities.includes(`${ASN}:0`));
    },
  },
  {
    id: 'bfd',
    title: 'BFD (RFC 5880, 5881): up; silence ends the session; it comes back',
    run: async (trial) => {
      const { link } = trial;
      await trial.startDaemon({ routes: routes(THEIRS), peerings: [trial.peering({ bfd: true })] });
      const config = trial.speakerConfig({
        originate: originate(OURS),
        peers: [trial.peer({ bfd: { minTxMs: 100, minRxMs: 100 } })],
      });
      const speaker = await trial.startSpeaker(config);
      const bfd = new BfdClient({
        socket: trial.file('bfd.sock'),
        onState: ({ peer, text, failed, independent }) => speaker.bfdChanged(peer, text, failed, independent),
        log: () => {},
      });
      trial.onClose(async () => bfd.stop());
      bfd.configure(bfdSessions(config));
      await exchange(trial, speaker);
      const told = () => `BFD here: ${trial.status(speaker).bfd ?? bfd.problem}`;
      await trial.until('BFD is up here', () => trial.status(speaker).bfd?.startsWith('Up'), told);
      await trial.until('BFD is up there', () => trial.driver.bfdIsUp!(link.ours()), told);
      // Nothing comes from there any more, and nobody says so: the hold time is 90 s.
      await trial.driver.place.silence(link.ours(), true);
      await trial.ended(speaker, /BFD/);
      await trial.driver.place.silence(link.ours(), false);
      await exchange(trial, speaker);
    },
  },
];

function communities(
  id: string,
  title: string,
  theirs: { communities?: string[]; largeCommunities?: string[]; extendedCommunities?: string[] },
  ours: { communities?: number[]; largeCommunities?: number[]; extendedCommunities?: number[] },
): Cell {
  const key = Object.keys(theirs)[0] as 'communities' | 'largeCommunities' | 'extendedCommunities';
  const texts = {
    communities: (values: readonly number[]) => values.map(communityText),
    largeCommunities: largeCommunityTexts,
    extendedCommunities: extendedCommunityTexts,
  }[key];
  return {
    id,
    title,
    quick: id === 'large',
    run: async (trial) => {
      await trial.startDaemon({ routes: [{ prefix: THEIRS, ...theirs }] });
      const speaker = await trial.startSpeaker();
      await trial.established(speaker);
      trial.originate(speaker, OURS, ours);
      const path = await trial.learnt(speaker, THEIRS);
      const got = sorted(texts(path.attributes[key]));
      if (got !== sorted(theirs[key]!))
        throw new Error(`tortie has ${got || 'none'} of ${sorted(theirs[key]!)}`);
      const expected = sorted(texts(ours[key]!));
      await trial.held(OURS, (held) => sorted(held[key]) === expected);
    },
  };
}
