/** The addon against the kernel. What needs root (TAPs, raw sockets, namespaces) is skipped without, and says so. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ADDRESS, LENGTH, OFFSET, ROW, SEGMENT, STATUS, TOS, UDP_PORT } from '../memory/burst.ts';
import { BURST, HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import { native as load, type TapOptions } from './index.ts';

const native = load();
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log('native.test.ts: tests of TAPs, raw sockets and namespaces skipped: they need root');
else console.log('native.test.ts: what an ordinary user is refused is skipped: this is root');
const ADDON = createRequire(import.meta.url).resolve('../../build/Release/tortie.node');
const LOOPBACK = 0x7f000001;
const SLOT = HEADROOM + MAX_FRAME + 128;

/** Descriptors of a test, closed behind it. */
const open: number[] = [];
const keep = (fd: number): number => {
  open.push(fd);
  return fd;
};
afterEach(() => {
  for (const fd of open.splice(0)) native.close(fd);
});

/** A UDP socket on loopback, on the first free port from a place of this process's own. */
let nextPort = 20_000 + (process.pid % 4000) * 8;
function udp(options: { sendOnly?: boolean; checksum?: boolean; join?: boolean } = {}): {
  fd: number;
  port: number;
} {
  for (;;) {
    const port = nextPort++;
    try {
      return { fd: keep(native.udpOpen({ address: LOOPBACK, port, ...options })), port };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    }
  }
}

/** Receive until `count` frames have come; `onFrame` sees each row before the next receive. */
function receive(
  fd: number,
  count: number,
  arena: Uint8Array,
  onFrame: (row: Int32Array) => void,
  call: 'udpReceive' | 'rawReceive' | 'tapRead' = 'udpReceive',
): void {
  const epoll = native.epollCreate();
  native.epollAdd(epoll, fd, 1);
  const rows = new Int32Array(BURST * ROW);
  for (let got = 0; got < count; ) {
    expect(native.epollWait(epoll, new Int32Array(1), 10_000)).toBe(1);
    const n =
      call === 'tapRead'
        ? native.tapRead(fd, arena, rows, BURST, 0, HEADROOM, 0)
        : native[call](fd, arena, rows, BURST, 0, HEADROOM);
    for (let i = 0; i < n; i++) onFrame(rows.slice(i * ROW, (i + 1) * ROW));
    got += n;
  }
  native.close(epoll);
}

function thrown(call: () => unknown): NodeJS.ErrnoException {
  try {
    call();
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error('nothing was thrown');
}

describe('checksum', () => {
  const naive = (bytes: Uint8Array, offset: number, length: number, seed: number): number => {
    let sum = seed;
    for (let i = 0; i < length; i += 2) {
      sum += (bytes[offset + i] << 8) | (i + 1 < length ? bytes[offset + i + 1] : 0);
    }
    while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
    return sum;
  };

  it('agrees with adding up words', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 3000 }),
        fc.nat(20),
        fc.nat(20),
        fc.nat(0xffff),
        (bytes, front, back, seed) => {
          const offset = Math.min(front, bytes.length);
          const length = Math.max(0, bytes.length - offset - back);
          expect(native.checksum(bytes, offset, length, seed)).toBe(naive(bytes, offset, length, seed));
        },
      ),
    );
  });

  it('folds a full 64 KiB of ones', () => {
    const bytes = new Uint8Array(65536).fill(0xff);
    expect(native.checksum(bytes, 0, 65536, 0)).toBe(0xffff);
    expect(native.checksum(bytes, 1, 65535, 0xffff)).toBe(naive(bytes, 1, 65535, 0xffff));
  });
});

