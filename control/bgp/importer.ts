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

/** Prefixes that are taken in with one step. */
const SLICE = 1024;
const NONE: readonly Operation[] = [];

export class Importer {
  readonly #ribs: readonly [Rib, Rib];
  readonly #table: AttributeTable;
  readonly #source: PathSource;
  readonly #counters: PeerCounters;
  readonly #onRefused: OnRefused;
  /** What the set in hand has become, by what the policy did to it: held until all its prefixes are taken in. */
  readonly #entered = new Map<readonly Operation[], AttributeSet>();
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

  /**
   * Take an UPDATE in; answers of how many prefixes. One of many is taken in step by step, each of which answers so: it may be
   * given up between two steps, and is to be released then.
   */
  take(update: Update): number | Generator<number, void> {
    const { withdrawn, announced } = update;
    let count = 0;
    for (const list of withdrawn) count += list.count;
    for (const { prefixes } of announced) count += prefixes.count;
    if (count > SLICE) return this.#takeSome(update);
    for (const list of withdrawn)
      if (list.end > 0) this.#ribs[list.family.index].withdraw(this.#source, list);
    for (const { set, prefixes } of announced) {
      this.#announcer(this.#ribs[prefixes.family.index], set)(prefixes);
      this.release();
    }
    return count;
  }

  *#takeSome({ withdrawn, announced }: Update): Generator<number, void> {
    for (const list of withdrawn) {
      for (const part of list.parts(SLICE)) {
        this.#ribs[list.family.index].withdraw(this.#source, part);
        yield part.count;
      }
    }
    for (const { set, prefixes } of announced) {
      const announce = this.#announcer(this.#ribs[prefixes.family.index], set);
      for (const part of prefixes.parts(SLICE)) {
        announce(part);
        yield part.count;
      }
      this.release();
    }
  }

  /** Let go of the attribute sets of an UPDATE that was given up. */
  release(): void {
    for (const { id } of this.#entered.values()) this.#table.release(id);
    this.#entered.clear();
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

  /** What to do with prefixes that come with a set: what depends on the set alone is looked at once. */
  #announcer(rib: Rib, set: AttributeSet): (list: PrefixList) => void {
    const { rules, policy } = this.config;
    const { attributes } = set;
    const reason = refusal(attributes, rules);
    const unicast = (list: PrefixList) => this.#unicastOf(rib, set, list);
    if (reason) return (list) => this.#refuse(reason, rib, set, unicast(list));
    if (rules.internal && policy === ACCEPT_ALL)
      return (list) => rib.announce(this.#source, set, unicast(list));
    const entering = imported(attributes, rules);
    if (policy === ACCEPT_ALL) return (list) => this.#admit(rib, entering, NONE, unicast(list));
    return (list) => this.#filter(policy, rib, set, entering, unicast(list));
  }

  /** Prefixes by what the policy does to them. */
  #filter(policy: Policy, rib: Rib, set: AttributeSet, entering: Attributes, list: PrefixList): void {
    const admitted = new Map<readonly Operation[], PrefixList>();
    const filtered = new PrefixList(list.family);
    // One object for all: a message may hold tens of thousands.
    const words: number[] = new Array(list.family.words).fill(0);
    const prefix = { family: list.family, words, length: 0 };
    const route = { prefix, attributes: entering, source: this.#source };
    for (let at = 0; at < list.end; at += list.stride) {
      prefix.length = list.data[at + LENGTH]!;
      for (let i = 0; i < words.length; i++) words[i] = list.data[at + WORDS + i]!;
      const verdict = policy.evaluate(route);
      let to = filtered;
      if (verdict.accept) {
        to = admitted.get(verdict.operations) ?? new PrefixList(list.family);
        admitted.set(verdict.operations, to);
      }
      to.addEntry(list, at);
    }
    this.#counters.routesFiltered += filtered.count;
    this.#exclude(rib, set, filtered, FILTERED);
    for (const [operations, prefixes] of admitted) this.#admit(rib, entering, operations, prefixes);
  }

  #admit(rib: Rib, attributes: Attributes, operations: readonly Operation[], list: PrefixList): void {
    let set = this.#entered.get(operations);
    if (!set) {
      const applied = operations.reduce(apply, attributes);
      set = this.#table.acquire(this.config.rules.internal ? applied : asLastChoice(applied));
      this.#entered.set(operations, set);
    }
    rib.announce(this.#source, set, list, ADMITTED);
  }

  #exclude(rib: Rib, set: AttributeSet, list: PrefixList, exclusion: number): void {
    if (list.end === 0) return;
    if (this.config.keepFiltered) rib.announce(this.#source, set, list, exclusion);
    else rib.withdraw(this.#source, list);
  }
}
