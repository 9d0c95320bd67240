/** What BGP makes of BFD (RFC 5882 section 4 and 10, RFC 9384): over the loopback device. */
import { afterEach, describe, expect, it } from 'vitest';
import type { BfdConfig, PeerConfig, SpeakerConfig } from '../bgp/config.ts';
import { FakePeer, openOf } from '../bgp/fake-peer.ts';
import { keepalive } from '../bgp/message.ts';
import { Speaker } from '../bgp/speaker.ts';
import { announcing, attributesOf, listOf } from '../bgp/test-routes.ts';
import { until } from '../bgp/until.ts';
import { describe as inWords } from './client.ts';
import { bfdSessions } from './sessions.ts';
import { upReport } from './test-report.ts';

const US = '127.78.0.1';
const PEER = '127.78.0.2';
const ASN = 64512;

const config = (peer: Partial<PeerConfig> = {}, more: Partial<SpeakerConfig> = {}): SpeakerConfig => ({
  asn: ASN,
  routerId: US,
  listen: { addresses: [US], port: 0 },
  peers: [{ address: PEER, asn: ASN, passive: true, bfd: {}, label: 'global', ...peer }],
  originate: [],
  ...more,
});

describe('a failure', () => {
  const closers: (() => Promise<void> | void)[] = [];
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });

  /** A session with a peer that keeps our routes over restarts and has told one of its own. */
  async function establish(): Promise<{ speaker: Speaker; peer: FakePeer }> {
    const speaker = new Speaker({ ...config(), log: () => {} });
    closers.push(() => speaker.stop());
    await speaker.start();
    const peer = await FakePeer.dial(PEER, US, speaker.port!);
    closers.push(() => void peer.socket.destroy());
    peer.send(openOf(ASN, PEER, 90, { restartTime: 120 }), keepalive);
    peer.send(...announcing(attributesOf(PEER), listOf('10.1.0.0/16')));
    await until('the route is there', () => count(speaker) === 1);
    return { speaker, peer };
  }
  const count = (speaker: Speaker) => speaker.peers()[0]!.families[0]!.received;

  it('of the path ends the session for good: what failed is forwarding', async () => {
    const { speaker, peer } = await establish();
    speaker.bfdChanged(PEER, 'Down: control detection time expired', true, true);
    // Hard Reset, and in it BFD Down.
    expect(await peer.notification()).toBe('6/9 060a');
    await until('its route is gone', () => count(speaker) === 0);
    expect(speaker.peers()[0]!.lastError).toContain('BFD: Down: control detection time expired');
  });

  it('of a peer whose BFD shares the fate of its BGP may be a restart: its routes are kept', async () => {
    const { speaker, peer } = await establish();
    speaker.bfdChanged(PEER, 'Down: control detection time expired', true, false);
    expect(await peer.notification()).toBe('6/10');
    await until('it may come back', () => speaker.peers()[0]!.restartUntil);
    expect(speaker.peers()[0]!.families[0]).toMatchObject({ received: 1, stale: 1 });
    // It is known to be alone with its control plane until BFD says otherwise.
    speaker.bfdChanged(PEER, 'Down: control detection time expired', true, true);
    await until('its route is gone', () => count(speaker) === 0);
  });

  it('is not what it takes to stay up: a session that was never up, or is AdminDown, holds nothing down', async () => {
    const { speaker, peer } = await establish();
    for (const text of ['Down', 'Init', 'Up, sending every 300 ms, detection 900 ms', 'AdminDown']) {
      speaker.bfdChanged(PEER, text, false);
      expect(speaker.peers()[0]).toMatchObject({ state: 'Established', bfd: text });
    }
    speaker.bfdChanged('127.78.0.9', 'Down', true);
    expect(peer.closed).toBe(false);
  });
});

describe('sessions', () => {
  it('are as the peers ask, from the address that BGP uses', () => {
    const peers: PeerConfig[] = [
      { address: '10.0.0.2', asn: 1, label: 'global', bfd: {} },
      { address: '10.0.0.3', asn: 1, label: 'global' },
      {
        address: '10.0.0.4',
        asn: 1,
        label: 'global',
        bfd: { minTxMs: 50, minRxMs: 60, multiplier: 5, multihop: true },
        localAddress: '10.0.1.1',
      },
      { address: 'fd00::2', asn: 1, label: 'global', bfd: {} },
      { address: '10.0.0.5', asn: 1, label: 'global', bfd: {}, shutdown: '' },
    ];
    const listen = { addresses: ['10.0.0.1'], port: 179 };
    const usual = { multihop: false, minTxMs: 300, minRxMs: 300, multiplier: 3 };
    expect(bfdSessions({ ...config(), listen, peers })).toEqual([
      { peer: '10.0.0.2', local: '10.0.0.1', ...usual },
      { peer: '10.0.0.4', local: '10.0.1.1', multihop: true, minTxMs: 50, minRxMs: 60, multiplier: 5 },
      { peer: 'fd00::2', local: '::', ...usual },
    ]);
  });

  it.each<[BfdConfig, string]>([
    [{ minTxMs: 9 }, 'BFD interval 9 is not within 10 to 60000'],
    [{ minRxMs: 60_001 }, 'BFD interval 60001'],
    [{ multiplier: 0 }, 'BFD multiplier 0 is not within 1 to 255'],
  ])('are refused with %j', (bfd, text) => {
    expect(() => new Speaker({ ...config({ bfd }), log: () => {} })).toThrow(text);
  });

  it('are told in words', () => {
    const report = { ...upReport, txMs: 300, detectionMs: 900 };
    expect(inWords(report)).toBe('Up, sending every 300 ms, detection 900 ms');
    expect(inWords({ ...report, state: 1, diagnostic: 1, remoteState: 1 })).toBe(
      'Down: control detection time expired',
    );
    expect(inWords({ ...report, state: 1, diagnostic: 3, remoteState: 0 })).toBe(
      'Down: the peer is AdminDown',
    );
    expect(inWords({ ...report, state: 1, remoteState: 1 })).toBe('Down');
    expect(inWords({ ...report, problem: 'bind udp' })).toBe('no session: bind udp');
  });
});