describe('UDP bursts', () => {
  const arena = new Uint8Array(BURST * SLOT);

  it('carries every row from the sender that its port picks, in order, with its TOS', () => {
    const receiver = udp();
    const senders = Array.from({ length: 4 }, () => udp({ sendOnly: true }));
    const pool = Int32Array.from(senders, (sender) => sender.fd);
    const count = 2 * BURST;
    const rows = new Int32Array(count * ROW);
    const out = new Uint8Array(count * 256);
    for (let i = 0; i < count; i++) {
      rows[i * ROW + OFFSET] = i * 256;
      rows[i * ROW + LENGTH] = 1 + (i % 200);
      rows[i * ROW + ADDRESS] = LOOPBACK;
      rows[i * ROW + UDP_PORT] = (i * 7) ^ 0x1234;
      rows[i * ROW + TOS] = (i * 4) & 0xff;
      rows[i * ROW + STATUS] = -1;
      out.fill(i, i * 256, (i + 1) * 256);
    }
    expect(native.udpSend(pool, out, rows, count, receiver.port, 0)).toBe(count);
    const seen = new Map<number, number[]>();
    receive(receiver.fd, count, arena, (row) => {
      const offset = row[OFFSET];
      const i = arena[offset];
      expect(row[LENGTH]).toBe(1 + (i % 200));
      expect(arena.subarray(offset, offset + row[LENGTH])).toEqual(new Uint8Array(row[LENGTH]).fill(i));
      expect(row[TOS]).toBe((i * 4) & 0xff);
      expect(row[ADDRESS]).toBe(LOOPBACK);
      expect(row[UDP_PORT]).toBe(senders[((i * 7) ^ 0x1234) & 3].port);
      expect((offset - HEADROOM) % 64).toBe(0);
      const order = seen.get(row[UDP_PORT]) ?? [];
      order.push(i);
      seen.set(row[UDP_PORT], order);
    });
    for (const order of seen.values()) expect(order).toEqual(order.toSorted((a, b) => a - b));
    for (let i = 0; i < count; i++) expect(rows[i * ROW + STATUS]).toBe(0);
  });

  it('says of each row why it failed, and sends the others', () => {
    const receiver = udp();
    const out = new Uint8Array(70_000);
    const rows = new Int32Array(4 * ROW);
    // Too large for UDP; a broadcast without leave for it; and two that go.
    [10, 66_000, 20, 30].forEach((length, i) => {
      rows[i * ROW + LENGTH] = length;
      rows[i * ROW + ADDRESS] = i === 2 ? -1 : LOOPBACK;
    });
    expect(native.udpSend(Int32Array.of(udp().fd), out, rows, 4, receiver.port, 0)).toBe(2);
    expect([0, 1, 2, 3].map((i) => rows[i * ROW + STATUS])).toEqual([0, 90, 13, 0]);
    const lengths: number[] = [];
    receive(receiver.fd, 2, arena, (row) => lengths.push(row[LENGTH]));
    expect(lengths).toEqual([10, 30]);
  });

  describe('in runs', () => {
    /** Send rows of these lengths, the bytes of row i all i, from one socket; rows afterwards. */
    const sendRuns = (
      port: number,
      lengths: readonly number[],
      change: (rows: Int32Array) => void = () => {},
    ) => {
      const out = new Uint8Array(lengths.length * 256);
      const rows = new Int32Array(lengths.length * ROW);
      for (const [i, length] of lengths.entries()) {
        out.fill(i, i * 256, (i + 1) * 256);
        rows[i * ROW + OFFSET] = i * 256;
        rows[i * ROW + LENGTH] = length;
        rows[i * ROW + ADDRESS] = LOOPBACK;
      }
      change(rows);
      const sent = native.udpSend(Int32Array.of(udp().fd), out, rows, lengths.length, port, 1);
      return { sent, statuses: lengths.map((_, i) => rows[i * ROW + STATUS]) };
    };
    /** Length, segment size and first byte of what a socket is handed that takes runs whole. */
    const joined = (fd: number, count: number) => {
      const seen: [number, number, number][] = [];
      receive(fd, count, arena, (row) => seen.push([row[LENGTH], row[SEGMENT], arena[row[OFFSET]]]));
      return seen;
    };

    it('sends neighbours of one size as one, the last may be shorter', () => {
      const receiver = udp({ join: true });
      const { sent } = sendRuns(receiver.port, [100, 100, 100, 40, 100, 100, 120, 7]);
      expect(sent).toBe(8);
      expect(joined(receiver.fd, 3)).toEqual([
        [340, 100, 0],
        [200, 100, 4],
        [127, 120, 6],
      ]);
    });

    it('keeps those apart that go elsewhere or with another TOS', () => {
      const receiver = udp({ join: true });
      const { sent } = sendRuns(receiver.port, [50, 50, 50, 50], (rows) => {
        rows[ROW + TOS] = 4;
        rows[3 * ROW + ADDRESS] = LOOPBACK + 1;
      });
      expect(sent).toBe(4);
      expect(joined(receiver.fd, 3).map(([length]) => length)).toEqual([50, 50, 50]);
    });

    it('gives more than 64 of them to the kernel in several runs', () => {
      const receiver = udp({ join: true });
      expect(sendRuns(receiver.port, new Array<number>(130).fill(10)).sent).toBe(130);
      const seen = joined(receiver.fd, 3);
      expect(seen.reduce((sum, [length]) => sum + length, 0)).toBe(1300);
      expect(seen.map(([, , first]) => first)).toEqual([0, 64, 128]);
    });

    it('arrive each by itself, in order, where the receiver takes no runs', () => {
      const receiver = udp();
      sendRuns(receiver.port, [30, 30, 30, 20]);
      expect(joined(receiver.fd, 4)).toEqual([
        [30, 0, 0],
        [30, 0, 1],
        [30, 0, 2],
        [20, 0, 3],
      ]);
    });

    it('says of each row of a run that was refused why', () => {
      const { sent, statuses } = sendRuns(9, [30, 30, 30, 40], (rows) => {
        // A broadcast without leave for it.
        for (let i = 0; i < 3; i++) rows[i * ROW + ADDRESS] = -1;
      });
      expect([sent, statuses]).toEqual([1, [13, 13, 13, 0]]);
    });
  });

  it('takes a packet of 64 KiB whole', () => {
    const receiver = udp();
    const rows = new Int32Array(ROW);
    const out = crypto.getRandomValues(new Uint8Array(65_507));
    rows[LENGTH] = out.length;
    rows[ADDRESS] = LOOPBACK;
    expect(native.udpSend(Int32Array.of(udp().fd), out, rows, 1, receiver.port, 0)).toBe(1);
    receive(receiver.fd, 1, arena, (row) => {
      expect(row[LENGTH]).toBe(out.length);
      expect(Buffer.compare(arena.subarray(row[OFFSET], row[OFFSET] + out.length), out)).toBe(0);
    });
  });

  it('answers 0 when there is nothing, and discards what a sender is sent', () => {
    const sender = udp({ sendOnly: true });
    const rows = new Int32Array(ROW);
    rows[LENGTH] = 4;
    rows[ADDRESS] = LOOPBACK;
    expect(native.udpSend(Int32Array.of(udp().fd), arena, rows, 1, sender.port, 0)).toBe(1);
    expect(native.udpReceive(sender.fd, arena, new Int32Array(ROW), 1, 0, 0)).toBe(0);
  });

  it('receives no more than there are slots in the arena, and loses nothing', () => {
    const receiver = udp();
    const rows = new Int32Array(5 * ROW);
    for (let i = 0; i < 5; i++) {
      rows[i * ROW + LENGTH] = i + 1;
      rows[i * ROW + ADDRESS] = LOOPBACK;
    }
    expect(native.udpSend(Int32Array.of(udp().fd), arena, rows, 5, receiver.port, 0)).toBe(5);
    const lengths: number[] = [];
    receive(receiver.fd, 5, new Uint8Array(2 * SLOT), (row) => lengths.push(row[LENGTH]));
    expect(lengths).toEqual([1, 2, 3, 4, 5]);
  });
});

