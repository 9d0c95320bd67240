/** An agent that answers the same every time, for tests of what stands around it. */
import { fakeBgp } from './fake-bgp.ts';
import type { AgentApi, RouteView, TraceView } from './types.ts';

const route: RouteView = {
  prefix: '10.65.1.0/26',
  nextHop: '192.0.2.2',
  via: 'ipip',
  port: 'ipip',
  origin: 'bgp 192.0.2.9 (AS 64512)',
};
const fallback: RouteView = {
  prefix: '0.0.0.0/0',
  nextHop: null,
  via: 'host',
  port: 'tortie0',
  origin: 'default',
};
export const tracedPing: TraceView = {
  packet: 1,
  at: '2026-01-02T03:04:05.678Z',
  port: 'pod1',
  kind: 'pod',
  length: 98,
  missed: 0,
  steps: [
    { step: 'received', text: 'received on pod1, 98 bytes', port: 'pod1', length: 98 },
    { step: 'header', text: 'IPv4 10.65.0.2 > 10.65.1.2, ICMP, ttl 64, 84 bytes: header good' },
    { step: 'source-checked', text: 'source 10.65.0.2 is the pod’s own', source: '10.65.0.2' },
    {
      step: 'lookup',
      text: 'look-up 10.65.1.2: 10.65.1.0/26 ipip via 192.0.2.2, from bgp 192.0.2.9 (AS 64512)',
    },
    { step: 'sent', text: 'sent on ipip, 104 bytes', port: 'ipip', length: 104 },
  ],
  verdict: 'sent on ipip',
};

export const fakeAgent = (): AgentApi => ({
  nodeStatus: () => ({
    node: 'node1',
    pid: 4711,
    version: '1.2.3',
    startedAt: '2026-01-01T00:00:00.000Z',
    asNumber: 64512,
    peersV4: [
      {
        address: '192.0.2.2',
        type: 'node-to-node mesh',
        state: 'up',
        since: '2026-01-01T00:00:05.000Z',
        info: 'Established',
        lastError: null,
      },
    ],
    peersV6: [],
  }),
  ports: () => [
    {
      id: 1,
      name: 'pod1',
      kind: 'pod',
      netns: 'ns-pod1',
      device: 'eth0',
      mac: '02:00:00:00:00:01',
      addresses: ['10.65.0.2/32'],
      mtu: 1480,
      workers: [0, 1],
      state: 'up',
      detail: null,
      counters: { rxFrames: 12, txFrames: 9, rxBytes: 1176, txBytes: 882 },
    },
    {
      id: 2,
      name: 'ipip',
      kind: 'ipip',
      netns: null,
      device: '',
      mac: null,
      addresses: ['192.0.2.1'],
      mtu: 1480,
      workers: [0],
      state: 'failed',
      detail: 'socket: EPERM',
      counters: {},
    },
  ],
  routes: () => [route, fallback],
  lookup: (address) => ({ address, route, candidates: [route, fallback] }),
  drops: () => [
    {
      port: 'pod1',
      reason: 'ttl_expired',
      description: 'TTL ran out here',
      packets: 3,
      last: {
        at: '2026-01-02T03:04:05.678Z',
        text: '10.65.0.2:1000 > 10.65.1.2:80 TCP, ttl 1, 60 bytes, DF',
        length: 74,
        bytes: 'eeeeeeeeeeee02000000000a0800',
      },
    },
    { port: 'pod1', reason: 'no_route', description: 'no route to the destination', packets: 1, last: null },
  ],
  explain: ({ from, to }) => ({
    from,
    packet: `10.65.0.2:40000 > ${to}:80 TCP, ttl 64, 40 bytes, DF`,
    length: 54,
    steps: [
      { step: 'received', text: `received on ${from}, 54 bytes` },
      {
        step: 'lookup',
        text: `look-up ${to}: 10.65.1.0/26 vxlan, from datastore node node2, next hop 192.0.2.2`,
      },
    ],
    verdict: 'sent on vxlan',
  }),
  pathMtus: () => [
    {
      peer: '192.0.2.2',
      mtu: 1400,
      from: '198.51.100.1',
      learned: '2026-01-02T03:04:05.678Z',
      until: '2026-01-02T03:14:05.678Z',
    },
  ],
  workers: async () => [
    {
      index: 0,
      threadId: 3,
      state: 'running',
      deaths: 0,
      ports: ['pod1', 'ipip'],
      bursts: 20,
      frames: 21,
      sleeps: 19,
    },
  ],
  runtime: async () => ({
    restart: {
      holder: 'keeper',
      held: 19,
      inherited: 19,
      staleRoutes: 2,
      staleUntil: '2026-01-01T00:02:00.000Z',
    },
    workers: [
      {
        index: 0,
        startedAt: '2026-01-01T00:00:00.000Z',
        deaths: 1,
        wakeups: 19,
        bursts: 20,
        frames: 210,
        busyShare: 0.125,
        busySeconds: 0.5,
        stages: [
          { stage: 'receive', frames: 20, seconds: 0.00002 },
          { stage: 'pipeline', frames: 20, seconds: 0.000004 },
          { stage: 'transmit', frames: 20, seconds: 0.00003 },
        ],
        ports: 2,
        offload: { cut: 3, cutInto: 90, joined: 45, joinedInto: 2 },
      },
    ],
  }),
  metrics: async () => ({
    contentType: 'text/plain; version=0.0.4; charset=utf-8',
    text: '# HELP tortie_routes Routes in the FIB.\n# TYPE tortie_routes gauge\ntortie_routes 2\n',
  }),
  bgp: fakeBgp(),
  configShow: () => ({ nodeName: 'node1', workers: 1 }),
  trace: async (request, emit) => {
    for (let packet = 1; packet <= request.count; packet++) emit({ ...tracedPing, packet });
  },
});
