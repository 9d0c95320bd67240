/** Errors as the CNI specification has them: a number, a message, details; and how other errors become such. */
import { TortieError } from '../error.ts';

/** Codes below 100 are the specification's ("Error"; 50 and 51 are those of STATUS), the others ours. */
export const CODE = {
  version: 1,
  /** The message names key and value. */
  unsupportedField: 2,
  /** The container is unknown or gone; the runtime need not clean up. */
  unknownContainer: 3,
  /** The message names the variables. */
  environment: 4,
  io: 5,
  decode: 6,
  config: 7,
  tryAgain: 11,
  /** STATUS: no ADD can be served. */
  unavailable: 50,
  /** STATUS: likewise, and pods that are there may have no network. */
  limited: 51,
  internal: 100,
  /** The interface's name is taken in the pod. */
  interfaceInUse: 101,
  /** No address to be had: no pool, none free, or the one asked for is taken. */
  noAddress: 102,
  /** CHECK: something is missing or not as ADD left it. */
  check: 103,
  /** A delegated IPAM plugin failed without saying how. */
  ipam: 104,
  /** The pod's port does not come up. */
  port: 105,
} as const;

export class CniError extends TortieError {
  readonly cni: number;
  readonly details: string | undefined;
  constructor(cni: number, message: string, details?: string) {
    super(`CNI_${cni}`, message);
    this.cni = cni;
    this.details = details;
  }
}

/** Of errors that other rooms throw, those that mean something of their own to a runtime. */
const MEANINGS: readonly (readonly [RegExp, number])[] = [
  [/^STORE_(UNAVAILABLE|CONFLICT|COMPACTED)$/, CODE.tryAgain],
  [/^STORE_READ_ONLY$/, CODE.config],
  [/^STORE_/, CODE.io],
  [/^IPAM_(CONFLICT|BUSY)$/, CODE.tryAgain],
  [/^IPAM_/, CODE.noAddress],
  [/^NETNS_GONE$/, CODE.unknownContainer],
];

export function asCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof TortieError)) return new CniError(CODE.internal, message);
  const code = MEANINGS.find(([pattern]) => pattern.test(error.code))?.[1] ?? CODE.internal;
  return new CniError(code, message, error.code);
}
