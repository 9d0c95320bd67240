/** Routes for tests: from text, onto the wire, and back. */
import type { PathSource } from '../rib/decision.ts';
import { AttributeTable } from './attribute-table.ts';
import { type AttributeContext, type Attributes, encodeAttributes, NO_ATTRIBUTES } from './attributes.ts';
import { formatPrefix, IPV4, IPV6, type Prefix, parseWords } from './family.ts';
import { HEADER, MAX_MESSAGE, UPDATE } from './message.ts';
import type { NextHop } from './next-hop.ts';
import { LENGTH, PATH_ID, PrefixList, WORDS } from './nlri.ts';
import { encodeAnnouncements, encodeWithdrawals, type Update, UpdateDecoder } from './update.ts';

export const table = new AttributeTable();

export function prefixOf(text: string): Prefix {
  const [address, length] = text.split('/');
  const words = parseWords(address!);
  return { family: words.length === 1 ? IPV4 : IPV6, words, length: Number(length) };
}

/** Prefixes of one family; "10.0.0.0/8#7" has path identifier 7. */
export function listOf(...prefixes: string[]): PrefixList {
  const list = new PrefixList(prefixes[0]?.includes(':') ? IPV6 : IPV4);
  for (const text of prefixes) {
    const [prefix, pathId] = text.split('#');
    const { words, length } = prefixOf(prefix!);
    list.add(words, length, Number(pathId ?? 0));
  }
  return list;
}

/** `count` prefixes 11.0.0.0/24, 11.0.1.0/24 and so on. */
export function many(count: number, first = 0x0b000000): PrefixList {
  const list = new PrefixList(IPV4);
  for (let i = 0; i < count; i++) list.add([(first + i * 256) | 0], 24);
  return list;
}

export function textsOf({ family, data, end, stride }: PrefixList): string[] {
  const texts: string[] = [];
  for (let at = 0; at < end; at += stride) {
    const words = data.subarray(at + WORDS, at + stride);
    const text = formatPrefix({ family, words, length: data[at + LENGTH]! });
    texts.push(data[at + PATH_ID] === 0 ? text : `${text}#${data[at + PATH_ID]! >>> 0}`);
  }
  return texts;
}

export const nextHopOf = (text: string): NextHop => {
  const words = parseWords(text);
  return table.nextHops.at(words.length === 1 ? IPV4 : IPV6, words);
};

export function sourceOf(index: number, more: Partial<PathSource> = {}): PathSource {
  return {
    index,
    name: `10.0.0.${index}`,
    address: parseWords(`10.0.0.${index}`),
    id: 0x0a000000 + index,
    asn: 64512,
    internal: true,
    client: false,
    local: false,
    ...more,
  };
}

export const attributesOf = (nextHop: string, more: Partial<Attributes> = {}): Attributes => ({
  ...NO_ATTRIBUTES,
  nextHop: nextHopOf(nextHop),
  localPref: 100,
  ...more,
});

export const IBGP: AttributeContext = {
  as4: true,
  ibgp: true,
  firstAs: null,
  families: [true, true],
  addPath: [false, false],
  nextHop6: true,
  nextHops: table.nextHops,
};

interface Form {
  as4?: boolean;
  addPath?: boolean;
  maxMessage?: number;
}

/** UPDATEs that announce prefixes. */
export function announcing(attributes: Attributes, list: PrefixList, form: Form = {}): Uint8Array[] {
  const { as4 = true, addPath = false, maxMessage = MAX_MESSAGE } = form;
  const isPlain = list.family === IPV4 && attributes.nextHop?.family !== IPV6;
  const encoded = {
    bytes: encodeAttributes(attributes, { as4, nextHop: isPlain }),
    nextHop: isPlain ? null : attributes.nextHop,
  };
  return [...encodeAnnouncements(encoded, list, { family: list.family, addPath, maxMessage })];
}

export function withdrawing(
  list: PrefixList,
  { addPath = false, maxMessage = MAX_MESSAGE }: Form = {},
): Uint8Array[] {
  return [...encodeWithdrawals(list, { family: list.family, addPath, maxMessage })];
}

/** A decoded UPDATE as plain data. */
export interface Told {
  withdrawn: string[];
  announced: { attributes: Attributes; prefixes: string[] }[];
  endOfRib: string | null;
  fault: string | null;
  discarded: string[];
}

export const plain = ({ withdrawn, announced, endOfRib, fault, discarded }: Update): Told => ({
  withdrawn: withdrawn.flatMap(textsOf),
  announced: announced.map(({ set, prefixes }) => ({
    attributes: set.attributes,
    prefixes: textsOf(prefixes),
  })),
  endOfRib: endOfRib?.name ?? null,
  fault,
  discarded: [...discarded],
});

/** Decode the body of an UPDATE, or a whole one. */
export function decode(bytes: Uint8Array, context: AttributeContext = IBGP): Told {
  const offset = bytes[0] === 0xff && bytes[18] === UPDATE ? HEADER : 0;
  return plain(new UpdateDecoder(context, table).decode(bytes, offset, bytes.length));
}

/** What a peer was told, in order: "prefix via next hop", "-prefix", and "end of ipv4". */
export function toldBy(messages: readonly Uint8Array[], context: AttributeContext = IBGP): string[] {
  return messages
    .filter((message) => message[18] === UPDATE)
    .flatMap((message) => {
      const { withdrawn, announced, endOfRib } = decode(message, context);
      const lines = withdrawn.map((prefix) => `-${prefix}`);
      for (const { attributes, prefixes } of announced) {
        lines.push(...prefixes.map((prefix) => `${prefix} via ${attributes.nextHop!.text}`));
      }
      return endOfRib ? [...lines, `end of ${endOfRib}`] : lines;
    });
}
