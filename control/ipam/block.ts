/**
 * A block of addresses as Calico's datastore has it, and what may become of it: values in, values out. An address that is
 * released keeps its place for a while (`releasedAt`), so that late packets and late readers do not find it with another pod.
 */
import { addressOf, cidrOf, type Range, rangeOf, sizeOf } from './cidr.ts';

export interface Attribute {
  readonly handle_id: string | null;
  readonly secondary: Readonly<Record<string, string>>;
  /** ISO 8601. Released then, and not to be used again before the cooldown is over. */
  readonly releasedAt?: string;
}

export interface Block {
  readonly cidr: string;
  /** "host:NAME", or null: nobody's. */
  readonly affinity: string | null;
  readonly affinityClaimTime?: string;
  /** By ordinal: an index into `attributes`, or null. */
  readonly allocations: readonly (number | null)[];
  /** Free ordinals, the next to be used first. */
  readonly unallocated: readonly number[];
  readonly attributes: readonly Attribute[];
  /** Counts assignments, from the block's making in nanoseconds on: one that is made anew repeats none. */
  readonly sequenceNumber: bigint;
  /** By ordinal: the sequence number of its assignment. */
  readonly sequenceNumberForAllocation: Readonly<Record<string, bigint>>;
  readonly deleted: boolean;
}

/** Who an address is for. */
export interface Owner {
  readonly handle: string;
  readonly attributes: Readonly<Record<string, string>>;
}

export function newBlock(range: Range, affinity: string | null, now: Date): Block {
  const count = Number(sizeOf(range));
  return {
    cidr: cidrOf(range),
    affinity,
    affinityClaimTime: now.toISOString(),
    allocations: new Array<null>(count).fill(null),
    unallocated: Array.from({ length: count }, (_, ordinal) => ordinal),
    attributes: [],
    sequenceNumber: BigInt(now.getTime()) * NANOSECONDS,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
}

const NANOSECONDS = 1_000_000n;
/** Integers that a double does not hold: only sequence numbers are so large. */
const LARGE = /(:\s*)(\d{16,})(?=\s*[,}])/g;
const MARK = '#bigint ';

export function parseBlock(value: string): Block {
  const parsed = JSON.parse(value.replace(LARGE, '$1"$2"')) as Block;
  const sequences = Object.entries(parsed.sequenceNumberForAllocation ?? {});
  return {
    ...parsed,
    sequenceNumber: BigInt(parsed.sequenceNumber ?? 0),
    sequenceNumberForAllocation: Object.fromEntries(sequences.map(([at, number]) => [at, BigInt(number)])),
  };
}

/** As the store has it: JSON, sequence numbers in all their digits. */
export const formatBlock = (block: Block): string =>
  JSON.stringify(block, (_, value: unknown) =>
    typeof value === 'bigint' ? `${MARK}${value}` : value,
  ).replace(/"#bigint (\d+)"/g, '$1');

/** Address of an ordinal. */
export function addressIn(block: Block, ordinal: number): string {
  const { first, isIp6 } = rangeOf(block.cidr);
  return addressOf(first + BigInt(ordinal), isIp6);
}

/** Ordinal of an address of the block. */
export const ordinalOf = (block: Block, address: string): number =>
  Number(rangeOf(address).first - rangeOf(block.cidr).first);

const attributeOf = (block: Block, ordinal: number): Attribute | null => {
  const index = block.allocations[ordinal];
  return index === null || index === undefined ? null : (block.attributes[index] ?? null);
};

/** Who has an ordinal now, and since which assignment; null if nobody. */
export function ownerOf(block: Block, ordinal: number): (Attribute & { sequence: bigint }) | null {
  const attribute = attributeOf(block, ordinal);
  if (!attribute || attribute.releasedAt !== undefined) return null;
  return { ...attribute, sequence: block.sequenceNumberForAllocation[ordinal] ?? 0n };
}

