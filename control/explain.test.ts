import { expect, it } from 'vitest';
import { frame, POD_A, packet, Scenario } from '../dataplane/scenario.ts';
import { formatAddress4 } from './address.ts';
import { explain, type Names } from './explain.ts';

const names: Names = {
  port: (id) => `port${id}`,
  route: () => ({ prefix: '10.65.1.0/26', via: 'vxlan', origin: 'bgp 192.0.2.9 (AS 64512)' }),
};

it('tells the way of a packet through a tunnel', () => {
  const scenario = new Scenario();
  scenario.pipeline.setTrace({ count: 1 });
  scenario.receive(POD_A, frame(packet({ destination: '10.65.1.5' })));
  const { steps, verdict } = explain(scenario.pipeline.takeTraces()[0]!.steps, names);
  expect(steps.map((step) => step.text)).toEqual([
    'received on port1, 46 bytes',
    'IPv4 10.65.0.2 > 10.65.1.5, UDP, ttl 64, 32 bytes: header good',
    'source 10.65.0.2 is the pod’s own',
    'look-up 10.65.1.5: 10.65.1.0/26 vxlan, from bgp 192.0.2.9 (AS 64512), next hop 192.0.2.2',
    '32 bytes, 1450 fit',
    'ttl 64 > 63',
    'into vxlan, 192.0.2.1 > 192.0.2.2, VNI 4096',
    expect.stringMatching(/^outer header: UDP source port \d+, TOS 0x00, ttl 64, 82 bytes in all$/),
    'sent on port4, 82 bytes',
  ]);
  expect(verdict).toBe('sent on port4');
  expect(steps[3]).toMatchObject({
    step: 'lookup',
    destination: '10.65.1.5',
    kind: 'vxlan',
    nextHop: '192.0.2.2',
  });
});

it('tells which of several next hops a flow has', () => {
  const scenario = new Scenario();
  scenario.share('10.65.9.0', 26, ['10.65.1.2', '10.65.2.2']);
  scenario.pipeline.setTrace({ count: 1 });
  const [sent] = scenario.receive(POD_A, frame(packet({ destination: '10.65.9.5' })));
  const { steps } = explain(scenario.pipeline.takeTraces()[0]!.steps, names);
  const hop = formatAddress4(sent!.to);
  const { text, bucket, nextHop } = steps.find(({ step }) => step === 'group')!;
  expect(text).toBe(`several next hops, group 0: the flow has bucket ${bucket}, of ${hop}`);
  expect(nextHop).toBe(hop);
});

it('tells a drop and the error that it caused, and keeps the drop as the verdict', () => {
  const scenario = new Scenario();
  scenario.pipeline.setTrace({ count: 1 });
  scenario.receive(POD_A, frame(packet({ ttl: 1 })));
  const { steps, verdict } = explain(scenario.pipeline.takeTraces()[0]!.steps, names);
  expect(steps.at(-4)!.text).toBe('dropped: ttl_expired, TTL ran out here');
  expect(steps.at(-3)!.text).toBe('ICMP 11/0 time exceeded to 10.65.0.2');
  expect(verdict).toBe('dropped: ttl_expired');
});
