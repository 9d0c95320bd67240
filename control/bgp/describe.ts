/** What a message says, for people who watch a session. */
import { AttributeTable } from './attribute-table.ts';
import { get32 } from './bytes.ts';
import { CAP_AS4 } from './capabilities.ts';
import { type Agreement, explain, offerOf } from './connection.ts';
import { type FamilyName, familyOf, formatPrefix } from './family.ts';
import {
  decodeNotification,
  decodeOpen,
  decodeRouteRefresh,
  HEADER,
  KEEPALIVE,
  NOTIFICATION,
  OPEN,
  REFRESH_BEGIN,
  REFRESH_END,
  REFRESH_REQUEST,
  ROUTE_REFRESH,
  UPDATE,
} from './message.ts';
import { LENGTH, PATH_ID, type PrefixList, WORDS } from './nlri.ts';
import type { Offer } from './status.ts';
import { type AttributesView, attributesView } from './text.ts';
import { UpdateDecoder } from './update.ts';

export interface UpdateView {
  /** Path identifiers behind a "#". */
  withdrawn: string[];
  announced: { prefixes: string[]; nextHop: string | null; attributes: AttributesView }[];
  endOfRib: FamilyName | null;
  /** Why announced routes count as withdrawn, or null (RFC 7606). */
  fault: string | null;
  /** Attributes that were left out, and why. */
  discarded: string[];
  /** Prefixes that came and are not listed here: a list has 4,096 at most. */
  unlisted: number;
}

/** A message may hold 65,000 prefixes, and nobody reads on so far. */
const MAX_LISTED = 4096;

/** One message: its type, its length in bytes with the header, and what it says. */
export type MessageView = { length: number } & (
  | ({ type: 'OPEN' } & Offer)
  | ({ type: 'UPDATE' } & UpdateView)
  | { type: 'NOTIFICATION'; text: string }
  | { type: 'KEEPALIVE' }
  | { type: 'ROUTE-REFRESH'; family: string; subtype: string }
  /** One that cannot be read, and why. */
  | { type: 'malformed'; reason: string }
);

const SUBTYPES: Readonly<Record<number, string>> = {
  [REFRESH_REQUEST]: 'request',
  [REFRESH_BEGIN]: 'begin',
  [REFRESH_END]: 'end',
};

/** The messages of one session and one direction. `agreement` null: before there was one. */
export class Describer {
  readonly #decoder: UpdateDecoder | null;

  constructor(agreement: Agreement | null, direction: 'in' | 'out', internal: boolean) {
    const table = new AttributeTable();
    this.#decoder =
      agreement &&
      new UpdateDecoder(
        {
          as4: agreement.as4,
          ibgp: internal,
          firstAs: null,
          families: agreement.families,
          addPath: direction === 'in' ? agreement.addPathReceive : agreement.addPathSend,
          nextHop6: agreement.nextHop6,
          nextHops: table.nextHops,
        },
        table,
      );
  }

  /** A whole message, its header good. Never throws for what is in it. */
  describe(message: Uint8Array): MessageView {
    const { length } = message;
    try {
      return { length, ...this.#read(message) };
    } catch (error) {
      return { length, type: 'malformed', reason: error instanceof Error ? error.message : String(error) };
    }
  }

  #read(message: Uint8Array) {
    const end = message.length;
    const type = message[HEADER - 1]!;
    switch (type) {
      case OPEN: {
        const { as2, routerId, holdTime, capabilities } = decodeOpen(message, HEADER, end);
        const as4 = capabilities.find(({ code, value }) => code === CAP_AS4 && value.length === 4);
        const asn = as4 ? get32(as4.value, 0) >>> 0 : as2;
        return { type: 'OPEN' as const, ...offerOf(asn, routerId, holdTime, capabilities) };
      }
      case UPDATE:
        return { type: 'UPDATE' as const, ...this.#update(message) };
      case NOTIFICATION:
        return { type: 'NOTIFICATION' as const, text: explain(decodeNotification(message, HEADER, end)) };
      case KEEPALIVE:
        return { type: 'KEEPALIVE' as const };
      case ROUTE_REFRESH: {
        const { afi, safi, subtype } = decodeRouteRefresh(message, HEADER, end);
        const family = familyOf(afi, safi)?.name ?? `${afi}/${safi}`;
        return { type: 'ROUTE-REFRESH' as const, family, subtype: SUBTYPES[subtype] ?? String(subtype) };
      }
      default:
        throw new Error(`type ${type}`);
    }
  }

  #update(message: Uint8Array): UpdateView {
    if (!this.#decoder) throw new Error('UPDATE outside of a session');
    const update = this.#decoder.decode(message, HEADER, message.length);
    const lists = [...update.withdrawn, ...update.announced.map(({ prefixes }) => prefixes)];
    const view: UpdateView = {
      withdrawn: update.withdrawn.flatMap(prefixTexts),
      announced: update.announced.map(({ set: { attributes }, prefixes }) => ({
        prefixes: prefixTexts(prefixes),
        nextHop: attributes.nextHop?.text ?? null,
        attributes: attributesView(attributes),
      })),
      endOfRib: update.endOfRib?.name ?? null,
      fault: update.fault,
      discarded: [...update.discarded],
      unlisted: lists.reduce((sum, { count }) => sum + Math.max(0, count - MAX_LISTED), 0),
    };
    this.#decoder.release();
    return view;
  }
}

function prefixTexts({ family, data, end, stride }: PrefixList): string[] {
  const texts: string[] = [];
  for (let at = 0; at < end && texts.length < MAX_LISTED; at += stride) {
    const words = data.subarray(at + WORDS, at + stride);
    const text = formatPrefix({ family, words, length: data[at + LENGTH]! });
    const pathId = data[at + PATH_ID]! >>> 0;
    texts.push(pathId === 0 ? text : `${text}#${pathId}`);
  }
  return texts;
}
