/** What a session lets into the RIB: UPDATEs through the checks and the import policy (Adj-RIB-In of RFC 4271 3.2). */
import type { PathSource } from '../rib/decision.ts';
import { ADMITTED, FILTERED, REFUSED, type Rib } from '../rib/rib.ts';
import type { AttributeSet, AttributeTable } from './attribute-table.ts';
import type { Attributes } from './attributes.ts';
import { apply } from './export.ts';
import { formatPrefix, type Prefix } from './family.ts';
import { asLastChoice, type ImportRules, imported, isMulticast, NOT_UNICAST, refusal } from './import.ts';
import { LENGTH, PrefixList, WORDS } from './nlri.ts';
import { ACCEPT_ALL, type Operation, type Policy } from './policy.ts';
import type { PeerCounters } from './status.ts';
import type { Update } from './update.ts';

export interface ImporterConfig {
  readonly rules: ImportRules;
  readonly policy: Policy;
  /** Remember routes that may not be used, to show them. */
  readonly keepFiltered: boolean;
}

/** Told of routes that may not be used: how many, which first and why. */
export type OnRefused = (reason: string, first: string, count: number) => void;

export class Importer {
  readonly #ribs: readonly [Rib, Rib];
  readonly #table: AttributeTable;
  readonly #source: PathSource;
  readonly #counters: PeerCounters;
  readonly #onRefused: OnRefused;
  config: ImporterConfig;

  constructor(
    ribs: readonly [Rib, Rib],
    table: AttributeTable,
    source: PathSource,
    config: ImporterConfig,
    counters: PeerCounters,
    onRefused: OnRefused,
  ) {
    this.#ribs = ribs;
    this.#table = table;
    this.#source = source;
    this.config = config;
    this.#counters = counters;
    this.#onRefused = onRefused;
  }

  /** Answers how many prefixes the UPDATE held. */
  take({ withdrawn, announced }: Update): number {
    let count = 0;
    for (const list of withdrawn) {
      if (list.end === 0) continue;
      count += list.count;
      this.#ribs[list.family.index].withdraw(this.#source, list);
    }
    for (const { set, prefixes } of announced) {
      count += prefixes.count;
      const rib = this.#ribs[prefixes.family.index];
      this.#announce(rib, set, this.#unicastOf(rib, set, prefixes));
    }
    return count;
  }

  /** Why a route that is kept may not be used, in words, by the rules of now; null: it may. */
  refusalOf(prefix: Prefix, attributes: Attributes): string | null {
    const { rules, policy } = this.config;
    const reason = isMulticast(prefix.family, prefix.words[0]!, prefix.length)
      ? NOT_UNICAST
      : refusal(attributes, rules);
    if (reason) return reason;
    const entering = imported(attributes, rules);
    const verdict = policy.evaluate({ prefix, attributes: entering, source: this.#source });
    return verdict.accept ? null : verdict.reason;
  }

  /** Prefixes that are no unicast ones are ignored, as if each had come alone (RFC 4271 6.3). */
  #unicastOf(rib: Rib, set: AttributeSet, list: PrefixList): PrefixList {
    const { family, data, end, stride } = list;
    let refused: PrefixList | null = null;
    for (let at = 0; at < end; at += stride) {
      if (!isMulticast(family, data[at + WORDS]!, data[at + LENGTH]!)) continue;
      refused ??= new PrefixList(family);
      refused.addEntry(list, at);
    }
    if (!refused) return list;
    this.#refuse(NOT_UNICAST, rib, set, refused);
    const unicast = new PrefixList(family);
    for (let at = 0; at < end; at += stride) {
      if (!isMulticast(family, data[at + WORDS]!, data[at + LENGTH]!)) unicast.addEntry(list, at);
    }
    return unicast;
  }

  #refuse(reason: string, rib: Rib, set: AttributeSet, list: PrefixList): void {
    if (list.end === 0) return;
    this.#counters.routesRefused += list.count;
    const { family, data, stride } = list;
    const first = { family, words: data.subarray(WORDS, stride), length: data[LENGTH]! };
    this.#onRefused(reason, formatPrefix(first), list.count);
    this.#exclude(rib, set, list, REFUSED);
  }

  #announce(rib: Rib, set: AttributeSet, list: PrefixList): void {
    const { rules, policy } = this.config;
    const isPlain = rules.internal && policy === ACCEPT_ALL;
    const { attributes } = set;
    const reason = refusal(attributes, rules);
    if (reason) return this.#refuse(reason, rib, set, list);
    if (isPlain) return rib.announce(this.#source, set, list);
    const entering = imported(attributes, rules);
    if (policy === ACCEPT_ALL) return this.#admit(rib, entering, [], list);
    // Prefixes by what the policy does to them.
    const admitted = new Map<readonly Operation[], PrefixList>();
    const filtered = new PrefixList(list.family);
    for (let at = 0; at < list.end; at += list.stride) {
      const words = list.data.subarray(at + WORDS, at + list.stride);
      const prefix = { family: list.family, words, length: list.data[at + LENGTH]! };
      const verdict = policy.evaluate({ prefix, attributes: entering, source: this.#source });
      let to = filtered;
      if (verdict.accept) {
        to = admitted.get(verdict.operations) ?? new PrefixList(list.family);
        admitted.set(verdict.operations, to);
      }
      to.add(words, prefix.length, list.data[at + 1]!);
    }
    this.#counters.routesFiltered += filtered.count;
    this.#exclude(rib, set, filtered, FILTERED);
    for (const [operations, prefixes] of admitted) this.#admit(rib, entering, operations, prefixes);
  }

  #admit(rib: Rib, attributes: Attributes, operations: readonly Operation[], list: PrefixList): void {
    const applied = operations.reduce(apply, attributes);
    const set = this.#table.acquire(this.config.rules.internal ? applied : asLastChoice(applied));
    rib.announce(this.#source, set, list, ADMITTED);
    this.#table.release(set.id);
  }

  #exclude(rib: Rib, set: AttributeSet, list: PrefixList, exclusion: number): void {
    if (list.end === 0) return;
    if (this.config.keepFiltered) rib.announce(this.#source, set, list, exclusion);
    else rib.withdraw(this.#source, list);
  }
}
