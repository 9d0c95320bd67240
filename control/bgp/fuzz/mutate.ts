/** Messages made wrong where decoders of BGP have been wrong: in lengths, in repeated attributes, in what is cut short. */
import { located } from '../attribute-list.ts';
import { AttributeType } from '../attributes.ts';
import { get16, put16 } from '../bytes.ts';
import { HEADER, MAX_EXTENDED_MESSAGE, OPEN, UPDATE } from '../message.ts';
import type { Random } from './random.ts';

interface Field {
  readonly at: number;
  readonly size: 1 | 2;
}

/** Values at which something changes: ends of ranges, lengths of addresses and of words. */
const EDGES = [0, 1, 2, 3, 4, 5, 8, 12, 15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 129, 254, 255];
/** Bytes of a message that is made longer; the largest message is this much the exception. */
const LONG = 60_000;

/** The path attributes of an UPDATE, as far as its lengths can be believed. */
function attributesIn(message: Uint8Array): { from: number; to: number } | null {
  if (message[18] !== UPDATE || message.length < HEADER + 4) return null;
  const lengthAt = HEADER + 2 + get16(message, HEADER);
  if (lengthAt + 2 > message.length) return null;
  const from = lengthAt + 2;
  return { from, to: Math.min(from + get16(message, lengthAt), message.length) };
}

/** Where a message says how long something is, or how many. */
function lengthFields(message: Uint8Array): Field[] {
  const fields: Field[] = [{ at: 16, size: 2 }];
  if (message[18] === OPEN) {
    fields.push({ at: HEADER + 9, size: 1 });
    for (let at = HEADER + 10; at + 2 <= message.length; at += 2 + message[at + 1]!) {
      fields.push({ at: at + 1, size: 1 });
      const end = Math.min(at + 2 + message[at + 1]!, message.length);
      for (let inner = at + 2; inner + 2 <= end; inner += 2 + message[inner + 1]!) {
        fields.push({ at: inner + 1, size: 1 });
      }
    }
  }
  const list = attributesIn(message);
  if (list) {
    fields.push({ at: HEADER, size: 2 }, { at: list.from - 2, size: 2 }, { at: list.to, size: 1 });
    for (const { type, from, value } of located(message, list.from, list.to)) {
      fields.push({ at: from + 2, size: value - from === 4 ? 2 : 1 });
      // The next hop's, and the first prefix's behind it; a segment's.
      if (type === AttributeType.MP_REACH) {
        fields.push({ at: value + 3, size: 1 }, { at: value + 5 + (message[value + 3] ?? 0), size: 1 });
      } else if (type === AttributeType.MP_UNREACH) fields.push({ at: value + 3, size: 1 });
      else if (type === AttributeType.AS_PATH) fields.push({ at: value + 1, size: 1 });
    }
  }
  return fields.filter(({ at, size }) => at + size <= message.length);
}

const join = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

type Change = (message: Uint8Array, random: Random, others: readonly Uint8Array[]) => Uint8Array;

/** A place behind the marker, and rarely in it. */
const somewhere = ({ length }: Uint8Array, random: Random): number =>
  random.chance(0.02) ? random.below(length) : Math.min(16 + random.below(length), length - 1);

function setLength(message: Uint8Array, random: Random, change: (value: number) => number): Uint8Array {
  const fields = lengthFields(message);
  if (fields.length === 0) return message;
  const { at, size } = random.pick(fields);
  if (size === 1) message[at] = change(message[at]!);
  else put16(message, at, change(get16(message, at)) & 0xffff);
  return message;
}

/** The list of attributes as `edit` leaves it, and its length with it. */
function editAttributes(message: Uint8Array, edit: (parts: Uint8Array[]) => Uint8Array[]): Uint8Array {
  const list = attributesIn(message);
  if (!list) return message;
  const parts = [...located(message, list.from, list.to)].map(({ from, to }) => message.subarray(from, to));
  if (parts.length === 0) return message;
  const known = parts.reduce((sum, { length }) => sum + length, 0);
  const edited = join(...edit(parts));
  const out = join(message.subarray(0, list.from), edited, message.subarray(list.from + known));
  put16(out, list.from - 2, (list.to - list.from - known + edited.length) & 0xffff);
  return out;
}

