import { describe, expect, it } from 'vitest';
import { CHECKSUM_START, LENGTH, OFFLOAD, OFFSET, PARTIAL_CHECKSUM, ROW, STATUS } from '../memory/burst.ts';
import { HEADROOM, MAX_FRAME } from '../memory/layout.ts';
import type { Faults } from '../messages.ts';
import { FaultyPort } from './faults.ts';
import type { Port } from './port.ts';

const SLOT = 256;
const FRAMES = 64;

/** A device that keeps what it is sent, and has frames numbered from 0 to give. */
function faulty(faults: { from?: Faults; to?: Faults }, seed = 1, least = 1) {
  const clock = { now: 0 };
  const sent: number[][] = [];
  const arena = new Uint8Array(4 * (HEADROOM + MAX_FRAME));
  const rows = new Int32Array(FRAMES * ROW);
  const inner: Port = {
    inputs: [7],
    receive: () => fill(),
    transmit: (bytes, out, count) => {
      for (let row = 0; row < count * ROW; row += ROW) {
        sent.push([...bytes.slice(out[row + OFFSET], out[row + OFFSET]! + out[row + LENGTH]!)]);
        out[row + STATUS] = 0;
      }
      return count;
    },
  };
  function fill(): number {
    for (let i = 0; i < FRAMES; i++) {
      const row = i * ROW;
      rows.fill(0, row, row + ROW);
      rows[row + OFFSET] = i * SLOT + HEADROOM;
      rows[row + LENGTH] = 60;
      arena.fill(0, i * SLOT, (i + 1) * SLOT);
      arena[i * SLOT + HEADROOM] = i;
    }
    return FRAMES;
  }
  const port = new FaultyPort(
    inner,
    { seed, from: faults.from ?? {}, to: faults.to ?? {} },
    arena,
    () => clock.now,
    least,
  );
  return {
    port,
    clock,
    sent,
    rows,
    /** Frames as the pipeline gets them. */
    receive: () => {
      const count = port.receive(arena, rows, 0, HEADROOM);
      return Array.from({ length: count }, (_, i) => {
        const offset = rows[i * ROW + OFFSET]!;
        return [...arena.slice(offset, offset + rows[i * ROW + LENGTH]!)];
      });
    },
    /** Send the numbered frames. */
    send: (change: (rows: Int32Array) => void = () => {}) => {
      fill();
      change(rows);
      return port.transmit(arena, rows, FRAMES);
    },
  };
}
const numbers = (frames: number[][]) => frames.map(([first]) => first);
const all = Array.from({ length: FRAMES }, (_, i) => i);

