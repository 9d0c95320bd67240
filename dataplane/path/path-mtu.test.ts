import { describe, expect, it } from 'vitest';
import { icmpMessage, ip4, packet, vxlanPayload } from '../scenario.ts';
import { put16, viewOf } from '../wire/bytes.ts';
import { putUdp } from '../wire/udp.ts';
import { LEAST_PATH_MTU, pathMtuNews } from './path-mtu.ts';

const NODE = '192.0.2.1';
const PEER = '192.0.2.2';

/** A tunnel packet of ours, of which routers quote the beginning. */
function ipip(size = 1500): Uint8Array {
  const bytes = packet({ source: NODE, destination: PEER, protocol: 4, payload: packet() });
  put16(viewOf(bytes), 2, size);
  return bytes;
}
function vxlan(port = 4789, from = 50_000): Uint8Array {
  const payload = new Uint8Array(8 + 62);
  putUdp(viewOf(payload), 0, from, port, 1480);
  payload.set(vxlanPayload(packet()).subarray(0, 62), 8);
  const bytes = packet({ source: NODE, destination: PEER, payload });
  put16(viewOf(bytes), 2, 1500);
  return bytes;
}

function message(quoted: Uint8Array, mtu: number, type = 3, code = 4): Uint8Array {
  const rest = new Uint8Array(4 + quoted.length);
  put16(viewOf(rest), 2, mtu);
  rest.set(quoted, 4);
  return packet({
    source: '198.51.100.1',
    destination: NODE,
    protocol: 1,
    payload: icmpMessage(type, code, rest),
  });
}
const read = (bytes: Uint8Array) => pathMtuNews(viewOf(bytes), 0, bytes.length);

describe('news of a path that takes less', () => {
  it.each([
    ['IPIP', ipip().subarray(0, 28)],
    ['IPIP, quoted at length', ipip()],
    ['VXLAN', vxlan().subarray(0, 28)],
  ])('is read of %s', (_, quoted) => {
    expect(read(message(quoted, 1400))).toEqual({ source: ip4(NODE), peer: ip4(PEER), mtu: 1400 });
  });

  it('has the next plateau where the router tells none (RFC 1191 7)', () => {
    expect(read(message(ipip(1500), 0))?.mtu).toBe(1492);
    expect(read(message(ipip(1492), 0))?.mtu).toBe(1006);
    expect(read(message(ipip(9000), 0))?.mtu).toBe(8166);
    expect(read(message(ipip(600), 0))?.mtu).toBe(LEAST_PATH_MTU);
  });

  it('is not believed below what every path takes', () => {
    expect(read(message(ipip(), 68))?.mtu).toBe(LEAST_PATH_MTU);
    expect(read(message(ipip(500), 68))).toBeNull();
  });

  it.each([
    ['says nothing of less', message(ipip(1400), 1400)],
    ['is another error', message(ipip(), 1400, 3, 1)],
    ['is another message', message(ipip(), 1400, 8, 0)],
    ['quotes another protocol', message(packet({ source: NODE, destination: PEER, protocol: 6 }), 10)],
    ['quotes another port', message(vxlan(53), 1400)],
    ['quotes a port that we do not send from', message(vxlan(4789, 1024), 1400)],
    ['quotes too little', message(ipip().subarray(0, 12), 1400)],
    ['quotes too little of UDP', message(vxlan().subarray(0, 22), 1400)],
    ['is no ICMP', packet()],
    ['is empty', new Uint8Array(0)],
  ])('is not what %s', (_, bytes) => {
    expect(read(bytes)).toBeNull();
  });

  it('is not what has a wrong checksum, or is a fragment', () => {
    const wrong = message(ipip(), 1400);
    wrong[wrong.length - 1]! ^= 1;
    expect(read(wrong)).toBeNull();
    const whole = message(ipip(), 1400);
    const fragment = packet({
      source: '198.51.100.1',
      destination: NODE,
      protocol: 1,
      flags: 0x2000,
      payload: whole.slice(20),
    });
    expect(read(fragment)).toBeNull();
  });

  it('is sought in any bytes without harm', () => {
    const whole = message(vxlan(), 1400);
    for (let at = 0; at < whole.length; at++) {
      read(whole.slice(0, at));
      const bent = whole.slice();
      bent[at]! ^= 0xff;
      read(bent);
    }
  });
});