const CHANGES: readonly Change[] = [
  function flipBit(message, random) {
    message[somewhere(message, random)]! ^= 1 << random.below(8);
    return message;
  },
  function setByte(message, random) {
    message[somewhere(message, random)] = random.chance(0.5) ? random.below(256) : random.pick(EDGES);
    return message;
  },
  function offByOne(message, random) {
    return setLength(message, random, (value) => value + random.pick([-1, 1]));
  },
  function oddLength(message, random) {
    return setLength(message, random, () => random.pick(EDGES));
  },
  function hugeLength(message, random) {
    return setLength(message, random, () => random.pick([0xffff, 0xff00, 0x7fff, 0x8000, 0x1000]));
  },
  function truncate(message, random) {
    return message.subarray(0, random.below(message.length));
  },
  function cutOut(message, random) {
    const at = somewhere(message, random);
    return join(message.subarray(0, at), message.subarray(at + 1 + random.below(8)));
  },
  function insert(message, random) {
    const at = somewhere(message, random);
    const bytes = Uint8Array.from({ length: 1 + random.below(8) }, () => random.below(256));
    return join(message.subarray(0, at), bytes, message.subarray(at));
  },
  function repeatBytes(message, random) {
    const at = somewhere(message, random);
    const bytes = message.subarray(at, at + 1 + random.below(24));
    const times = random.chance(0.02) ? Math.floor(LONG / bytes.length) : 1 + random.below(8);
    return join(message.subarray(0, at), ...new Array<Uint8Array>(times).fill(bytes), message.subarray(at));
  },
  function repeatAttribute(message, random) {
    return editAttributes(message, (parts) => {
      const times = random.chance(0.02) ? Math.floor(LONG / parts[0]!.length) : 1;
      const part = times > 1 ? parts[0]! : random.pick(parts);
      parts.splice(random.below(parts.length + 1), 0, ...new Array<Uint8Array>(times).fill(part));
      return parts;
    });
  },
  function dropAttribute(message, random) {
    return editAttributes(message, (parts) => parts.filter((_, i, { length }) => i !== random.below(length)));
  },
  function borrowAttribute(message, random, others) {
    const other = random.pick(others);
    const list = attributesIn(other);
    const theirs = list ? [...located(other, list.from, list.to)] : [];
    if (theirs.length === 0) return message;
    const { from, to } = random.pick(theirs);
    return editAttributes(message, (parts) => {
      parts.splice(random.below(parts.length + 1), 0, other.subarray(from, to));
      return parts;
    });
  },
  function retypeAttribute(message, random) {
    return editAttributes(message, (parts) => {
      const part = random.pick(parts);
      part[1] = random.chance(0.7) ? random.pick(Object.values(AttributeType)) : random.below(256);
      return parts;
    });
  },
  function growAttribute(message, random) {
    return editAttributes(message, (parts) => {
      const at = random.below(parts.length);
      const part = parts[at]!;
      const value = part.subarray(part[0]! & 0x10 ? 4 : 3);
      const most = random.chance(0.02) ? LONG : 600;
      const times = Math.floor(most / Math.max(1, value.length));
      const grown = join(...new Array<Uint8Array>(times).fill(value));
      parts[at] = join(Uint8Array.of(part[0]! | 0x10, part[1]!, grown.length >> 8, grown.length), grown);
      return parts;
    });
  },
  function splice(message, random, others) {
    const other = random.pick(others);
    return join(message.subarray(0, somewhere(message, random)), other.subarray(somewhere(other, random)));
  },
];

/** A message of ours with one mistake or several in it. Its own length mostly holds: what is behind it is of interest. */
export function mutate(message: Uint8Array, others: readonly Uint8Array[], random: Random): Uint8Array {
  let bytes = message.slice();
  let count = 1;
  while (count < 8 && random.chance(0.3)) count++;
  for (; count > 0 && bytes.length > HEADER; count--)
    bytes = random.pick(CHANGES)(bytes, random, others).slice();
  if (bytes.length >= HEADER && bytes.length <= MAX_EXTENDED_MESSAGE && random.chance(0.9)) {
    put16(bytes, 16, bytes.length);
  }
  return bytes;
}
