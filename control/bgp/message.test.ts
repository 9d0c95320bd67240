import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AS_TRANS } from './attributes.ts';
import { abilitiesOf, describeCapabilities, type Offering, ourCapabilities } from './capabilities.ts';
import { BgpError } from './error.ts';
import { FAMILIES, IPV4 } from './family.ts';
import {
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
  MAX_EXTENDED_MESSAGE,
  MAX_MESSAGE,
  OPEN,
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

const OFFERING: Offering = {
  asn: 64512,
  families: [IPV4],
  restartTime: 120,
  restarting: false,
  longLivedTime: 0,
  addPathReceive: false,
  addPathSend: false,
  role: null,
};
/** OPEN of AS 64512, hold time 90, identifier 10.0.0.1, with our capabilities. */
const OPEN_BYTES = hex(`${MARKER} 0041 01
  04 fc00 005a 0a000001 24
  02 22 01 04 00010001 05 06 000100010002 02 00 46 00 06 00 41 04 0000fc00 40 06 4078 00010100`);
const OPEN_VALUE = {
  as2: 64512,
  holdTime: 90,
  routerId: 0x0a000001,
  capabilities: ourCapabilities(OFFERING),
};
const check = (bytes: Uint8Array, limit = MAX_MESSAGE) => checkHeader(bytes, 0, limit);

describe('header', () => {
  it('answers the length of a message', () => {
    expect(check(keepalive)).toBe(19);
    expect(keepalive).toEqual(hex(`${MARKER} 0013 04`));
    expect(check(OPEN_BYTES)).toBe(65);
  });

  it.each([
    ['marker', `fffffffffffffffffffffffffffffffe 0013 04`, '1/1', ''],
    ['length below 19', `${MARKER} 0012 04`, '1/2', '0012'],
    ['length above 4096', `${MARKER} 1001 02`, '1/2', '1001'],
    ['OPEN below 29', `${MARKER} 001c 01`, '1/2', '001c'],
    ['UPDATE below 23', `${MARKER} 0016 02`, '1/2', '0016'],
    ['NOTIFICATION below 21', `${MARKER} 0014 03`, '1/2', '0014'],
    ['KEEPALIVE with a body', `${MARKER} 0014 04`, '1/2', '0014'],
    ['ROUTE-REFRESH below 23', `${MARKER} 0016 05`, '1/2', '0016'],
    ['type 0', `${MARKER} 0013 00`, '1/3', '00'],
    ['type 6', `${MARKER} 0013 06`, '1/3', '06'],
  ])('refuses a bad %s (RFC 4271 6.1)', (_, bytes, error, data) => {
    expect(failure(() => check(hex(bytes)))).toEqual({ error, data });
  });
});

describe('OPEN', () => {
  it('deconstructs', () => {
    const open = decodeOpen(OPEN_BYTES, HEADER, OPEN_BYTES.length);
    expect(open).toEqual(OPEN_VALUE);
  });

  it('constructs', () => {
    expect(encodeOpen(OPEN_VALUE)).toEqual(OPEN_BYTES);
  });

  it('reads capabilities out of several optional parameters', () => {
    const bytes = hex(`${MARKER} 0029 01 04 fc00 005a 0a000001 0c 02 02 02 00 02 06 41 04 00010000`);
    const open = decodeOpen(bytes, HEADER, bytes.length);
    expect(abilitiesOf(open.capabilities)).toMatchObject({
      as4: 65536,
      refresh: true,
      families: [true, false],
    });
  });

  it('reads long parameters (RFC 9072)', () => {
    const bytes = hex(`${MARKER} 002c 01 04 fc00 005a 0a000001 ff ff 000b 02 0008 02 00 41 04 00010000`);
    expect(abilitiesOf(decodeOpen(bytes, HEADER, bytes.length).capabilities).as4).toBe(65536);
    // What the one-octet length says is of no account then, unless it is 0.
    bytes[28] = 13;
    expect(abilitiesOf(decodeOpen(bytes, HEADER, bytes.length).capabilities).as4).toBe(65536);
    bytes[28] = 0;
    expect(failure(() => decodeOpen(bytes, HEADER, bytes.length)).error).toBe('2/0');
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
        expect(check(bytes)).toBe(bytes.length);
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
    expect(decodeRouteRefresh(request, HEADER, request.length)).toEqual(refresh);
  });

  it('cuts data that is longer than a message', () => {
    const bytes = encodeNotification({ code: 3, subcode: 9, data: new Uint8Array(5000) });
    expect(check(bytes)).toBe(MAX_MESSAGE);
  });

  it('refuse a mark of another length by its own code (RFC 7313 5)', () => {
    const refresh = (body: string) => {
      const bytes = frame(5, hex(body));
      return failure(() => decodeRouteRefresh(bytes, HEADER, bytes.length)).error;
    };
    expect(['0001 01 01 00', '0001 02 01 00', '0001 00 01 00'].map(refresh)).toEqual(['7/1', '7/1', '1/2']);
  });
});

describe('extended messages (RFC 8654)', () => {
  it('are as long as was agreed on, but for OPEN', () => {
    const header = (length: string, type: string) => hex(`${MARKER} ${length} ${type}`);
    expect(check(header('ffff', '02'), MAX_EXTENDED_MESSAGE)).toBe(65535);
    expect(failure(() => check(header('1001', '01'), MAX_EXTENDED_MESSAGE)).error).toBe('1/2');
    expect(failure(() => check(header('0014', '04'), MAX_EXTENDED_MESSAGE)).error).toBe('1/2');
  });
});

describe('capabilities', () => {
  const everything: Offering = {
    asn: 4_200_000_000,
    families: FAMILIES,
    restartTime: 300,
    restarting: true,
    longLivedTime: 86_400,
    addPathReceive: true,
    addPathSend: true,
    role: 'customer',
  };

  it('come out as they went in', () => {
    expect(abilitiesOf(ourCapabilities(everything))).toEqual({
      as4: 4_200_000_000,
      families: [true, true],
      nextHop6: true,
      refresh: true,
      enhancedRefresh: true,
      extendedMessage: true,
      restart: {
        time: 300,
        restarting: true,
        notification: true,
        families: [true, true],
        forwarding: [true, true],
      },
      speaksLongLived: true,
      longLived: [86_400, 86_400],
      longLivedForwarding: [true, true],
      addPathReceive: [true, true],
      addPathSend: [true, true],
      role: 'customer',
      rolesDiffer: false,
      roleUnknown: false,
    });
  });

  it('come out as they went in, whatever is offered', () => {
    const anyOffering = fc.record<Offering>({
      asn: fc.integer({ min: 1, max: 0xffffffff }),
      families: fc.subarray([...FAMILIES], { minLength: 1 }),
      restartTime: fc.integer({ min: 0, max: 4095 }),
      restarting: fc.boolean(),
      forwarding: fc.boolean(),
      longLivedTime: fc.integer({ min: 0, max: 0xffffff }),
      addPathReceive: fc.boolean(),
      addPathSend: fc.boolean(),
      role: fc.constantFrom(null, 'provider', 'customer', 'peer', 'rs', 'rs-client'),
    });
    fc.assert(
      fc.property(anyOffering, (offering) => {
        const { families, restartTime, restarting, longLivedTime, addPathReceive, addPathSend } = offering;
        const isForwarding = offering.forwarding === true;
        const carried = FAMILIES.map((family) => families.includes(family));
        const of = (is: boolean) => carried.map((isCarried) => isCarried && is);
        const message = encodeOpen({
          as2: 1,
          holdTime: 90,
          routerId: 1,
          capabilities: ourCapabilities(offering),
        });
        const { capabilities } = decodeOpen(message, HEADER, message.length);
        expect(abilitiesOf(capabilities)).toEqual({
          as4: offering.asn,
          families: carried,
          nextHop6: carried[0],
          refresh: true,
          enhancedRefresh: true,
          extendedMessage: true,
          restart: {
            time: restartTime,
            restarting,
            notification: true,
            families: of(restartTime > 0),
            forwarding: of(restartTime > 0 && isForwarding),
          },
          speaksLongLived: longLivedTime > 0,
          longLived: carried.map((isCarried) => (isCarried ? longLivedTime : 0)),
          longLivedForwarding: of(longLivedTime > 0 && isForwarding),
          addPathReceive: of(addPathReceive),
          addPathSend: of(addPathSend),
          role: offering.role,
          roleUnknown: false,
          rolesDiffer: false,
        });
      }),
    );
  });

  it('say it in words', () => {
    expect(describeCapabilities(ourCapabilities(everything))).toEqual([
      'IPv4 unicast',
      'IPv6 unicast',
      'IPv6 next hops for IPv4',
      'route refresh',
      'enhanced route refresh',
      'extended messages',
      '4-octet AS 4200000000',
      'role customer',
      'add-path receive (IPv4 unicast, IPv6 unicast) send (IPv4 unicast, IPv6 unicast)',
      'graceful restart (300 s; has restarted; through notifications; IPv4 unicast, IPv6 unicast; forwarding kept)',
      'long-lived graceful restart (IPv4 unicast 86400 s, IPv6 unicast 86400 s)',
    ]);
  });

  it('take IPv4 unicast as given only without any multiprotocol capability (RFC 4760 8)', () => {
    expect(abilitiesOf([]).families).toEqual([true, false]);
    expect(abilitiesOf([{ code: 1, value: Uint8Array.of(0, 2, 0, 1) }]).families).toEqual([false, true]);
  });

  it('tell who keeps stale routes of others alone, and ask for the capability beside it (RFC 9494 4.1)', () => {
    const restart = { code: 64, value: Uint8Array.of(0, 0) };
    const helper = { code: 71, value: new Uint8Array(0) };
    expect(abilitiesOf([restart, helper])).toMatchObject({ speaksLongLived: true, longLived: [0, 0] });
    expect(abilitiesOf([helper]).speaksLongLived).toBe(false);
    expect(describeCapabilities([helper])).toEqual(['long-lived graceful restart (helper only)']);
  });

  it('of a wrong length, or an unknown family, mode or role, count for nothing', () => {
    const odd = abilitiesOf([
      { code: 1, value: Uint8Array.of(0, 1, 0) },
      { code: 65, value: Uint8Array.of(1) },
      { code: 64, value: Uint8Array.of(0) },
      { code: 69, value: Uint8Array.of(0, 1, 1, 9, 0, 9, 1, 3, 0) },
      { code: 9, value: Uint8Array.of(77) },
      { code: 71, value: Uint8Array.of(0, 1, 1, 0, 0, 0, 9) },
    ]);
    expect(odd).toMatchObject({
      as4: null,
      families: [true, false],
      restart: null,
      longLived: [0, 0],
      addPathReceive: [false, false],
      role: null,
      roleUnknown: true,
    });
  });
});
