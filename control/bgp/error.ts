/**
 * What goes wrong between BGP speakers, and how a NOTIFICATION names it (RFC 4271 4.5 and 6, RFC 4486, 6608,
 * 7313, 9003, 9687).
 */

export const HEADER_ERROR = 1;
export const OPEN_ERROR = 2;
export const UPDATE_ERROR = 3;
export const HOLD_TIMER_EXPIRED = 4;
export const FSM_ERROR = 5;
export const CEASE = 6;
export const REFRESH_ERROR = 7;
export const SEND_HOLD_TIMER_EXPIRED = 8;

/** Subcodes of a Cease (RFC 4486). */
export const CEASE_MAX_PREFIXES = 1;
export const CEASE_SHUTDOWN = 2;
export const CEASE_DECONFIGURED = 3;
export const CEASE_RESET = 4;
export const CEASE_REJECTED = 5;
export const CEASE_CONFIG_CHANGE = 6;
export const CEASE_COLLISION = 7;
export const CEASE_RESOURCES = 8;
/** RFC 8538: the session is to start anew for good, no graceful restart. */
export const CEASE_HARD_RESET = 9;
/** RFC 9384. */
export const CEASE_BFD_DOWN = 10;

const NAMES: Record<number, [string, Record<number, string>]> = {
  [HEADER_ERROR]: [
    'message header error',
    { 1: 'connection not synchronized', 2: 'bad message length', 3: 'bad message type' },
  ],
  [OPEN_ERROR]: [
    'OPEN message error',
    {
      1: 'unsupported version number',
      2: 'bad peer AS',
      3: 'bad BGP identifier',
      4: 'unsupported optional parameter',
      6: 'unacceptable hold time',
      7: 'unsupported capability',
      11: 'role mismatch',
    },
  ],
  [UPDATE_ERROR]: [
    'UPDATE message error',
    {
      1: 'malformed attribute list',
      2: 'unrecognized well-known attribute',
      3: 'missing well-known attribute',
      4: 'attribute flags error',
      5: 'attribute length error',
      6: 'invalid ORIGIN attribute',
      8: 'invalid NEXT_HOP attribute',
      9: 'optional attribute error',
      10: 'invalid network field',
      11: 'malformed AS_PATH',
    },
  ],
  [HOLD_TIMER_EXPIRED]: ['hold timer expired', {}],
  [FSM_ERROR]: [
    'finite state machine error',
    { 1: 'unexpected message in OpenSent', 2: 'in OpenConfirm', 3: 'in Established' },
  ],
  [CEASE]: [
    'Cease',
    {
      [CEASE_MAX_PREFIXES]: 'maximum number of prefixes reached',
      [CEASE_SHUTDOWN]: 'administrative shutdown',
      [CEASE_DECONFIGURED]: 'peer de-configured',
      [CEASE_RESET]: 'administrative reset',
      [CEASE_REJECTED]: 'connection rejected',
      [CEASE_CONFIG_CHANGE]: 'other configuration change',
      [CEASE_COLLISION]: 'connection collision resolution',
      [CEASE_RESOURCES]: 'out of resources',
      [CEASE_HARD_RESET]: 'hard reset',
      [CEASE_BFD_DOWN]: 'BFD says that the path is down',
    },
  ],
  [REFRESH_ERROR]: ['ROUTE-REFRESH message error', { 1: 'invalid message length' }],
  [SEND_HOLD_TIMER_EXPIRED]: ['send hold timer expired', {}],
};

/** "OPEN message error: bad peer AS (2/2)". */
export function describe(code: number, subcode: number): string {
  const [name, subcodes] = NAMES[code] ?? ['unknown error', {}];
  const detail = subcodes[subcode];
  return `${name}${detail ? `: ${detail}` : ''} (${code}/${subcode})`;
}

const NONE = new Uint8Array(0);

/** An error that ends a session, with the NOTIFICATION that tells the peer of it. */
export class BgpError extends Error {
  readonly code: number;
  readonly subcode: number;
  /** Data field of the NOTIFICATION. */
  readonly data: Uint8Array;
  /** What was wrong with which input, for people. */
  readonly text: string;
  constructor(code: number, subcode: number, text: string, data: Uint8Array = NONE) {
    super(`${describe(code, subcode)}: ${text}`);
    this.name = 'BgpError';
    this.code = code;
    this.subcode = subcode;
    this.data = data;
    this.text = text;
  }
}
