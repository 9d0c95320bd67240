import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BgpError } from './error.ts';
import {
  AS_TRANS,
  abilities,
  checkHeader,
  decodeNotification,
  decodeOpen,
  decodeRouteRefresh,
  encodeNotification,
  encodeOpen,
  encodeRouteRefresh,
  frame,
  HEADER,
  keepalive,
  MAX_MESSAGE,
  OPEN,
  ourCapabilities,
} from './message.ts';

const hex = (text: string) => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const MARKER = 'ffffffffffffffffffffffffffffffff';

/** The error that `action` throws, as code/subcode and data. */
function failure(action: () => unknown): { error: string; data: string } {
  try {
    action();
  } catch (error) {
    if (!(error instanceof BgpError)) throw error;
    return { error: `${error.code}/${error.subcode}`, data: Buffer.from(error.data).toString('hex') };
  }
  return { error: 'none', data: '' };
}

/** OPEN of AS 64512, hold time 90, identifier 10.0.0.1, with our capabilities. */
const OPEN_BYTES = hex(`${MARKER} 002d 01
  04 fc00 005a 0a000001 10
  02 0e 01 04 00010001 02 00 41 04 0000fc00`);
const OPEN_VALUE = {
  as2: 64512,
  holdTime: 90,
  routerId: 0x0a000001,
  capabilities: ourCapabilities(64512),
};

describe('header', () => {
  it('answers the length of a message', () => {
    expect(checkHeader(keepalive, 0)).toBe(19);
    expect(keepalive).toEqual(hex(`${MARKER} 0013 04`));
    expect(checkHeader(OPEN_BYTES, 0)).toBe(45);
  });

  it.each([
    ['marker', `fffffffffffffffffffffffffffffffe 0013 04`, '1/1', ''],
    ['length below 19', `${MARKER} 0012 04`, '1/2', '0012'],
    ['length above 4096', `${MARKER} 1001 02`, '1/2', '1001'],
    ['OPEN below 29', `${MARKER} 001c 01`, '1/2', '001c'],
    ['UPDATE below 23', `${MARKER} 0016 02`, '1/2', '0016'],
    ['NOTIFICATION below 21', `${MARKER} 0014 03`, '1/2', '0014'],
    ['KEEPALIVE with a body', `${MARKER} 0014 04`, '1/2', '0014'],
    ['ROUTE-REFRESH of another length', `${MARKER} 0018 05`, '1/2', '0018'],
    ['type 0', `${MARKER} 0013 00`, '1/3', '00'],
    ['type 6', `${MARKER} 0013 06`, '1/3', '06'],
  ])('refuses a bad %s (RFC 4271 6.1)', (_, bytes, error, data) => {
    expect(failure(() => checkHeader(hex(bytes), 0))).toEqual({ error, data });
  });
});

describe('OPEN', () => {
  it('deconstructs', () => {
    const open = decodeOpen(OPEN_BYTES, HEADER, OPEN_BYTES.length);
    expect(open).toEqual(OPEN_VALUE);
    expect(abilities(open)).toEqual({ as4: 64512, routeRefresh: true, ipv4Unicast: true });
  });

  it('constructs', () => {
    expect(encodeOpen(OPEN_VALUE)).toEqual(OPEN_BYTES);
  });

  it('reads capabilities out of several optional parameters', () => {
    const bytes = hex(`${MARKER} 0029 01 04 fc00 005a 0a000001 0c 02 02 02 00 02 06 41 04 00010000`);
    const open = decodeOpen(bytes, HEADER, bytes.length);
    expect(abilities(open)).toEqual({ as4: 65536, routeRefresh: true, ipv4Unicast: true });
  });

  it('takes IPv4 unicast as given only without any multiprotocol capability (RFC 4760 8)', () => {
    const ipv6 = { code: 1, value: Uint8Array.of(0, 2, 0, 1) };
    expect(abilities({ ...OPEN_VALUE, capabilities: [] }).ipv4Unicast).toBe(true);
    expect(abilities({ ...OPEN_VALUE, capabilities: [ipv6] }).ipv4Unicast).toBe(false);
  });

  const body = (text: string) => {
    const bytes = frame(OPEN, hex(text));
    return failure(() => decodeOpen(bytes, HEADER, bytes.length));
  };
  it.each([
    ['version 3', '03 fc00 005a 0a000001 00', '2/1', '0004'],
    ['AS 0', '04 0000 005a 0a000001 00', '2/2', ''],
    ['identifier 0', '04 fc00 005a 00000000 00', '2/3', ''],
    ['hold time 1', '04 fc00 0001 0a000001 00', '2/6', ''],
    ['hold time 2', '04 fc00 0002 0a000001 00', '2/6', ''],
    ['authentication parameter', '04 fc00 005a 0a000001 03 010100', '2/4', ''],
    ['parameters longer than the message', '04 fc00 005a 0a000001 05 020200', '2/0', ''],
    ['parameters shorter than the message', '04 fc00 005a 0a000001 00 020200', '2/0', ''],
    ['parameter cut short', '04 fc00 005a 0a000001 02 0205', '2/0', ''],
    ['capability cut short', '04 fc00 005a 0a000001 04 02024104', '2/0', ''],
  ])('refuses %s (RFC 4271 6.2)', (_, bytes, error, data) => {
    expect(body(bytes)).toEqual({ error, data });
  });

  it('survives encoding and decoding, whatever the capabilities', () => {
    const capability = fc.record({
      code: fc.integer({ min: 0, max: 255 }),
      value: fc.uint8Array({ maxLength: 20 }),
    });
    const open = fc.record({
      as2: fc.integer({ min: 1, max: 65535 }),
      holdTime: fc.oneof(fc.constant(0), fc.integer({ min: 3, max: 65535 })),
      routerId: fc.integer().filter((id) => id !== 0),
      capabilities: fc.array(capability, { maxLength: 10 }),
    });
    fc.assert(
      fc.property(open, (value) => {
        const bytes = encodeOpen(value);
        expect(checkHeader(bytes, 0)).toBe(bytes.length);
        expect(decodeOpen(bytes, HEADER, bytes.length)).toEqual(value);
      }),
    );
  });

  it('refuses to construct what does not fit', () => {
    const capabilities = Array.from({ length: 100 }, () => ({ code: 9, value: Uint8Array.of(1) }));
    expect(() => encodeOpen({ ...OPEN_VALUE, as2: AS_TRANS, capabilities })).toThrow(RangeError);
  });
});

describe('NOTIFICATION and ROUTE-REFRESH', () => {
  it('construct and deconstruct', () => {
    const notification = { code: 2, subcode: 1, data: Uint8Array.of(0, 4) };
    const bytes = hex(`${MARKER} 0017 03 02 01 0004`);
    expect(encodeNotification(notification)).toEqual(bytes);
    expect(decodeNotification(bytes, HEADER, bytes.length)).toEqual(notification);

    const refresh = { afi: 1, subtype: 0, safi: 1 };
    const request = hex(`${MARKER} 0017 05 0001 00 01`);
    expect(encodeRouteRefresh(refresh)).toEqual(request);
    expect(decodeRouteRefresh(request, HEADER)).toEqual(refresh);
  });

  it('cuts data that is longer than a message', () => {
    const bytes = encodeNotification({ code: 3, subcode: 9, data: new Uint8Array(5000) });
    expect(checkHeader(bytes, 0)).toBe(MAX_MESSAGE);
  });
});