describe('a port with faults', () => {
  it('passes all on where nothing happens', () => {
    const { port, sent, receive, send } = faulty({});
    expect(send()).toBe(FRAMES);
    expect(numbers(sent)).toEqual(all);
    expect(numbers(receive())).toEqual(all);
    expect(port.drainMs()).toBe(-1);
  });

  it('loses some, and says that they went: a wire would not tell', () => {
    const { port, sent, send, rows } = faulty({ to: { loss: 0.3 } });
    rows.fill(-1);
    expect(send()).toBe(FRAMES);
    expect(sent.length).toBe(FRAMES - port.tally.lost);
    expect(port.tally.lost).toBeGreaterThan(5);
    expect(port.tally.lost).toBeLessThan(40);
    expect(all.every((i) => rows[i * ROW + STATUS] === 0)).toBe(true);
    // In order still.
    expect(numbers(sent)).toEqual(numbers(sent).toSorted((a, b) => a! - b!));
  });

  it('loses what is received before anybody counts it', () => {
    const { port, receive } = faulty({ from: { loss: 0.3 } });
    expect(receive()).toHaveLength(FRAMES - port.tally.lost);
    expect(port.tally.lost).toBeGreaterThan(5);
  });

  it.each(['from', 'to'] as const)('corrupts one bit, and cuts short (%s)', (way) => {
    const { port, sent, send, receive } = faulty({ [way]: { corrupt: 0.5, truncate: 0.3 } });
    send();
    const frames = way === 'to' ? sent : receive();
    const cut = frames.filter((frame) => frame.length < 60);
    const bent = frames.filter((frame) => frame.slice(1).some((byte) => byte !== 0));
    expect(cut.length).toBeGreaterThan(5);
    expect(bent.length).toBeGreaterThan(5);
    expect(bent.every((frame) => frame.filter((byte, at) => at > 0 && byte !== 0).length === 1)).toBe(true);
    expect(port.tally.corrupted).toBeGreaterThan(15);
  });

  it('cuts no frame so short that its device could not send it', () => {
    const { sent, send } = faulty({ to: { truncate: 1 } }, 1, 48);
    expect(send()).toBe(FRAMES);
    const lengths = sent.map(({ length }) => length);
    expect(Math.min(...lengths)).toBe(48);
    expect(Math.max(...lengths)).toBeGreaterThan(48);
  });

  it('loses what it would corrupt, where a device completes the checksum and so would hide it', () => {
    const { port, sent, send } = faulty({ to: { corrupt: 1 } });
    send((rows) => {
      rows[OFFLOAD] = PARTIAL_CHECKSUM;
      rows[CHECKSUM_START] = HEADROOM + 20;
    });
    expect(port.tally).toMatchObject({ lost: 1, corrupted: FRAMES - 1 });
    expect(sent).toHaveLength(FRAMES - 1);
  });

  it('reorders neighbours', () => {
    const { port, sent, send } = faulty({ to: { reorder: 0.2 } });
    send();
    expect(port.tally.reordered).toBeGreaterThan(3);
    expect(numbers(sent)).not.toEqual(all);
    expect(numbers(sent).toSorted((a, b) => a! - b!)).toEqual(all);
  });

  it('sends some twice, as soon as it may', () => {
    const { port, sent, send } = faulty({ to: { duplicate: 0.3 } });
    expect(send()).toBe(FRAMES);
    expect(sent).toHaveLength(FRAMES);
    expect(port.drainMs()).toBe(0);
    port.drain();
    expect(sent).toHaveLength(FRAMES + port.tally.duplicated);
    expect(port.tally.duplicated).toBeGreaterThan(5);
    expect(new Set(numbers(sent)).size).toBe(FRAMES);
  });

  it('lets some wait, and sends them when their time has come', () => {
    const { port, clock, sent, send } = faulty({ to: { delay: 0.5, delayMs: 20 } });
    expect(send()).toBe(FRAMES);
    expect(sent).toHaveLength(FRAMES - port.tally.delayed);
    expect(port.drainMs()).toBeGreaterThanOrEqual(0);
    clock.now = 20;
    expect(port.drainMs()).toBe(0);
    port.drain();
    expect(numbers(sent).toSorted((a, b) => a! - b!)).toEqual(all);
    expect(port.drainMs()).toBe(-1);
  });

  it('sends all that waits when its port goes', () => {
    const { port, sent, send } = faulty({ to: { delay: 1, delayMs: 10_000 } });
    send();
    port.flush();
    expect(sent).toHaveLength(FRAMES);
  });

  it('is bounded', () => {
    const { port, send } = faulty({ to: { delay: 1, delayMs: 10_000 } });
    for (let i = 0; i < 20; i++) send();
    expect(port.tally.lost).toBe(20 * FRAMES - 1024);
  });

  it('does the same again with the same seed', () => {
    const run = (seed: number) => {
      const { sent, send, port } = faulty(
        { to: { loss: 0.1, corrupt: 0.1, reorder: 0.1, duplicate: 0.1 } },
        seed,
      );
      send();
      port.drain();
      return sent;
    };
    expect(run(3)).toEqual(run(3));
    expect(run(3)).not.toEqual(run(4));
  });
});
