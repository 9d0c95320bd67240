/** The UPDATE message (RFC 4271 4.3, errors by 6.3 and RFC 7606). */

import {
  type AttributeContext,
  type Attributes,
  decodeAttributes,
  encodeAttributes,
  AttributeType as T,
} from './attributes.ts';
import { get16, put16 } from './bytes.ts';
import { BgpError, UPDATE_ERROR } from './error.ts';
import { frame, HEADER, MAX_MESSAGE, UPDATE } from './message.ts';
import { decodePrefixes, encodePrefixes, type FlatPrefixes, prefixSize } from './nlri.ts';

export interface Announcement {
  attributes: Attributes;
  prefixes: FlatPrefixes;
}

export interface Update {
  withdrawn: FlatPrefixes;
  announced: Announcement[];
  /** Why announced routes were treated as withdrawn, or null (RFC 7606). */
  fault: string | null;
  /** Attributes that were left out, and why. */
  discarded: string[];
}

/** Decode the body of an UPDATE. Throws 3/x where the session cannot go on. */
export function decodeUpdate(
  bytes: Uint8Array,
  offset: number,
  end: number,
  context: AttributeContext,
): Update {
  const attributesLengthAt = offset + 2 + get16(bytes, offset);
  if (attributesLengthAt + 2 > end) {
    throw new BgpError(UPDATE_ERROR, 1, 'withdrawn routes run over the end of the message');
  }
  const attributesAt = attributesLengthAt + 2;
  const prefixesAt = attributesAt + get16(bytes, attributesLengthAt);
  if (prefixesAt > end) {
    throw new BgpError(UPDATE_ERROR, 1, 'path attributes run over the end of the message');
  }
  const withdrawn = decodePrefixes(bytes, offset + 2, attributesLengthAt);
  const prefixes = decodePrefixes(bytes, prefixesAt, end);
  const decoded = decodeAttributes(bytes, attributesAt, prefixesAt, context);
  const { attributes, present, reach, unreach, discarded } = decoded;
  if (unreach) for (const value of unreach) withdrawn.push(value);

  let fault = decoded.fault;
  const reachable = prefixes.length > 0 || reach !== null;
  if (reachable) {
    if (!present.includes(T.ORIGIN)) fault ??= 'no ORIGIN';
    if (!present.includes(T.AS_PATH)) fault ??= 'no AS_PATH';
    if (prefixes.length > 0 && !present.includes(T.NEXT_HOP)) fault ??= 'no NEXT_HOP';
  } else if (fault && !decoded.otherFamily) {
    // RFC 7606 5.2: nothing reachable was read, so nothing can stand for what the broken attributes belong to.
    throw new BgpError(UPDATE_ERROR, 1, fault);
  }
  const announced: Announcement[] = [];
  if (fault) {
    for (const value of prefixes) withdrawn.push(value);
    if (reach) for (const value of reach.prefixes) withdrawn.push(value);
  } else {
    if (prefixes.length > 0) announced.push({ attributes, prefixes });
    if (reach && reach.prefixes.length > 0) {
      announced.push({
        attributes: { ...attributes, nextHop: reach.nextHop },
        prefixes: reach.prefixes,
      });
    }
  }
  return { withdrawn, announced, fault, discarded };
}

/** Cut a list into runs that fit `room` bytes: flat indices and the size in bytes. */
function* runs(list: FlatPrefixes, room: number): Generator<[from: number, to: number, size: number]> {
  let from = 0;
  let size = 0;
  for (let i = 0; i < list.length; i += 2) {
    const next = prefixSize(list[i + 1]!);
    if (size + next > room) {
      yield [from, i, size];
      from = i;
      size = 0;
    }
    size += next;
  }
  if (from < list.length) yield [from, list.length, size];
}

const ROOM = MAX_MESSAGE - HEADER - 4;

/** UPDATEs that withdraw all of `prefixes`, each at most 4096 bytes. */
export function* encodeWithdrawals(prefixes: FlatPrefixes): Generator<Uint8Array> {
  for (const [from, to, size] of runs(prefixes, ROOM)) {
    const body = new Uint8Array(4 + size);
    put16(body, 0, size);
    encodePrefixes(prefixes, from, to, body, 2);
    yield frame(UPDATE, body);
  }
}

/**
 * UPDATEs that announce all of `prefixes`, each at most 4096 bytes. Nothing at all when the attributes leave no
 * room for a prefix (RFC 4271 9.2: such a route is not advertised).
 */
export function* encodeAnnouncements(
  { attributes, prefixes }: Announcement,
  context: { as4: boolean },
): Generator<Uint8Array> {
  const list = encodeAttributes(attributes, context);
  const room = ROOM - list.length;
  if (room < prefixSize(32)) return;
  for (const [from, to, size] of runs(prefixes, room)) {
    const body = new Uint8Array(4 + list.length + size);
    put16(body, 2, list.length);
    body.set(list, 4);
    encodePrefixes(prefixes, from, to, body, 4 + list.length);
    yield frame(UPDATE, body);
  }
}
