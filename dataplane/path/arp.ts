/**
 * Proxy ARP: whoever a pod or the host asks for is at ee:ee:ee:ee:ee:ee.
 */
import * as counter from '../counters.ts';
import { DROP } from '../drops.ts';
import * as step from '../trace.ts';
import * as arp from '../wire/arp.ts';
import * as ethernet from '../wire/ethernet.ts';
import { ETHERNET_LENGTH, GATEWAY_HI, GATEWAY_LO } from '../wire/ethernet.ts';
import { type Path, POD } from './path.ts';

/**
 * Proxy ARP: whoever the pod asks for is at ee:ee:ee:ee:ee:ee. Probes (RFC 5227), gratuitous ARP and
 * questions for the pod's own address stay unanswered, or its duplicate address detection would fail.
 */
export function fromArp(path: Path, offset: number, length: number): void {
  const bytes = path.bytes;
  const packet = offset + ETHERNET_LENGTH;
  if (!arp.checkArp(bytes, packet, length - ETHERNET_LENGTH)) return path.drop(DROP.arp_malformed);
  const sender = arp.senderAddress(bytes, packet);
  const target = arp.targetAddress(bytes, packet);
  if (path.traced) path.step(step.ARP_REQUEST, sender, target);
  if (arp.operation(bytes, packet) !== arp.ARP_REQUEST || sender === 0 || sender === target) {
    return path.drop(DROP.arp_silent);
  }
  const macHi = arp.senderMacHi(bytes, packet);
  const macLo = arp.senderMacLo(bytes, packet);
  if (path.portKind === POD) {
    const port = path.port;
    if (path.isOwn(target)) return path.drop(DROP.arp_silent);
    if (!path.maySend(sender) || macHi !== path.macHi[port] || macLo !== path.macLo[port]) {
      return path.drop(DROP.arp_refused);
    }
  } else if (path.isLocal(target)) {
    return path.drop(DROP.arp_silent);
  }
  arp.replyInPlace(bytes, packet, GATEWAY_HI, GATEWAY_LO);
  ethernet.putEthernet(bytes, offset, macHi, macLo, GATEWAY_HI, GATEWAY_LO, ethernet.TYPE_ARP);
  path.count(counter.CONSUMED, 1);
  if (path.traced) {
    path.step(step.ARP_REPLY, target);
    path.step(step.CONSUMED);
  }
  path.egress.push(path.port, offset, ETHERNET_LENGTH + arp.ARP_LENGTH, ~path.port, 0, 0, 0);
}