describe('capabilities', () => {
  it.skipIf(!isRoot)(
    'are given up for good, by the thread, by those that it makes and by what it starts',
    () => {
      const program = `
      const native = require(${JSON.stringify(ADDON)});
      const { execFileSync } = require('node:child_process');
      const { Worker } = require('node:worker_threads');
      const show = "require('node:fs').readFileSync('/proc/thread-self/status', 'utf8')";
      native.keepCapabilities(1 << 12);
      console.log(eval(show));
      console.log(execFileSync('cat', ['/proc/self/status'], { encoding: 'utf8' }));
      new Worker('console.log(' + show + ')', { eval: true });`;
      const said = execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' });
      const sets = [...said.matchAll(/^Cap(Eff|Prm|Bnd):\t([0-9a-f]+)$/gm)].map(([, set, value]) => [
        set,
        Number(`0x${value}`),
      ]);
      expect(sets).toHaveLength(9);
      for (const [, value] of sets) expect(value).toBe(1 << 12);
      expect(said.match(/^NoNewPrivs:\t1$/gm)).toHaveLength(3);
    },
  );
});

describe('arguments', () => {
  const arena = new Uint8Array(SLOT);
  const rows = new Int32Array(ROW);

  it('of the wrong type are TypeErrors', () => {
    const wrong = [
      () => native.tapOpen(undefined as never),
      () => native.tapOpen({} as never),
      () => native.tapOpen({ name: 'x', mac: 'aa:bb' as never }),
      () => native.tapOpen({ name: 'x', up: 1 as never }),
      () => native.udpOpen({ port: 1 } as never),
      () => native.close('3' as never),
      () => native.tapRead(0, rows as never, rows, 1, 0, 0, 0),
      () => native.tapRead(0, arena, new Uint8Array(64) as never, 1, 0, 0, 0),
      () => native.tapRead(0, arena.buffer as never, rows, 1, 0, 0, 0),
      () => native.udpSend([1] as never, arena, rows, 1, 1, 0),
      () => (native.checksum as (bytes: Uint8Array) => number)(arena),
      () => native.epollWait(0, [] as never, 0),
    ];
    for (const call of wrong) expect(call).toThrow(TypeError);
  });

  it('beyond the arena or the rows are RangeErrors', () => {
    const { fd } = udp();
    const wrong = [
      () => native.udpReceive(fd, arena, rows, 2, 0, 0),
      () => native.udpReceive(fd, arena, rows, 0, 0, 0),
      () => native.udpReceive(fd, arena, rows, 1, -1, 0),
      () => native.udpReceive(fd, arena, rows, 1, 0.5, 0),
      () => native.udpReceive(fd, arena, rows, 1, 0, Number.NaN),
      () => native.udpReceive(fd, arena, rows, 1, 0, arena.length),
      () => native.tapRead(fd, new Uint8Array(MAX_FRAME - 1), rows, 1, 0, 0, 0),
      () => native.tapWrite(fd, arena, rows, 2, 0),
      () => native.rawSend(fd, arena, rows, -1),
      () => native.udpSend(new Int32Array(3), arena, rows, 1, 4789, 0),
      () => native.udpSend(new Int32Array(0), arena, rows, 1, 4789, 0),
      () => native.udpSend(Int32Array.of(fd), arena, rows, 1, 65536, 0),
      () => native.checksum(arena, 0, arena.length + 1, 0),
      () => native.checksum(arena, arena.length + 1, 0, 0),
      () => native.epollWait(0, new Int32Array(0), 0),
      () => native.close(-1),
      () => native.close(2 ** 31),
      () => native.tapOpen({ name: 'sixteen-letters-' }),
      () => native.tapOpen({ name: 'tap%d' }),
      () => native.tapOpen({ name: '' }),
      () => native.tapOpen({ name: 'a\0b' }),
      () => native.tapOpen({ name: 'x', mtu: 67 }),
      () => native.tapOpen({ name: 'x', mac: new Uint8Array(5) }),
      () => native.tapOpen({ name: 'x', alias: 'x'.repeat(256) }),
      () => native.tapOpen({ name: 'x', queues: 0 }),
    ];
    for (const call of wrong) expect(call).toThrow(RangeError);
  });

  it('in rows never make it read outside the arena', () => {
    const { fd, port } = udp();
    const small = new Uint8Array(1000);
    const edge = fc.oneof(fc.integer({ min: -2, max: 1002 }), fc.integer());
    fc.assert(
      fc.property(fc.array(fc.tuple(edge, edge), { minLength: 1, maxLength: 8 }), (pairs) => {
        const many = new Int32Array(pairs.length * ROW);
        pairs.forEach(([offset, length], i) => {
          many[i * ROW + OFFSET] = offset;
          many[i * ROW + LENGTH] = length;
          many[i * ROW + ADDRESS] = LOOPBACK;
        });
        const good = pairs.every(([offset, length]) => offset >= 0 && length >= 0 && offset + length <= 1000);
        const send = () => native.udpSend(Int32Array.of(fd), small, many, pairs.length, port, 0);
        if (good) expect(send()).toBe(pairs.length);
        else expect(send).toThrow(RangeError);
      }),
    );
  });

  it('that leave no room make no byte outside the given part change', () => {
    const whole = new Uint8Array(3 * SLOT).fill(0xa5);
    const part = whole.subarray(SLOT, 2 * SLOT);
    const { fd, port } = udp();
    const one = new Int32Array(ROW);
    one[LENGTH] = 65_507;
    one[ADDRESS] = LOOPBACK;
    expect(native.udpSend(Int32Array.of(fd), new Uint8Array(65_507), one, 1, port, 0)).toBe(1);
    receive(fd, 1, part, () => undefined);
    const outside = [...new Set([...whole.subarray(0, SLOT + HEADROOM), ...whole.subarray(2 * SLOT)])];
    expect(outside).toEqual([0xa5]);
  });
});

