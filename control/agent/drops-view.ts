/** What was dropped, by port and reason, with the last frame of each. */
import { readPortCounters } from '../../dataplane/counters.ts';
import { DROP, type DropName } from '../../dataplane/drops.ts';
import { readEvidence } from '../../dataplane/evidence.ts';
import type { SharedTables } from '../../dataplane/memory/layout.ts';
import type { PortKind } from '../../dataplane/messages.ts';
import type { DroppedFrame, DropView } from '../api/types.ts';
import { frameText, type Outermost, outermostOfSent } from '../frame-text.ts';
import type { KernelDrops } from '../kernel/snmp.ts';

export interface CountedPort {
  readonly id: number;
  readonly name: string;
  readonly kind: PortKind;
}

export function dropsOf(tables: SharedTables, ports: readonly CountedPort[]): DropView[] {
  const counters = new Float64Array(tables.counters);
  return ports.flatMap((port) =>
    readPortCounters(counters, port.id).drops.map((drop) => ({
      port: port.name,
      ...drop,
      last: lastDropped(tables, port, drop.reason),
    })),
  );
}

/** What the node's kernel dropped before our sockets saw it. */
export function kernelDrops({ reassembly, udpChecksum }: KernelDrops): DropView[] {
  const row = (reason: string, description: string, packets: number): DropView[] =>
    packets > 0 ? [{ port: 'kernel', reason, description, packets, last: null }] : [];
  return [
    ...row('reassembly', 'fragments that the kernel could not join, of all programs', reassembly),
    ...row('udp_checksum', 'UDP checksums that the kernel found wrong, of all programs', udpChecksum),
  ];
}

/** What a frame begins with as it is received. */
const RECEIVED: Record<PortKind, Outermost> = {
  pod: 'ethernet',
  host: 'ethernet',
  vxlan: 'vxlan',
  vxlan6: 'vxlan',
  ipip: 'ip',
  underlay: 'ip',
};

/** Whether a frame is dropped for this when it is ready to leave. */
const isSending = (reason: DropName): boolean => reason.startsWith('tx_') || reason === 'bandwidth';

function lastDropped(tables: SharedTables, port: CountedPort, reason: DropName): DroppedFrame | null {
  const evidence = readEvidence(tables.evidence, port.id, DROP[reason]);
  if (!evidence) return null;
  const { time, length, bytes } = evidence;
  const received = RECEIVED[port.kind];
  const outermost = isSending(reason) ? outermostOfSent(bytes, received) : received;
  return {
    at: new Date(time).toISOString(),
    text: frameText(bytes, outermost),
    length,
    bytes: Buffer.from(bytes).toString('hex'),
  };
}
