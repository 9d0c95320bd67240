/**
 * Bytes of heap that the pipeline takes for many packets on each way: between pods, into tunnels and out of them, of
 * both families, and dropped. The young generation must be larger than what is looked for, so that no collection hides it:
 *
 *   node --min-semi-space-size=256 --max-semi-space-size=256 dist/bench/allocation.js PACKETS [spoil]
 *
 * prints `{"packets":10000000,"forwarded":8333376,"bytes":10360}`. With `spoil` an object is made for every burst, to see that the
 * measure sees it.
 */
import { getHeapStatistics } from 'node:v8';
import { ADDRESS, LENGTH, OFFSET, ROW } from '../dataplane/memory/burst.ts';
import { BURST, HEADROOM } from '../dataplane/memory/layout.ts';
import {
  frame,
  GATEWAY,
  IPIP_PORT_ID,
  MAC_A,
  PEER_IPIP,
  PEER_VXLAN,
  POD_A,
  packet,
  packet6,
  Scenario,
  VXLAN_PORT_ID,
  VXLAN6_PORT_ID,
  vxlanPayload,
} from '../dataplane/scenario.ts';
import { TYPE_IPV6 } from '../dataplane/wire/ethernet.ts';
import { IPV4_LENGTH, PROTOCOL_IPIP } from '../dataplane/wire/ipv4.ts';

const SLOT = HEADROOM + 128;
/** Of each way, before anything is measured: until the compiler has nothing left to do. */
const WARM_UP_BURSTS = 20_000;

/** Bursts of one way: the port they come by, their frames in slots, and rows that describe them. */
interface Way {
  readonly port: number;
  readonly image: Uint8Array;
  readonly rows: Int32Array;
}

function wayOf(port: number, bytes: Uint8Array, from = 0): Way {
  const image = new Uint8Array(BURST * SLOT);
  const rows = new Int32Array(BURST * ROW);
  for (let i = 0; i < BURST; i++) {
    image.set(bytes, i * SLOT + HEADROOM);
    rows[i * ROW + OFFSET] = i * SLOT + HEADROOM;
    rows[i * ROW + LENGTH] = bytes.length;
    rows[i * ROW + ADDRESS] = from;
  }
  return { port, image, rows };
}

const inVxlan = packet({ source: '10.65.1.2', destination: '10.65.0.2' });
const inIpip = packet({ source: '10.65.2.2', destination: '10.65.0.2' });
const outer = packet({
  source: '192.0.2.3',
  destination: '192.0.2.1',
  protocol: PROTOCOL_IPIP,
  payload: inIpip,
});
if (outer.length !== IPV4_LENGTH + inIpip.length) throw new Error('IPIP is an IPv4 header and no more');

const node = new Scenario();
const { pipeline, arena } = node;
node.share('10.65.4.0', 26, ['10.65.1.2', '10.65.2.2']);
node.share6('fd65::4:0', 122, ['fd65::1:2', 'fd65::3:2']);
const frame6 = (destination: string) => frame(packet6({ destination }), GATEWAY, MAC_A, TYPE_IPV6);
const inVxlan6 = packet6({ source: 'fd65::3:2', destination: 'fd65::2' });

const ways = [
  wayOf(POD_A, frame(packet({ destination: '10.65.0.3' }))),
  wayOf(POD_A, frame(packet({ destination: '10.65.1.2' }))),
  wayOf(POD_A, frame(packet({ destination: '10.65.2.2' }))),
  wayOf(VXLAN_PORT_ID, vxlanPayload(inVxlan), PEER_VXLAN),
  wayOf(IPIP_PORT_ID, outer, PEER_IPIP),
  wayOf(POD_A, frame6('fd65::3')),
  wayOf(POD_A, frame6('fd65::3:2')),
  wayOf(VXLAN6_PORT_ID, vxlanPayload(inVxlan6, { type: TYPE_IPV6 }), node.peer6),
  // By one of several next hops.
  wayOf(POD_A, frame(packet({ destination: '10.65.4.2' }))),
  wayOf(POD_A, frame6('fd65::4:2')),
  // To an address of the own block that no pod has: a blackhole.
  wayOf(POD_A, frame(packet({ destination: '10.65.0.9' }))),
];

/** What `spoil` makes: kept where the compiler cannot leave it out. */
const spoilt: { burst: number }[] = [{ burst: 0 }];

/** Packets that left. */
function run(bursts: number, spoil: boolean): number {
  let forwarded = 0;
  const { egress } = pipeline;
  for (let burst = 0; burst < bursts; burst++) {
    const { port, image, rows } = ways[burst % ways.length]!;
    arena.set(image);
    pipeline.receiveBurst(port, rows, BURST);
    for (let i = 0; i < egress.dirtyCount; i++) {
      const to = egress.dirty[i]!;
      forwarded += egress.count(to);
      pipeline.transmitted(to, egress.rows(to), egress.count(to));
    }
    egress.clear();
    if (spoil) spoilt[0] = { burst };
  }
  return forwarded;
}

const bursts = Math.ceil(Number(process.argv[2]) / BURST);
const spoil = process.argv[3] === 'spoil';
run(WARM_UP_BURSTS * ways.length, spoil);
const before = getHeapStatistics().used_heap_size;
const forwarded = run(bursts, spoil);
const bytes = getHeapStatistics().used_heap_size - before;
console.log(JSON.stringify({ packets: bursts * BURST, forwarded, bytes }));
