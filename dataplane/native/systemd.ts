/**
 * What a service manager is told (sd_notify(3)) and what it hands over (sd_listen_fds(3)), without its library. Under no manager
 * both do nothing.
 */
import { native } from './index.ts';

const NO_FDS = new Int32Array(0);
/** SD_LISTEN_FDS_START: where descriptors that were handed over begin. */
const FIRST_FD = 3;

/**
 * Tell the service manager `state`, lines of KEY=VALUE, such as READY=1. False: there is none to tell (no NOTIFY_SOCKET).
 * Throws when it cannot be reached.
 */
export function sdNotify(state: string, fds: Int32Array = NO_FDS): boolean {
  const path = process.env.NOTIFY_SOCKET;
  if (!path) return false;
  native().notifySend(path, new TextEncoder().encode(state), fds);
  return true;
}

/**
 * Have descriptors kept under a name, to be handed to our successor, also when we die. Up to 253; a name may be
 * used again for more. Without FDPOLL=0 the manager would let go of a TAP that is down (EPOLLERR).
 */
export const storeDescriptors = (name: string, fds: Int32Array): boolean =>
  sdNotify(`FDSTORE=1\nFDPOLL=0\nFDNAME=${checked(name)}`, fds);

/** Have all descriptors of a name forgotten. */
export const forgetDescriptors = (name: string): boolean =>
  sdNotify(`FDSTOREREMOVE=1\nFDNAME=${checked(name)}`);

/** A name that the manager takes (fdname_is_valid): else it would store under "stored". */
function checked(name: string): string {
  if (/^[ -9;-~]{1,255}$/.test(name)) return name;
  throw new RangeError(
    `descriptor name ${JSON.stringify(name)} must have 1 to 255 printable characters, no colon`,
  );
}

export interface InheritedDescriptor {
  readonly fd: number;
  /** As it was stored; '' when the manager gave none. */
  readonly name: string;
}

/**
 * Descriptors that the manager handed over, now this thread's (closed on exec and at its end). A second call finds none, nor does
 * a child: the variables are removed.
 */
export function takeInheritedDescriptors(): InheritedDescriptor[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = process.env;
  // Another's, passed on by a parent that did not clean up.
  if (LISTEN_PID !== String(process.pid)) return [];
  const count = Number(LISTEN_FDS);
  if (!Number.isInteger(count) || count < 0) throw new RangeError(`LISTEN_FDS=${LISTEN_FDS} is no number`);
  const names = LISTEN_FDNAMES?.split(':') ?? [];
  const taken = Array.from({ length: count }, (_, i) => ({ fd: FIRST_FD + i, name: names[i] ?? '' }));
  for (const { fd } of taken) native().adopt(fd);
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete process.env[name];
  return taken;
}
