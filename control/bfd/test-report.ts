/** For tests: a session as the BFD process tells of it. */
import type { SessionReport } from './protocol.ts';

export const upReport: SessionReport = {
  spec: { local: '192.0.2.1', peer: '192.0.2.2', multihop: false, minTxMs: 50, minRxMs: 50, multiplier: 3 },
  state: 3,
  diagnostic: 0,
  remoteState: 3,
  remoteDiagnostic: 0,
  remoteIndependent: true,
  discriminator: 7,
  remoteDiscriminator: 8,
  txMs: 50,
  detectionMs: 150,
  since: 0,
  failures: 4,
  packetsIn: 100,
  packetsOut: 110,
  sendErrors: 0,
  problem: null,
};
