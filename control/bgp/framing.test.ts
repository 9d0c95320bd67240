import { describe, expect, it } from 'vitest';
import { Framer } from './framing.ts';
import { encodeNotification, frame, keepalive, MAX_MESSAGE, UPDATE } from './message.ts';

const messages = [
  keepalive,
  frame(UPDATE, new Uint8Array(4)),
  encodeNotification({ code: 6, subcode: 2, data: Uint8Array.of(3, 65, 66, 67) }),
  frame(UPDATE, new Uint8Array(300).fill(7)),
  keepalive,
];
const longest = frame(UPDATE, new Uint8Array(MAX_MESSAGE - 19).fill(7));
const join = (list: Uint8Array[]) => Uint8Array.from(list.flatMap((message) => [...message]));
const stream = join(messages);

/** All messages that the chunks make, as whole messages again. */
function take(chunks: Iterable<Uint8Array>): Uint8Array[] {
  const framer = new Framer();
  const out: Uint8Array[] = [];
  for (const chunk of chunks) {
    framer.push(chunk);
    for (let next = framer.next(); next; next = framer.next()) {
      out.push(frame(next.type, next.bytes.slice(next.offset, next.end)));
    }
    if (framer.pending >= MAX_MESSAGE) throw new Error('more than a message is kept');
  }
  expect(framer.pending).toBe(0);
  return out;
}

describe('Framer', () => {
  it('finds the messages of a stream torn at any one byte', () => {
    for (let at = 0; at <= stream.length; at++) {
      expect(take([stream.subarray(0, at), stream.subarray(at)])).toEqual(messages);
    }
  });

  it('finds them byte by byte', () => {
    const all = [...messages, longest, ...messages];
    expect(take(Array.from(join(all), (byte) => Uint8Array.of(byte)))).toEqual(all);
  });

  it('gives what came before a bad header, then throws', () => {
    const framer = new Framer();
    framer.push(Uint8Array.from([...keepalive, ...new Uint8Array(19)]));
    expect(framer.next()?.type).toBe(4);
    expect(() => framer.next()).toThrow('(1/1)');
  });

  it('throws at a bad length before the message is there', () => {
    const framer = new Framer();
    const header = keepalive.slice();
    header.set([0xff, 0xff, UPDATE], 16);
    framer.push(header);
    expect(() => framer.next()).toThrow('(1/2)');
  });
});
