/**
 * Grace periods: memory that a reader may still hold is reused only after every worker has passed a quiet
 * point (quiescent-state reclamation). Contract; see grace.test.ts.
 */
import { MAX_WORKERS } from './layout.ts';

/** One int32 a worker (0: offline, else the epoch it last saw) behind the global epoch in cell 0. */
export function createEpochs(): SharedArrayBuffer {
  return new SharedArrayBuffer((1 + MAX_WORKERS) * 64);
}
