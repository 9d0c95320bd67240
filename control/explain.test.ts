import { describe, expect, it } from 'vitest';
import { type PortCounters, readPortCounters } from '../dataplane/counters.ts';
import { BLACKHOLE } from '../dataplane/fib/adjacency.ts';
import { PipelineFuzzer } from '../dataplane/fuzz.ts';
import {
  frame,
  GATEWAY,
  MAC_A,
  PEER_VXLAN,
  POD_A,
  packet,
  packet6,
  Scenario,
  VXLAN_PORT_ID,
  vxlanPayload,
} from '../dataplane/scenario.ts';
import { TYPE_IPV6 } from '../dataplane/wire/ethernet.ts';
import { formatAddress4 } from './address.ts';
import { explain, type Names } from './explain.ts';
import { frameText } from './frame-text.ts';

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

describe('for programs', () => {
  const stepsOf = (port: number, bytes: Uint8Array, from = 0) => {
    const scenario = new Scenario();
    scenario.pipeline.setTrace({ count: 1 });
    scenario.receive(port, bytes, from);
    const { steps } = explain(scenario.pipeline.takeTraces()[0]!.steps, names);
    return (name: string) => {
      const { step: _, text: __, ...rest } = steps.find(({ step }) => step === name)!;
      return rest;
    };
  };

  it('has fields of IPv4 apart, and addresses of both layers as text', () => {
    const of = stepsOf(POD_A, frame(packet({ ttl: 9 })));
    const ends = { source: '10.65.0.2', destination: '10.65.0.3' };
    expect(of('header')).toEqual({ ...ends, ttl: 9, protocol: 17, length: 32 });
    expect(of('source-checked')).toEqual({ source: '10.65.0.2', against: 'pod' });
    expect(of('link')).toEqual({ mac: '02:00:00:00:00:0b' });
  });

  it('has addresses of IPv6 as text', () => {
    const inner = packet6({ source: 'fd65::1:2', destination: 'fd65::2' });
    const of = stepsOf(VXLAN_PORT_ID, vxlanPayload(inner, { type: TYPE_IPV6 }), PEER_VXLAN);
    expect(of('source6')).toEqual({ address: 'fd65::1:2' });
    expect(of('source-checked6')).toEqual({ against: 'peer' });
  });

  it('names errors by type and code', () => {
    const beyond = packet6({ source: 'fe80::2', destination: 'fd65::1:2' });
    const of = stepsOf(POD_A, frame(beyond, GATEWAY, MAC_A, TYPE_IPV6));
    expect(of('icmp6-error')).toEqual({ type: 1, code: 2, word: 0 });
  });
});

it('tells of ICMP errors that nobody gets', () => {
  const scenario = new Scenario();
  // Of a tunnel's far end, by whose address nothing leads back.
  scenario.route('192.0.2.2', 32, { kind: BLACKHOLE });
  scenario.pipeline.setTrace({ count: 1 });
  const expired = packet({ source: '192.0.2.2', destination: '10.65.0.2', ttl: 1 });
  expect(scenario.receive(VXLAN_PORT_ID, vxlanPayload(expired), PEER_VXLAN)).toEqual([]);
  const { steps } = explain(scenario.pipeline.takeTraces()[0]!.steps, names);
  expect(steps.at(-1)).toMatchObject({
    text: 'ICMP 11/0 time exceeded not sent: nothing leads to the sender',
    why: 'nothing leads to the sender',
  });
});

it('tells the end that the account has, of any frames', () => {
  const fuzzer = new PipelineFuzzer(11);
  const { pipeline, tables } = fuzzer.scenario;
  const counters = new Float64Array(tables.counters);
  const receive = pipeline.receiveBurst.bind(pipeline);
  const trace = pipeline.setTrace.bind(pipeline);
  const take = pipeline.takeTraces.bind(pipeline);
  pipeline.setTrace = () => undefined;
  pipeline.takeTraces = () => [];
  pipeline.receiveBurst = (port, rows, count) => {
    const before = dropsOf(readPortCounters(counters, port));
    trace({ count });
    receive(port, rows, count);
    const told: Record<string, number> = {};
    const packets = take();
    expect(packets).toHaveLength(count);
    for (const { steps: record, bytes } of packets) {
      for (const outermost of ['ethernet', 'vxlan', 'ip'] as const) frameText(bytes, outermost);
      const { steps, verdict } = explain(record, names);
      expect(steps.filter(({ text }) => /undefined|NaN|null/.test(text))).toEqual([]);
      expect(verdict).toMatch(/^(sent on|dropped: |consumed|held: )/);
      const [, reason] = /^dropped: (.*)/.exec(verdict) ?? [];
      if (reason) told[reason] = (told[reason] ?? 0) + 1;
    }
    const after = dropsOf(readPortCounters(counters, port));
    for (const reason of Object.keys({ ...told, ...after })) {
      // Fragments that waited may end with another packet than their own.
      if (WITH_OTHERS.has(reason)) continue;
      expect([reason, told[reason] ?? 0]).toEqual([reason, (after[reason] ?? 0) - (before[reason] ?? 0)]);
    }
  };
  for (let frames = 0; frames < 10_000; ) frames += fuzzer.burst();
  fuzzer.report();
});

const WITH_OTHERS = new Set(['fragment_overlap', 'outer_fragment', 'reassembly_full', 'reassembly_timeout']);

const dropsOf = ({ drops }: PortCounters): Record<string, number> =>
  Object.fromEntries(drops.map(({ reason, packets }) => [reason, packets]));
