import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readPcap } from '../dataplane/port/pcap.ts';
import { frame, packet, packet6, vxlanPayload } from '../dataplane/scenario.ts';
import { TYPE_IPV6 } from '../dataplane/wire/ethernet.ts';
import { type PcapngPacket, PcapngWriter } from './pcapng.ts';

const folder = mkdtempSync(join(tmpdir(), 'tortie-pcapng-'));
afterAll(() => rmSync(folder, { recursive: true }));

const ping = frame(packet());
const ipip = packet({ source: '192.0.2.1', destination: '192.0.2.2', protocol: 4, payload: packet() });
const packets: PcapngPacket[] = [
  {
    port: 'cali1',
    kind: 'pod',
    time: 1_700_000_000_123.5,
    bytes: ping,
    length: ping.length,
    comment: 'received on cali1\n=> sent on vxlan',
  },
  {
    port: 'vxlan',
    kind: 'vxlan',
    time: 1_700_000_000_124,
    bytes: vxlanPayload(packet()),
    length: 62,
    comment: 'ça va: “10.65.0.2”',
  },
  {
    port: 'ipip',
    kind: 'ipip',
    time: 1_700_000_000_125,
    bytes: ipip.slice(0, 40),
    length: ipip.length,
    comment: '=> dropped: no_route',
  },
  {
    port: 'cali1',
    kind: 'pod',
    time: 1_700_000_000_126,
    bytes: ping.slice(0, 41),
    length: ping.length,
    comment: '',
  },
  {
    port: 'vxlan6',
    kind: 'vxlan6',
    time: 1_700_000_000_127,
    bytes: vxlanPayload(packet6(), { type: TYPE_IPV6 }),
    length: 82,
    comment: 'tunnel peer 2001:db8::2',
  },
];
const writer = new PcapngWriter();
const file = Buffer.concat([writer.head('tortie 1.2.3'), ...packets.map((each) => writer.packet(each))]);

it('is read again as it was written', () => {
  const records = [...readPcap(file)];
  expect(records.map(({ time, link, wireLength }) => ({ time, link, wireLength }))).toEqual([
    { time: 1_700_000_000_123_500_000n, link: 1, wireLength: 46 },
    { time: 1_700_000_000_124_000_000n, link: 252, wireLength: 62 + 24 },
    { time: 1_700_000_000_125_000_000n, link: 101, wireLength: 52 },
    { time: 1_700_000_000_126_000_000n, link: 1, wireLength: 46 },
    { time: 1_700_000_000_127_000_000n, link: 252, wireLength: 82 + 24 },
  ]);
  expect(Buffer.from(records[0]!.data)).toEqual(Buffer.from(ping));
  expect(records[3]!.data).toHaveLength(41);
});

const hasTshark = (() => {
  try {
    execFileSync('tshark', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

it.runIf(hasTshark)('is shown by Wireshark with its comments, ports and headers', () => {
  const path = join(folder, 'trace.pcapng');
  writeFileSync(path, file);
  const fields = [
    'frame.interface_name',
    'frame.comment',
    'frame.len',
    'frame.packet_flags_direction',
    'vxlan.vni',
    'ip.src',
    'ipv6.src',
    '_ws.malformed',
  ];
  const args = [
    '-n',
    '-r',
    path,
    '-T',
    'fields',
    '-E',
    'separator=|',
    ...fields.flatMap((field) => ['-e', field]),
  ];
  const output = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  expect(output.trim().split('\n')).toEqual([
    'cali1|received on cali1\\n=> sent on vxlan|46|0x00000001||10.65.0.2||',
    'vxlan|ça va: “10.65.0.2”|86|0x00000001|4096|10.65.0.2||',
    'ipip|=> dropped: no_route|52|0x00000001||192.0.2.1,10.65.0.2||',
    'cali1||46|0x00000001||10.65.0.2||',
    'vxlan6|tunnel peer 2001:db8::2|106|0x00000001|4096||fd65::2|',
  ]);
});
it.skipIf(hasTshark)('is not shown by Wireshark', () => {
  console.log('skipped: no tshark to read the file');
});
