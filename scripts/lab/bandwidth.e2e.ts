/** Limits of bandwidth that a runtime asks for: both ways, TCP and UDP, on one node and across. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { noLab } from './in-lab.ts';
import { Site, type SitePod } from './site.ts';
import { tcp } from './traffic.ts';

const MBIT = 1e6;
const SECONDS = 2;
const FROM_POD = 20 * MBIT;
const TO_POD = 40 * MBIT;
const BURST = MBIT;

describe.skipIf(noLab)('a pod with limits', () => {
  let site: Site;
  let limited: SitePod;
  let free: SitePod;
  let far: SitePod;
  beforeAll(async () => {
    site = await Site.create({ nodes: 2 });
    await site.apply({
      kind: 'IPPool',
      metadata: { name: 'pods' },
      spec: { cidr: '10.65.0.0/16', vxlanMode: 'Always' },
    });
    const bandwidth = { ingressRate: TO_POD, ingressBurst: BURST, egressRate: FROM_POD, egressBurst: BURST };
    limited = await site.addPod('limited', 1, { capabilities: { bandwidth } });
    free = await site.addPod('free', 1);
    far = await site.addPod('far', 2);
    await site.routed(1, far.address, 'vxlan');
    await site.routed(2, limited.address, 'vxlan');
  });
  afterAll(() => site?.close());

  /** Bits a second that arrived. */
  const rate = async (from: SitePod, to: SitePod, ...options: string[]) =>
    ((await tcp(site.lab, from.name, to.name, to.address, ['-t', String(SECONDS), ...options])) * 8) /
    SECONDS;
  /** Payload is less than what is counted; a burst passes at once, and what waits in the device goes on behind the end. */
  const expectNear = (measured: number, limit: number) => {
    expect(measured).toBeGreaterThan(0.7 * limit);
    expect(measured).toBeLessThan(limit * (1 + 0.6 / SECONDS) + (2 * BURST + 2 * MBIT) / SECONDS);
  };

  it('shows them', async () => {
    const port = (await site.api(1).ports()).find(({ limits }) => limits !== undefined);
    expect(port?.limits).toEqual({ fromPod: FROM_POD, toPod: TO_POD });
  });

  it.each(['free', 'far'])('sends and receives at its rates, TCP, to and from the %s pod', async (name) => {
    const other = name === 'free' ? free : far;
    expectNear(await rate(limited, other), FROM_POD);
    expectNear(await rate(other, limited), TO_POD);
  });

  it('and UDP, of which the rest is dropped by that name', async () => {
    expectNear(await rate(limited, free, '-u', '-b', '100M', '-l', '1200'), FROM_POD);
    expectNear(await rate(free, limited, '-u', '-b', '100M', '-l', '1200'), TO_POD);
    const drops = await site.api(1).drops();
    expect(drops.some(({ reason }) => reason === 'bandwidth')).toBe(true);
    for (const { name, counters } of await site.api(1).ports()) {
      const { rxFrames, delivered, consumed, dropped } = counters as Record<string, number>;
      expect(rxFrames! - delivered! - consumed! - dropped!, name).toBe(0);
    }
  });

  it('leaves others alone, and ends with the limit', async () => {
    expect(await rate(free, far)).toBeGreaterThan(3 * TO_POD);
    const wep = `node1-k8s-limited-eth0`;
    await site.tortie(1, 'patch', 'wep', wep, '-p', '{"spec":{"qosControls":null}}', '-t', 'merge');
    await until('the limit is gone', async () => (await site.api(1).ports()).every(({ limits }) => !limits));
    expect(await rate(limited, free)).toBeGreaterThan(3 * TO_POD);
  });
});