/** Ordinals in use. */
export const usedOrdinals = (block: Block): number[] =>
  block.allocations.flatMap((_, ordinal) => (ownerOf(block, ordinal) ? [ordinal] : []));

export const isEmpty = (block: Block): boolean => usedOrdinals(block).length === 0;

/** What was released before `since` is free again, the longest free last in the queue. So is what was released later than `now`: a clock went back. */
export function cooled(block: Block, since: Date, now: Date): Block {
  const isOver = (released: Date) => released <= since || released > now;
  const over = block.attributes.filter(
    ({ releasedAt }) => releasedAt !== undefined && isOver(new Date(releasedAt)),
  );
  if (over.length === 0) return block;
  const ordinals = block.allocations.flatMap((_, ordinal) => {
    const attribute = attributeOf(block, ordinal);
    return attribute && over.includes(attribute) ? [ordinal] : [];
  });
  const at = (ordinal: number) => attributeOf(block, ordinal)!.releasedAt!;
  ordinals.sort((a, b) => at(a).localeCompare(at(b)));
  return tidy({
    ...block,
    allocations: block.allocations.map((index, ordinal) => (ordinals.includes(ordinal) ? null : index)),
    unallocated: [...block.unallocated, ...ordinals],
  });
}

/** Assign up to `count` free addresses of those that `mayUse` allows. */
export function assign(
  block: Block,
  count: number,
  owner: Owner,
  mayUse: (address: string) => boolean = () => true,
): { block: Block; ordinals: number[] } {
  const ordinals: number[] = [];
  for (const ordinal of block.unallocated) {
    if (ordinals.length === count) break;
    if (mayUse(addressIn(block, ordinal))) ordinals.push(ordinal);
  }
  return { block: ordinals.reduce((before, ordinal) => assignAt(before, ordinal, owner), block), ordinals };
}

/** Assign an ordinal that nobody has; one that cools is taken, since it was asked for. */
export function assignAt(block: Block, ordinal: number, { handle, attributes }: Owner): Block {
  const index = block.attributes.length;
  return tidy({
    ...block,
    allocations: block.allocations.with(ordinal, index),
    unallocated: block.unallocated.filter((free) => free !== ordinal),
    attributes: [...block.attributes, { handle_id: handle, secondary: attributes }],
    sequenceNumber: block.sequenceNumber + 1n,
    sequenceNumberForAllocation: { ...block.sequenceNumberForAllocation, [ordinal]: block.sequenceNumber },
  });
}

/** Release ordinals that are in use; they cool from now on. */
export function release(block: Block, ordinals: readonly number[], now: Date): Block {
  const taken = ordinals.filter((ordinal) => ownerOf(block, ordinal));
  if (taken.length === 0) return block;
  const sequences = { ...block.sequenceNumberForAllocation };
  const allocations = [...block.allocations];
  const attributes = [...block.attributes];
  for (const ordinal of taken) {
    delete sequences[ordinal];
    allocations[ordinal] =
      attributes.push({ handle_id: null, secondary: {}, releasedAt: now.toISOString() }) - 1;
  }
  return tidy({ ...block, allocations, attributes, sequenceNumberForAllocation: sequences });
}

/** Ordinals that a handle has. */
export const ordinalsOfHandle = (block: Block, handle: string): number[] =>
  usedOrdinals(block).filter((ordinal) => ownerOf(block, ordinal)!.handle_id === handle);

/** Attributes that are alike are there once, those that nobody refers to are not there. */
function tidy(block: Block): Block {
  const attributes: Attribute[] = [];
  const places = new Map<string, number>();
  const allocations = block.allocations.map((index) => {
    if (index === null) return null;
    const attribute = block.attributes[index]!;
    const text = JSON.stringify(attribute);
    const place = places.get(text) ?? attributes.push(attribute) - 1;
    places.set(text, place);
    return place;
  });
  return { ...block, allocations, attributes };
}
