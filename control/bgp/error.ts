/** A BGP error as a NOTIFICATION carries it (RFC 4271 section 4.5 and 6). */
export class BgpError extends Error {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
  constructor(code: number, subcode: number, text: string, data: Uint8Array = new Uint8Array(0)) {
    super(text);
    this.code = code;
    this.subcode = subcode;
    this.data = data;
  }
}

export const HEADER_ERROR = 1;
export const OPEN_ERROR = 2;
export const UPDATE_ERROR = 3;
export const HOLD_TIMER_EXPIRED = 4;
export const FSM_ERROR = 5;
export const CEASE = 6;

/** Cease subcodes (RFC 4486, RFC 8203). */
export const CEASE_SHUTDOWN = 2;
export const CEASE_RESET = 4;
export const CEASE_REJECTED = 5;
export const CEASE_CONFIGURATION = 6;
export const CEASE_COLLISION = 7;
export const CEASE_RESOURCES = 8;

const CODES: Record<number, string> = {
  1: 'message header error',
  2: 'OPEN error',
  3: 'UPDATE error',
  4: 'hold timer expired',
  5: 'state machine error',
  6: 'cease',
};
const SUBCODES: Record<string, string> = {
  '1/1': 'connection not synchronised',
  '1/2': 'bad length',
  '1/3': 'bad type',
  '2/1': 'unsupported version',
  '2/2': 'bad peer AS',
  '2/3': 'bad BGP identifier',
  '2/4': 'unsupported optional parameter',
  '2/6': 'unacceptable hold time',
  '2/7': 'unsupported capability',
  '3/1': 'malformed attribute list',
  '3/10': 'invalid network field',
  '6/1': 'too many prefixes',
  '6/2': 'administrative shutdown',
  '6/3': 'peer de-configured',
  '6/4': 'administrative reset',
  '6/5': 'connection rejected',
  '6/6': 'configuration change',
  '6/7': 'connection collision',
  '6/8': 'out of resources',
  '6/9': 'hard reset',
};

/** "cease: administrative shutdown (6/2)". */
export function describeNotification(code: number, subcode: number): string {
  const detail = SUBCODES[`${code}/${subcode}`];
  return `${CODES[code] ?? 'error'}${detail ? `: ${detail}` : ''} (${code}/${subcode})`;
}