describe('sleeping and waking', () => {
  it('reports tags of what is ready, and nothing after draining', () => {
    const epoll = keep(native.epollCreate());
    const events = [keep(native.eventfdCreate()), keep(native.eventfdCreate())];
    native.epollAdd(epoll, events[0], -7);
    native.epollAdd(epoll, events[1], 1023);
    const tags = new Int32Array(4);
    expect(native.epollWait(epoll, tags, 0)).toBe(0);
    native.eventfdSignal(events[0]);
    native.eventfdSignal(events[1]);
    native.eventfdSignal(events[1]);
    expect(native.epollWait(epoll, tags, -1)).toBe(2);
    expect([...tags.subarray(0, 2)].sort((a, b) => a - b)).toEqual([-7, 1023]);
    for (const fd of events) native.eventfdDrain(fd);
    native.eventfdDrain(events[0]);
    expect(native.epollWait(epoll, tags, 0)).toBe(0);
    native.eventfdSignal(events[0]);
    native.epollDelete(epoll, events[0]);
    expect(native.epollWait(epoll, tags, 0)).toBe(0);
  });

  it('tells when it slept', () => {
    const epoll = keep(native.epollCreate());
    const clock = new Float64Array(2);
    const before = process.hrtime.bigint();
    expect(native.epollWait(epoll, new Int32Array(1), 2, clock)).toBe(0);
    expect(clock[0]).toBeGreaterThanOrEqual(Number(before / 1000n) / 1e3);
    expect(clock[1] - clock[0]).toBeGreaterThanOrEqual(1);
    expect(() => native.epollWait(epoll, new Int32Array(1), 0, new Float64Array(1))).toThrow(
      'clock must have room for 2 numbers',
    );
    expect(() => native.epollWait(epoll, new Int32Array(1), 0, [] as never)).toThrow('a Float64Array');
  });

  it('wakes another thread that sleeps in epoll', async () => {
    const wake = keep(native.eventfdCreate());
    const thread = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const native = require(workerData.addon);
       const epoll = native.epollCreate();
       native.epollAdd(epoll, workerData.wake, 5);
       parentPort.postMessage('asleep soon');
       const tags = new Int32Array(1);
       parentPort.postMessage([native.epollWait(epoll, tags, -1), tags[0]]);`,
      { eval: true, workerData: { addon: ADDON, wake } },
    );
    await once(thread, 'message');
    native.eventfdSignal(wake);
    expect(await once(thread, 'message')).toEqual([[1, 5]]);
    await once(thread, 'exit');
  });
});

describe('descriptors', () => {
  /** What the addon can open; what Node itself opens meanwhile is none of this test's business. */
  const held = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return /socket:|eventpoll|eventfd|net\/tun/.test(readlinkSync(`/proc/self/fd/${fd}`));
      } catch {
        return false;
      }
    }).length;

  it('are all gone after close', () => {
    const before = held();
    for (let round = 0; round < 20; round++) {
      const fds = [native.epollCreate(), native.eventfdCreate(), udp().fd];
      open.pop();
      expect(held()).toBe(before + 3);
      for (const fd of fds) native.close(fd);
    }
    expect(held()).toBe(before);
  });

  it('are not left behind by calls that fail', () => {
    const taken = udp();
    const before = held();
    for (let round = 0; round < 20; round++) {
      expect(thrown(() => native.udpOpen({ address: LOOPBACK, port: taken.port })).code).toBe('EADDRINUSE');
      expect(() => native.udpOpen({ netns: '/dev/null', address: 0, port: 0 })).toThrow();
      expect(() => native.tapOpen({ name: 'lo' })).toThrow();
    }
    expect(held()).toBe(before);
  });

  it('that a worker left open are closed when it ends, those of others are not', async () => {
    const mine = udp();
    const leave = async () => {
      const thread = new Worker(
        `const { workerData } = require('node:worker_threads');
         const native = require(workerData.addon);
         native.epollCreate();
         for (let i = 0; i < 40; i++) native.eventfdCreate();
         native.udpOpen({ address: ${LOOPBACK}, port: 0 });`,
        { eval: true, workerData: { addon: ADDON } },
      );
      await once(thread, 'exit');
    };
    await leave();
    const before = held();
    await Promise.all([leave(), leave(), leave()]);
    expect(held()).toBe(before);
    native.close(mine.fd);
    open.splice(open.indexOf(mine.fd), 1);
  });

  it('of another environment cannot be closed', async () => {
    const { fd } = udp();
    const thread = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       try { require(workerData.addon).close(workerData.fd); } catch (e) { parentPort.postMessage(e.message); }`,
      { eval: true, workerData: { addon: ADDON, fd } },
    );
    // Both at once: a worker's last message and its exit may come in one turn of the loop.
    const [[message]] = await Promise.all([once(thread, 'message'), once(thread, 'exit')]);
    expect(message).toBe(
      `close descriptor ${fd}: EBADF, it is not open, or was opened by another thread: close it there`,
    );
  });
});

