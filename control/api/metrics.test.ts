import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { DISCARDS, type Discard } from '../bfd/packet.ts';
import { upReport } from '../bfd/test-report.ts';
import { fakeAgent } from './fake-agent.ts';
import { FAMILIES, type MetricsServer, renderMetrics, serveMetrics } from './metrics.ts';

const MANUAL = '../../docs/METRICS.md';
const agent = fakeAgent();
const NO_DISCARDS = Object.fromEntries(DISCARDS.map((reason) => [reason, 0])) as Record<Discard, number>;
const source = async () => ({
  status: agent.nodeStatus(),
  ports: agent.ports(),
  drops: agent.drops(),
  runtime: await agent.runtime(),
  routes: 2,
  paths: { limited: 1, messages: 3 },
  problems: 0,
  hosts: 2,
  blocks: 1,
  inSync: true,
  bgp: { ...agent.bgp.summary(), peers: agent.bgp.peers() },
  bfd: {
    sessions: [upReport],
    statistics: { discards: { ...NO_DISCARDS, session: 3 }, refused: 2, priority: 0 },
  },
});

let server: MetricsServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

it('lists every family; "npx vitest run control/api -u" writes the manual anew', async () => {
  const manual = readFileSync(new URL(MANUAL, import.meta.url), 'utf8');
  const rows = FAMILIES.map(({ name, type, labels, help }) => [
    `\`${name}\``,
    type,
    labels.map((label) => `\`${label}\``).join(', '),
    help,
  ]);
  const all = [['name', 'type', 'labels', 'meaning'], ...rows];
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  const table = [line(all[0]!), '|---|---|---|---|\n', ...rows.map(line)].join('');
  const text = manual.replace(/(<!-- families -->\n\n)(?:\|.*\n)*/, (_, mark: string) => `${mark}${table}`);
  await expect(text).toMatchFileSnapshot(MANUAL);
});

it('renders what Prometheus reads: one HELP and TYPE a family, every sample with its labels', async () => {
  const { text, contentType } = await renderMetrics(await source());
  expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  for (const { name, type } of FAMILIES) expect(text.split(`# TYPE ${name} ${type}\n`)).toHaveLength(2);
  for (const line of text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))) {
    expect(line).toMatch(
      /^(tortie|felix|ipam|bgp)_[a-z_]+(\{([a-z_]+="[^"]*",?)*\})? \d+(\.\d+)?(e[-+]?\d+)?$/,
    );
  }
  for (const line of [
    'tortie_routes 2',
    'tortie_bgp_peer_established{peer="192.0.2.2",type="node-to-node mesh"} 1',
    'bgp_peer_up{peer="192.0.2.2",asn="64512",type="node-to-node mesh"} 1',
    'bgp_peer_state{peer="198.51.100.1"} 3',
    'bgp_last_error_info{peer="198.51.100.1",error="cannot connect: EHOSTUNREACH, it does not answer on its link, or a router cannot reach it"} 1',
    'bgp_routes_received{peer="192.0.2.2",route_family="ipv6-unicast"} 1',
    'bgp_routes_stale{peer="198.51.100.1",route_family="ipv4-unicast"} 1',
    'bgp_messages_total{peer="192.0.2.2",direction="in",type="update"} 4',
    'bgp_messages_total{peer="192.0.2.2",direction="in",type="open"} 1',
    'bgp_session_flaps_total{peer="198.51.100.1"} 2',
    'bgp_bfd_up{peer="192.0.2.2"} 1',
    'bgp_bfd_up{peer="198.51.100.1"} 0',
    'tortie_bfd_failures_total{peer="192.0.2.2"} 4',
    'tortie_bfd_packets_total{peer="192.0.2.2",direction="out"} 110',
    'tortie_bfd_discarded_packets_total{reason="session"} 3',
    'tortie_bfd_discarded_packets_total{reason="refused"} 2',
    'bgp_peer_established_seconds{peer="198.51.100.1"} 0',
    'bgp_rib_prefixes{route_family="ipv4-unicast"} 4',
    'bgp_rib_paths{route_family="ipv4-unicast"} 5',
    'bgp_rib_bytes{route_family="ipv6-unicast"} 983040',
    'bgp_attribute_sets 5',
    'tortie_port_up{port="ipip",kind="ipip"} 0',
    'tortie_port_receive_frames_total{port="pod1",kind="pod"} 12',
    'tortie_port_drops_total{port="pod1",reason="ttl_expired"} 3',
    'tortie_worker_busy_seconds_total{worker="0"} 0.5',
    'tortie_worker_sampled_seconds_total{worker="0",stage="pipeline"} 0.000004',
  ]) {
    expect(text.split('\n')).toContain(line);
  }
});

it('counts every counter of a port under a name of its own', async () => {
  const names = FAMILIES.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { name, type } of FAMILIES) expect(name.endsWith('_total')).toBe(type === 'counter');
});

it('is served over TCP to GET /metrics alone', async () => {
  server = await serveMetrics({ address: '127.0.0.1', port: 0 }, agent);
  const get = (path: string, init = {}) => fetch(`http://127.0.0.1:${server!.port}${path}`, init);
  const response = await get('/metrics');
  expect(response.status).toBe(200);
  expect(await response.text()).toBe((await agent.metrics()).text);
  expect((await get('/v1/ports')).status).toBe(404);
  expect((await get('/metrics', { method: 'POST', body: 'x' })).status).toBe(405);
});

it('survives an agent that fails, and reports it', async () => {
  const reported: unknown[] = [];
  const failing = { metrics: () => Promise.reject(new Error('a bug')) };
  server = await serveMetrics({ address: '127.0.0.1', port: 0 }, failing, (error) => reported.push(error));
  expect((await fetch(`http://127.0.0.1:${server.port}/metrics`)).status).toBe(500);
  expect(reported).toEqual([new Error('a bug')]);
});

it('says what to do when its port is taken', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const bound = other.address();
  const port = bound !== null && typeof bound === 'object' ? bound.port : 0;
  await expect(serveMetrics({ address: '127.0.0.1', port }, agent)).rejects.toMatchObject({
    code: 'METRICS_ADDRESS',
    message: expect.stringContaining('set metrics.address and metrics.port'),
  });
  other.close();
});