describe('errors', () => {
  const arena = new Uint8Array(SLOT);
  const rows = new Int32Array(ROW);
  const BAD = 1_000_000;

  /** Every call that can fail, made to fail; [message, call]. */
  const failures: [string, () => unknown][] = [
    [
      'open /run/netns/tt1-none: ENOENT, no such namespace',
      () => native.tapOpen({ netns: 'tt1-none', name: 'x' }),
    ],
    ['open /run/netns/tt1-none: ENOENT, no such', () => native.linkSet({ netns: 'tt1-none', name: 'x' })],
    ['open /tt1/none: ENOENT, no such', () => native.udpOpen({ netns: '/tt1/none', address: 0, port: 0 })],
    ['open /tt1/none: ENOENT, no', () => native.rawOpen({ netns: '/tt1/none', address: 0, protocol: 4 })],
    ['SIOCGIFINDEX tt1none: ENODEV, no such device', () => native.linkSet({ name: 'tt1none', up: true })],
    [`close descriptor ${BAD}: EBADF, it is not open`, () => native.close(BAD)],
    [`TUNSETPERSIST descriptor ${BAD}: EBADF, the descriptor is not open`, () => native.tapRelease(BAD)],
    [`read descriptor ${BAD}: EBADF, the`, () => native.tapRead(BAD, arena, rows, 1, 0, 0, 0)],
    [`recvmmsg descriptor ${BAD}: EBADF, the`, () => native.udpReceive(BAD, arena, rows, 1, 0, 0)],
    [`recvmmsg descriptor ${BAD}: EBADF, the`, () => native.rawReceive(BAD, arena, rows, 1, 0, 0)],
    [`epoll_ctl descriptor ${BAD}: EBADF, the`, () => native.epollAdd(keep(native.epollCreate()), BAD, 1)],
    [`epoll_ctl descriptor ${BAD}: EBADF, the`, () => native.epollDelete(keep(native.epollCreate()), BAD)],
    [`epoll_wait descriptor ${BAD}: EBADF, the`, () => native.epollWait(BAD, rows, 0)],
    [`write descriptor ${BAD}: EBADF, the`, () => native.eventfdSignal(BAD)],
    [`read descriptor ${BAD}: EBADF, the`, () => native.eventfdDrain(BAD)],
  ];

  it.each(failures)('%s', (message, call) => {
    const error = thrown(call);
    expect(error.message.startsWith(message)).toBe(true);
    const [, syscall, code] = /^(.+?) \S.*: (E\w+), [^\n]+$/.exec(error.message)!;
    expect(error.code).toBe(code);
    expect(error.syscall!.startsWith(syscall)).toBe(true);
    expect(error.errno).toBeGreaterThan(0);
    expect(error).toBeInstanceOf(Error);
  });

  it('of bind name the address and the port', () => {
    const { port } = udp();
    expect(thrown(() => native.udpOpen({ address: LOOPBACK, port })).message).toBe(
      `bind udp 127.0.0.1:${port}: EADDRINUSE, another process has it: see ss -lunp`,
    );
    expect(thrown(() => native.udpOpen({ address: 0xcb007101, port })).message).toBe(
      `bind udp 203.0.113.1:${port}: EADDRNOTAVAIL, no interface there has that address: see ip address`,
    );
  });

  it('of sends stand in the rows, also those of a descriptor that is none', () => {
    const pool = Int32Array.of(BAD);
    rows[LENGTH] = 4;
    expect(native.udpSend(pool, arena, rows, 1, 9, 0)).toBe(0);
    expect(rows[STATUS]).toBe(9);
    rows[STATUS] = 0;
    expect(native.rawSend(BAD, arena, rows, 1)).toBe(0);
    expect(rows[STATUS]).toBe(9);
    rows[STATUS] = 0;
    expect(native.tapWrite(BAD, arena, rows, 1, 0)).toBe(0);
    expect(rows[STATUS]).toBe(9);
  });

  it.skipIf(isRoot)('of an ordinary user tell what is missing', () => {
    expect(thrown(() => native.rawOpen({ address: 0, protocol: 4 })).message).toBe(
      'socket ip protocol 4 0.0.0.0: EPERM, a raw socket needs CAP_NET_RAW: run as root',
    );
    // Refused at the device file or, where that is open to all, at making the device.
    expect(['EACCES', 'EPERM']).toContain(thrown(() => native.tapOpen({ name: 'tt1x' })).code);
  });
});

describe.skipIf(!isRoot)('in a namespace', () => {
  const netns = `ttn${process.pid}`;
  const where = ` in /run/netns/${netns}`;
  const arena = new Uint8Array(BURST * SLOT);
  const ip = (...args: string[]) => execFileSync('ip', ['-n', netns, ...args], { stdio: 'pipe' }).toString();
  const home = readlinkSync('/proc/thread-self/ns/net');

  const tap = (options: Omit<TapOptions, 'netns'>) => {
    const opened = native.tapOpen({ netns, ...options });
    opened.fds.forEach(keep);
    return opened;
  };

  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', netns]);
    // Else the kernel would speak of its own accord on every device that goes up.
    execFileSync('ip', ['netns', 'exec', netns, 'sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1']);
    ip('link', 'set', 'lo', 'up');
  });
  afterAll(() => {
    execFileSync('ip', ['netns', 'del', netns]);
  });
  afterEach(() => {
    expect(readlinkSync('/proc/thread-self/ns/net')).toBe(home);
  });

  it('makes a TAP as asked for', () => {
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 9);
    const made = tap({ name: 'eth0', mtu: 1450, mac, alias: 'tortie pod a', up: true });
    expect(made).toMatchObject({ created: true, mac, mtu: 1450 });
    const [link] = JSON.parse(ip('-j', '-d', 'link', 'show', 'eth0'));
    expect(link).toMatchObject({
      ifindex: made.ifindex,
      mtu: 1450,
      address: '02:00:00:00:00:09',
      ifalias: 'tortie pod a',
      linkinfo: { info_data: { type: 'tap', pi: false, vnet_hdr: false, persist: false } },
    });
    expect(link.flags).toContain('UP');
    native.close(open.pop()!);
    expect(() => native.linkSet({ netns, name: 'eth0' })).toThrow(`SIOCGIFINDEX eth0${where}: ENODEV`);
  });

  it('reads and writes bursts of frames', () => {
    const { fds } = tap({ name: 't1', up: true, mac: Uint8Array.of(2, 0, 0, 0, 0, 1) });
    ip('addr', 'add', '10.9.0.1/24', 'dev', 't1');
    ip('neigh', 'add', '10.9.0.2', 'lladdr', '02:00:00:00:00:02', 'dev', 't1');
    const sender = keep(native.udpOpen({ netns, address: 0x0a090001, port: 1000 }));
    const rows = new Int32Array(BURST * ROW);
    for (let i = 0; i < BURST; i++) {
      rows[i * ROW + LENGTH] = i * 20;
      rows[i * ROW + ADDRESS] = 0x0a090002;
    }
    expect(native.udpSend(Int32Array.of(sender), arena, rows, BURST, 2000, 0)).toBe(BURST);
    const back = new Int32Array(BURST * ROW);
    let expected = 0;
    let next = 0;
    const bytes = new Uint8Array(arena.length);
    receive(
      fds[0],
      BURST,
      bytes,
      (row) => {
        expect(row[LENGTH]).toBe(14 + 20 + 8 + expected * 20);
        if (row[OFFSET] === HEADROOM) next = HEADROOM;
        expect(row[OFFSET]).toBe(next);
        next = Math.ceil((next + row[LENGTH]) / 64) * 64 + HEADROOM;
        back.set(row, expected * ROW);
        expected++;
      },
      'tapRead',
    );
    // Hand the first one back as if the neighbour had answered.
    const at = back[OFFSET];
    bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], at);
    bytes.set([10, 9, 0, 2, 10, 9, 0, 1], at + 14 + 12);
    bytes.set([2000 >> 8, 2000 & 255, 1000 >> 8, 1000 & 255], at + 34);
    expect(native.tapWrite(fds[0], bytes, back, 1, 0)).toBe(1);
    receive(sender, 1, arena, (row) => {
      expect(row[ADDRESS]).toBe(0x0a090002);
      expect(row[UDP_PORT]).toBe(2000);
      expect(row[LENGTH]).toBe(0);
    });
  });

  it('tells of every row that a full socket did not take', () => {
    tap({ name: 'full', up: true });
    ip('addr', 'add', '10.7.0.1/24', 'dev', 'full');
    // Nobody reads the TAP, so ARP stays unanswered and what waits for it stays charged to the socket.
    const sender = keep(native.udpOpen({ netns, address: 0, port: 0, bufferBytes: 20_000 }));
    const rows = new Int32Array(2 * BURST * ROW);
    for (let row = 0; row < rows.length; row += ROW) {
      rows[row + LENGTH] = 1000;
      rows[row + ADDRESS] = 0x0a070002;
      rows[row + STATUS] = -1;
    }
    const sent = native.udpSend(Int32Array.of(sender), arena, rows, 2 * BURST, 2000, 0);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(BURST);
    const statuses = Array.from({ length: 2 * BURST }, (_, i) => rows[i * ROW + STATUS]);
    expect(statuses).toEqual([...Array(sent).fill(0), ...Array(2 * BURST - sent).fill(11)]);
  });

  it('adopts a persistent TAP with what it has, and releases it', () => {
    const first = native.tapOpen({ netns, name: 'keep', persist: true, alias: 'tortie host', mtu: 1400 });
    native.close(first.fds[0]);
    ip('addr', 'add', '10.8.0.1/32', 'dev', 'keep');
    const again = tap({ name: 'keep', up: true });
    expect(again).toEqual({ ...first, created: false, fds: again.fds });
    expect(ip('addr', 'show', 'keep')).toContain('10.8.0.1/32');
    expect(ip('link', 'show', 'keep')).toContain('tortie host');
    native.tapRelease(again.fds[0]);
    native.close(open.pop()!);
    expect(() => ip('link', 'show', 'keep')).toThrow();
  });

  it('names the holder’s part in it when another process holds the TAP', async () => {
    const holder = spawn(
      process.execPath,
      [
        '-e',
        `require(${JSON.stringify(ADDON)}).tapOpen({ netns: ${JSON.stringify(netns)}, name: 'held', persist: true });
         console.log('held'); process.stdin.resume();`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    await once(holder.stdout, 'data');
    expect(thrown(() => tap({ name: 'held' })).message).toBe(
      `TUNSETIFF held${where}: EBUSY, another process holds the device: stop it, or let it close the device first`,
    );
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const adopted = tap({ name: 'held' });
    expect(adopted.created).toBe(false);
    native.tapRelease(adopted.fds[0]);
  });

  it('opens as many queues as asked for', () => {
    const { fds } = tap({ name: 'mq', queues: 4, up: true });
    expect(new Set(fds).size).toBe(4);
    expect(JSON.parse(ip('-j', '-d', 'link', 'show', 'mq'))[0].linkinfo.info_data.multi_queue).toBe(true);
    expect(() => tap({ name: 'mq' })).toThrow(
      `TUNSETIFF mq${where}: EINVAL, a device of that name exists and is no TAP, or has another kind of queue`,
    );
  });

  it('leaves no device behind when its set-up fails', () => {
    expect(() => tap({ name: 'bad', persist: true, mtu: 65535 })).toThrow(
      `RTM_SETLINK bad mtu 65535${where}: EINVAL, the device does not take that value`,
    );
    expect(() => ip('link', 'show', 'bad')).toThrow();
    expect(() => tap({ name: 'lo' })).toThrow(`TUNSETIFF lo${where}: EINVAL`);
  });

  it('changes devices that exist', () => {
    ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1');
    const mac = Uint8Array.of(2, 0, 0, 0, 0, 7);
    native.linkSet({ netns, name: 'v0', mtu: 1300, mac, alias: 'other', up: true });
    const read = () => JSON.parse(ip('-j', 'link', 'show', 'v0'))[0];
    expect(read()).toMatchObject({ mtu: 1300, address: '02:00:00:00:00:07', ifalias: 'other' });
    expect(read().flags).toContain('UP');
    native.linkSet({ netns, name: 'v0', up: false });
    expect(read().flags).not.toContain('UP');
    expect(read().mtu).toBe(1300);
    expect(() => native.linkSet({ netns, name: 'v0', mac: new Uint8Array(6) })).toThrow(
      `RTM_SETLINK v0 mac 00:00:00:00:00:00${where}: EADDRNOTAVAIL, the MAC must be unicast and not zero`,
    );
  });

  it('says so when the device is gone or down', () => {
    const { fds } = tap({ name: 'gone' });
    const rows = new Int32Array(ROW);
    rows[LENGTH] = 60;
    expect(native.tapWrite(fds[0], arena, rows, 1, 0)).toBe(0);
    expect(rows[STATUS]).toBe(5);
    ip('link', 'del', 'gone');
    expect(() => native.tapRead(fds[0], arena, rows, 1, 0, 0, 0)).toThrow(
      `read descriptor ${fds[0]}: EBADFD, the device is gone: it was removed`,
    );
    rows[LENGTH] = 60;
    expect(native.tapWrite(fds[0], arena, rows, 1, 0)).toBe(0);
    expect(rows[STATUS]).toBe(77);
  });

  it('sends and receives whole IP packets on a raw socket', () => {
    const fd = keep(native.rawOpen({ netns, address: LOOPBACK, protocol: 4, headerIncluded: true }));
    const count = BURST + 3;
    const rows = new Int32Array(count * ROW);
    const out = new Uint8Array(count * 64);
    for (let i = 0; i < count; i++) {
      out.set([0x45, i & 0xff, 0, 24, 0, i + 1, 0, 0, 64, 4, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1], i * 64);
      rows[i * ROW + OFFSET] = i * 64;
      rows[i * ROW + LENGTH] = 24;
      rows[i * ROW + ADDRESS] = LOOPBACK;
    }
    expect(native.rawSend(fd, out, rows, count)).toBe(count);
    let i = 0;
    receive(
      fd,
      count,
      arena,
      (row) => {
        expect([row[LENGTH], row[ADDRESS], row[TOS]]).toEqual([24, LOOPBACK, i]);
        expect(arena[row[OFFSET]]).toBe(0x45);
        i++;
      },
      'rawReceive',
    );
  });

  it('refuses a file that is no namespace', () => {
    expect(() => native.udpOpen({ netns: '/dev/null', address: 0, port: 0 })).toThrow(
      'setns /dev/null: EINVAL, that file is no network namespace',
    );
  });
});
