/**
 * What peers are told: one group for all sessions to which routes leave in the same form (Adj-RIBs-Out of RFC 4271
 * 3.2, kept once). A change is worked out and encoded once, and the same bytes go to every member.
 *
 * A route is not told to the peer that it is from, nor to one whose address is its next hop (RFC 4271 5.1.3): those are
 * the things in which members differ, and what the group noted of a prefix (attributes and source) tells what each
 * member has.
 *
 * A member whose connection has no room, and one that is new, falls behind: it leaves the common stream for a cohort
 * which remembers numbers of prefixes, not messages, and tells the latest of each at its own pace. Who has caught up
 * joins the stream again. So a slow peer costs a bit a prefix, and any number of peers that come at once are told
 * with one encoding.
 */
import type { PathSource } from '../rib/decision.ts';
import { choose } from '../rib/decision.ts';
import type { Rib } from '../rib/rib.ts';
import type { AttributeSet, AttributeTable } from './attribute-table.ts';
import { type Attributes, encodeAttributes } from './attributes.ts';
import { Bitmap } from './bitmap.ts';
import { type ExportRules, exported, exportedOr } from './export.ts';
import type { Prefix } from './family.ts';
import { IPV4 } from './family.ts';
import { PrefixList, prefixSize } from './nlri.ts';
import { ACCEPT_ALL, type Operation } from './policy.ts';
import {
  type EncodedAttributes,
  encodeAnnouncements,
  encodeWithdrawals,
  hasRoom,
  type UpdateFormat,
} from './update.ts';

export interface GroupConfig extends ExportRules {
  readonly as4: boolean;
  /** Paths of a prefix that are sent with identifiers (RFC 7911); 0: the best, without. */
  readonly addPath: number;
  readonly maxMessage: number;
}

export interface Member {
  /** Who it is as a source of routes. */
  readonly source: PathSource;
  /** Send whole messages. False: no room for more; call UpdateGroup.drained when there is. */
  send(messages: Uint8Array): boolean;
  /** All that was there when it joined, or asked again, is told. */
  synchronised(): void;
}

/** A route as a member has it. */
export interface Route {
  readonly prefix: Prefix;
  readonly pathId: number;
  readonly set: AttributeSet;
  readonly attributes: Attributes;
  /** Whose path it is. */
  readonly source: PathSource;
}

/** What is told of prefixes: a set of attributes, held while `uses` are there, and whose path it is. */
interface Told {
  readonly set: AttributeSet;
  readonly source: PathSource;
  uses: number;
}

/** Whether a route is a peer's own, or leads to it. */
const isOwn = ({ set, source }: Pick<Told, 'set' | 'source'>, peer: PathSource): boolean =>
  source === peer || set.nextHop!.text === peer.name;

/** Announcements of one source's routes. */
interface Batch {
  /** By set. */
  readonly parts: {
    readonly set: AttributeSet;
    readonly list: PrefixList;
    readonly messages: Uint8Array[];
  }[];
  readonly messages: Uint8Array[];
  /** Addresses of their next hops. */
  readonly hops: Set<string>;
}

/** How a set of a source leaves. */
interface Outcome {
  readonly set: AttributeSet;
  readonly source: PathSource;
  readonly operations: readonly Operation[];
  readonly attributes: Attributes | null;
  /** Null, or of no use any more, while nobody is told it. */
  told: Told | null;
}

/** Members that are being told what others know already. */
interface Cohort {
  readonly members: Set<Member>;
  /** Next number of the walk over all prefixes; Infinity: it is over. */
  walkAt: number;
  /** Prefixes that are to be told (again). */
  readonly behind: Bitmap;
  /** Path identifiers that are gone since, by number of the prefix. */
  readonly gone: Map<number, Set<number>>;
  /** Wait for room. */
  isBlocked: boolean;
  /** Members are to hear that they are synchronised. */
  isInitial: boolean;
}

/** What one round of encoding has for members, by whose routes they are: a member is not told its own, nor what leads to it. */
class Outbox {
  readonly #format: UpdateFormat;
  readonly #encode: (set: AttributeSet) => EncodedAttributes;
  readonly #withdrawn: PrefixList;
  /** For one source alone: its own route is the best now, so it loses what it was told. */
  readonly #lost = new Map<PathSource, PrefixList>();
  readonly #announced = new Map<PathSource, Map<AttributeSet, PrefixList>>();
  #bytes = 0;

  constructor(format: UpdateFormat, encode: (set: AttributeSet) => EncodedAttributes) {
    this.#format = format;
    this.#encode = encode;
    this.#withdrawn = new PrefixList(format.family);
  }

  /** There is enough for one time: peers that have no room for it are to fall behind, not to be buried. */
  get isFull(): boolean {
    return this.#bytes >= MOST_BYTES;
  }

  announce(words: readonly number[], length: number, pathId: number, { set, source }: Told): void {
    let sets = this.#announced.get(source);
    if (!sets) {
      sets = new Map();
      this.#announced.set(source, sets);
    }
    let list = sets.get(set);
    if (!list) {
      list = new PrefixList(this.#format.family);
      sets.set(set, list);
      this.#bytes += set.size;
    }
    this.#bytes += prefixSize(length, this.#format.addPath);
    list.add(words, length, pathId);
  }

  withdraw(words: readonly number[], length: number, pathId: number): void {
    this.#withdrawn.add(words, length, pathId);
  }

  lose(source: PathSource, words: readonly number[], length: number, pathId: number): void {
    let list = this.#lost.get(source);
    if (!list) {
      list = new PrefixList(this.#format.family);
      this.#lost.set(source, list);
    }
    list.add(words, length, pathId);
  }

  /** Send to members; answers those that have no room for more. Announcements go first: make before break. */
  flush(members: Iterable<Member>): Member[] {
    const bySource = new Map<PathSource, Batch>();
    const hops = new Set<string>();
    for (const [source, sets] of this.#announced) {
      const batch: Batch = { parts: [], messages: [], hops: new Set() };
      for (const [set, list] of sets) {
        const messages = [...encodeAnnouncements(this.#encode(set), list, this.#format)];
        batch.parts.push({ set, list, messages });
        for (const message of messages) batch.messages.push(message);
        batch.hops.add(set.nextHop!.text);
        hops.add(set.nextHop!.text);
      }
      bySource.set(source, batch);
    }
    const withdrawals = [...encodeWithdrawals(this.#withdrawn, this.#format)];
    const all = Buffer.concat(
      [...[...bySource.values()].map(({ messages }) => messages), withdrawals].flat(),
    );
    const full: Member[] = [];
    for (const member of members) {
      const { source } = member;
      let bytes: Uint8Array = all;
      if (bySource.has(source) || this.#lost.has(source) || hops.has(source.name)) {
        bytes = Buffer.concat(this.#without(source, bySource, withdrawals));
      }
      if (bytes.length > 0 && !member.send(bytes)) full.push(member);
    }
    return full;
  }

  /** What is for a member that is not told all. */
  #without(source: PathSource, bySource: Map<PathSource, Batch>, withdrawals: Uint8Array[]): Uint8Array[] {
    const told: Uint8Array[][] = [];
    const lost: PrefixList[] = [];
    for (const [from, { parts, messages, hops }] of bySource) {
      if (from === source) continue;
      if (!hops.has(source.name)) {
        told.push(messages);
        continue;
      }
      // Of a prefix that leads to the member now, it loses what it had.
      for (const part of parts) {
        if (isOwn({ set: part.set, source: from }, source)) lost.push(part.list);
        else told.push(part.messages);
      }
    }
    const own = this.#lost.get(source);
    if (own) lost.push(own);
    return [...told, withdrawals, ...lost.map((list) => [...encodeWithdrawals(list, this.#format)])].flat();
  }
}

/** Prefixes that a cohort is told of in one turn of the event loop. */
const SLICE = 4096;
/** Bytes of UPDATEs that are sent at a time, or a little more: routes of others may have very long attributes. */
const MOST_BYTES = 512 * 1024;

export class UpdateGroup {
  readonly config: GroupConfig;
  readonly #rib: Rib;
  readonly #table: AttributeTable;
  readonly #format: UpdateFormat;
  /** Members that have heard all, and those that have not. */
  readonly #current = new Set<Member>();
  readonly #cohorts = new Set<Cohort>();
  /** Cohort of each member that is behind. */
  readonly #behind = new Map<Member, Cohort>();
  /** What members were told by groups that they were in before. */
  readonly #had = new Map<Member, readonly Route[]>();
  /** By number of the prefix, then by path identifier: 0 without add-path. */
  #told: (Told | undefined)[] = [];
  readonly #toldPaths = new Map<number, Map<number, Told>>();
  /** How many prefixes are told, and how many of these are of each source. */
  #count = 0;
  readonly #countOf = new Map<PathSource, number>();
  /** How many of those that are not of the peer of that address lead to it. */
  readonly #countTo = new Map<string, number>();
  /** Prefixes that are told no more and some cohort has still to hear it: their numbers are held. */
  readonly #graves = new Set<number>();
  /** By number of the set, which may be another's by now. */
  readonly #outcomes: (Outcome | undefined)[] = [];
  #scheduled = false;
  readonly #words: number[] = [];

  constructor(rib: Rib, table: AttributeTable, config: GroupConfig) {
    this.config = config;
    this.#rib = rib;
    this.#table = table;
    this.#format = { family: config.family, addPath: config.addPath > 0, maxMessage: config.maxMessage };
    rib.on(config.addPath > 0 ? 'touch' : 'change', this.#onChange);
  }

  get isEmpty(): boolean {
    return this.#current.size === 0 && this.#behind.size === 0;
  }

  /** Sessions with the same key share a group. */
  static key(config: GroupConfig): string {
    const { family, self, policy } = config;
    return JSON.stringify({ ...config, family: family.name, self: self?.text ?? null, policy: policy.key });
  }

  /** Nobody is left: forget everything. */
  close(): void {
    this.#rib.off(this.config.addPath > 0 ? 'touch' : 'change', this.#onChange);
    this.#cohorts.clear();
    this.#told.forEach((told, id) => {
      if (told) this.#forget(id, 0, told);
    });
    for (const [id, paths] of [...this.#toldPaths])
      for (const [pathId, told] of paths) this.#forget(id, pathId, told);
    this.#releaseGraves();
  }

  /** A new member: it hears all there is. `had`: what it was told by another group, and may be told no more. */
  join(member: Member, had: readonly Route[] = []): void {
    if (had.length > 0) this.#had.set(member, had);
    this.#startCohort(member, 0, true);
  }

  leave(member: Member): void {
    this.#current.delete(member);
    this.#had.delete(member);
    this.#leaveCohort(member);
  }

  /** Tell a member everything again (RFC 2918), and what it is still to hear. */
  refresh(member: Member): void {
    const cohort = this.#behind.get(member);
    this.#current.delete(member);
    if (!cohort) {
      this.#startCohort(member, 0, true);
      return;
    }
    // The new cohort comes before the old one goes: what is to be forgotten is kept as long as there is any.
    const own = { ...separate(cohort, member), walkAt: 0, isInitial: true };
    this.#cohorts.add(own);
    this.#leaveCohort(member);
    this.#behind.set(member, own);
    this.#schedule();
  }

  /** A member has room again. */
  drained(member: Member): void {
    const cohort = this.#behind.get(member);
    if (!cohort) return;
    cohort.isBlocked = false;
    this.#schedule();
  }

  /** Prefixes that a member has from us. */
  countFor({ source }: Member): number {
    return this.#count - (this.#countOf.get(source) ?? 0) - (this.#countTo.get(source.name) ?? 0);
  }

  /** What a member has, or will have when it has heard all. */
  *toldTo(member: Member): Generator<Route> {
    for (let id = 0; id < this.#rib.end; id++) yield* this.toldAt(member, id);
  }

  /** The same of one prefix, by its number. */
  *toldAt(member: Member, id: number): Generator<Route> {
    for (const [pathId, told] of this.#toldOf(id)) {
      if (isOwn(told, member.source)) continue;
      const { set, source } = told;
      yield {
        prefix: this.#rib.prefixOf(id),
        pathId,
        set,
        get attributes() {
          return set.attributes;
        },
        source,
      };
    }
  }

  /** Why a member is not told the best path of a prefix, in words; null: it is told, or there is no such path. */
  withheld(member: Member, id: number): string | null {
    const set = this.#rib.bestSet(id);
    if (!set) return null;
    const { config } = this;
    const source = this.#rib.bestSource(id)!;
    if (source === member.source) return 'the best path is its own';
    const isStale = this.#rib.bestIsLongLivedStale(id);
    const plain = exportedOr(set.attributes, source, isStale, NONE, config);
    if (typeof plain === 'string') return plain;
    const { attributes } = set;
    const verdict = config.policy.evaluate({ prefix: this.#rib.prefixOf(id), attributes, source });
    if (!verdict.accept) return `refused by the export policy: ${verdict.reason}`;
    const outcome = exportedOr(attributes, source, isStale, verdict.operations, config);
    if (typeof outcome === 'string') return outcome;
    if (outcome.nextHop!.text === member.source.name)
      return 'its next hop is the peer itself (RFC 4271 5.1.3)';
    const told = this.#table.acquire(outcome);
    const fits = this.#fits(told);
    this.#table.release(told.id);
    return fits ? null : `its attributes leave no room for a prefix in ${config.maxMessage} bytes`;
  }

  // ---- What is to be told ----------------------------------------------------------------------------

  readonly #onChange = (ids: Int32Array, count: number): void => {
    if (this.isEmpty) return;
    let outbox = this.#outbox();
    for (let i = 0; i < count; i++) {
      this.#update(ids[i]!, outbox);
      if (!outbox.isFull) continue;
      for (const member of outbox.flush(this.#current)) this.#fallBehind(member);
      outbox = this.#outbox();
    }
    for (const member of outbox.flush(this.#current)) this.#fallBehind(member);
  };

  /** Bring what is told of a prefix up to date. */
  #update(id: number, outbox: Outbox): void {
    const isChanged = this.config.addPath > 0 ? this.#updatePaths(id, outbox) : this.#updateBest(id, outbox);
    if (!isChanged) return;
    for (const cohort of this.#cohorts) if (id < cohort.walkAt) cohort.behind.add(id);
  }

  #updateBest(id: number, outbox: Outbox): boolean {
    const set = this.#rib.bestSet(id);
    const next = set && this.#export(id, set, this.#rib.bestSource(id)!, this.#rib.bestIsLongLivedStale(id));
    const before = this.#told[id];
    return this.#replace(id, 0, before, next, outbox);
  }

  /** The same for several paths: the best ones, under the numbers that the RIB knows them by. */
  #updatePaths(id: number, outbox: Outbox): boolean {
    const wanted = new Map<number, Told>();
    let left = this.#rib.eligible(id);
    for (let next = choose(left); next && wanted.size < this.config.addPath; next = choose(left)) {
      const { best } = next;
      const told = this.#export(id, best.set, best.source, best.longLivedStale);
      if (told) wanted.set(best.path + 1, told);
      left = left.filter((other) => other !== best);
    }
    // Held meanwhile: what is told no more under one number may be what is told under another.
    for (const told of wanted.values()) told.uses++;
    const before = new Map(this.#toldPaths.get(id));
    let isChanged = false;
    for (const pathId of new Set([...before.keys(), ...wanted.keys()])) {
      const next = wanted.get(pathId) ?? null;
      if (this.#replace(id, pathId, before.get(pathId), next, outbox)) isChanged = true;
    }
    for (const told of wanted.values()) if (--told.uses === 0) this.#table.release(told.set.id);
    return isChanged;
  }

  /** What is told of a path becomes something else; whether it does. */
  #replace(id: number, pathId: number, before: Told | undefined, next: Told | null, outbox: Outbox): boolean {
    if (before === next || (!before && !next)) return false;
    if (before && next && before.set === next.set && before.source === next.source) {
      // The same by another way.
      if (next.uses === 0) this.#table.release(next.set.id);
      return false;
    }
    const words = this.#rib.wordsOf(id, this.#words);
    const length = this.#rib.lengthOf(id);
    if (!next) {
      outbox.withdraw(words, length, pathId);
      this.#bury(id, pathId);
      this.#forget(id, pathId, before!);
      return true;
    }
    // Its new owner loses what it had from another.
    if (before && before.source !== next.source) outbox.lose(next.source, words, length, pathId);
    outbox.announce(words, length, pathId, next);
    this.#remember(id, pathId, before, next);
    return true;
  }

  #export(id: number, set: AttributeSet, source: PathSource, isStale: boolean): Told | null {
    const { policy, internal, client } = this.config;
    if (source.internal && internal && !source.client && !client) return null;
    let operations: readonly Operation[] = NONE;
    if (policy !== ACCEPT_ALL) {
      const verdict = policy.evaluate({ prefix: this.#rib.prefixOf(id), attributes: set.attributes, source });
      if (!verdict.accept) return null;
      operations = verdict.operations;
    }
    let outcome = this.#outcomes[set.id];
    if (outcome?.set !== set || outcome.source !== source || outcome.operations !== operations || isStale) {
      const attributes = exported(set.attributes, source, isStale, operations, this.config);
      outcome = { set, source, operations, attributes, told: null };
      if (!isStale) this.#outcomes[set.id] = outcome;
    }
    const { attributes } = outcome;
    if (!attributes) return null;
    if (!outcome.told?.uses) {
      const told = { set: this.#table.acquire(attributes), source, uses: 0 };
      if (!this.#fits(told.set)) {
        this.#table.release(told.set.id);
        if (!isStale) this.#outcomes[set.id] = { ...outcome, attributes: null };
        return null;
      }
      outcome.told = told;
    }
    return outcome.told;
  }

  /** Whether its attributes leave room for a prefix in a message to these members. */
  #fits(set: AttributeSet): boolean {
    // Not even with two-octet ASes beside four-octet ones do they take twice as much.
    if (set.size * 2 < this.config.maxMessage / 2) return true;
    return hasRoom(this.#encode(set), this.#format);
  }

  // ---- What is told ----------------------------------------------------------------------------------

  *#toldOf(id: number): Generator<[pathId: number, told: Told]> {
    const told = this.#told[id];
    if (told) yield [0, told];
    const paths = this.#toldPaths.get(id);
    if (paths) yield* paths;
  }

  #isTold(id: number): boolean {
    return this.#told[id] !== undefined || this.#toldPaths.has(id);
  }

  #remember(id: number, pathId: number, before: Told | undefined, next: Told): void {
    next.uses++;
    if (before) this.#drop(before);
    else {
      this.#rib.hold(id);
      this.#count++;
    }
    this.#tally(next, 1);
    if (pathId === 0) this.#told[id] = next;
    else {
      let paths = this.#toldPaths.get(id);
      if (!paths) {
        paths = new Map();
        this.#toldPaths.set(id, paths);
      }
      paths.set(pathId, next);
    }
  }

  #forget(id: number, pathId: number, told: Told): void {
    if (pathId === 0) this.#told[id] = undefined;
    else {
      const paths = this.#toldPaths.get(id)!;
      paths.delete(pathId);
      if (paths.size === 0) this.#toldPaths.delete(id);
    }
    this.#count--;
    this.#drop(told);
    this.#rib.unhold(id);
  }

  #drop(told: Told): void {
    this.#tally(told, -1);
    if (--told.uses === 0) this.#table.release(told.set.id);
  }

  #tally({ set, source }: Told, by: 1 | -1): void {
    this.#countOf.set(source, (this.#countOf.get(source) ?? 0) + by);
    const nextHop = set.nextHop!;
    if (nextHop === this.config.self || nextHop.text === source.name) return;
    const count = (this.#countTo.get(nextHop.text) ?? 0) + by;
    if (count > 0) this.#countTo.set(nextHop.text, count);
    else this.#countTo.delete(nextHop.text);
  }

  /** Something of a prefix is told no more: cohorts that may have told it are to withdraw it. */
  #bury(id: number, pathId: number): void {
    if (this.#cohorts.size === 0) return;
    if (!this.#graves.has(id)) {
      this.#graves.add(id);
      this.#rib.hold(id);
    }
    if (pathId === 0) return;
    for (const { gone, walkAt } of this.#cohorts) {
      if (id >= walkAt) continue;
      const ids = gone.get(id) ?? new Set();
      gone.set(id, ids.add(pathId));
    }
  }

  #releaseGraves(): void {
    for (const id of this.#graves) this.#rib.unhold(id);
    this.#graves.clear();
  }

  #outbox(): Outbox {
    const encoded = new Map<AttributeSet, EncodedAttributes>();
    return new Outbox(this.#format, (set) => {
      let list = encoded.get(set);
      if (!list) {
        list = this.#encode(set);
        encoded.set(set, list);
      }
      return list;
    });
  }

  #encode(set: AttributeSet): EncodedAttributes {
    const { family, as4 } = this.config;
    const { nextHop } = set;
    const isPlain = family === IPV4 && nextHop!.family === IPV4;
    if (as4 && !isPlain) return { bytes: set.bytes, nextHop };
    return {
      bytes: encodeAttributes(set.attributes, { as4, nextHop: isPlain }),
      nextHop: isPlain ? null : nextHop,
    };
  }

  // ---- Members that are behind -----------------------------------------------------------------------

  #fallBehind(member: Member): void {
    this.#current.delete(member);
    const cohort = this.#startCohort(member, Number.POSITIVE_INFINITY, false);
    cohort.isBlocked = true;
  }

  #startCohort(member: Member, walkAt: number, isInitial: boolean): Cohort {
    // Who comes before the walk has begun walks along.
    const waiting = [...this.#cohorts].find(
      (c) => isInitial && c.isInitial && c.walkAt === 0 && !c.isBlocked,
    );
    const cohort = waiting ?? {
      members: new Set(),
      walkAt,
      behind: new Bitmap(),
      gone: new Map(),
      isBlocked: false,
      isInitial,
    };
    cohort.members.add(member);
    this.#cohorts.add(cohort);
    this.#behind.set(member, cohort);
    this.#schedule();
    return cohort;
  }

  #leaveCohort(member: Member): void {
    const cohort = this.#behind.get(member);
    if (!cohort) return;
    this.#behind.delete(member);
    cohort.members.delete(member);
    if (cohort.members.size === 0) this.#endCohort(cohort);
  }

  #endCohort(cohort: Cohort): void {
    this.#cohorts.delete(cohort);
    if (this.#cohorts.size === 0) this.#releaseGraves();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      for (const cohort of [...this.#cohorts]) if (!cohort.isBlocked) this.#pump(cohort);
      if ([...this.#cohorts].some(({ isBlocked }) => !isBlocked)) this.#schedule();
    });
  }

  /** Tell a cohort the next slice. */
  #pump(cohort: Cohort): void {
    const outbox = this.#outbox();
    const sources = new Set([...cohort.members].map(({ source }) => source));
    let left = SLICE;
    for (let id = cohort.behind.take(); id >= 0; id = cohort.behind.take()) {
      this.#tell(id, cohort, sources, outbox);
      if (--left === 0 || outbox.isFull) break;
    }
    // Others are in the stream already: what this walk is the first to find out is news to them too.
    const news = this.#outbox();
    while (left > 0 && cohort.walkAt < this.#rib.end && !outbox.isFull && !news.isFull) {
      const id = cohort.walkAt++;
      left--;
      if (!this.#rib.hasBest(id)) continue;
      this.#update(id, news);
      // Who has not heard of it has nothing to forget.
      if (this.#isTold(id)) this.#tell(id, cohort, sources, outbox);
      cohort.behind.delete(id);
    }
    for (const member of news.flush(this.#current)) this.#fallBehind(member);
    if (cohort.walkAt >= this.#rib.end) cohort.walkAt = Number.POSITIVE_INFINITY;
    for (const member of outbox.flush(cohort.members)) this.#split(cohort, member);
    if (cohort.members.size === 0 || cohort.isBlocked) return;
    if (cohort.walkAt !== Number.POSITIVE_INFINITY || cohort.behind.size > 0) return;
    for (const member of cohort.members) {
      this.#behind.delete(member);
      this.#current.add(member);
    }
    this.#endCohort(cohort);
    if (!cohort.isInitial) return;
    for (const member of cohort.members) {
      this.#withdrawRest(member);
      member.synchronised();
    }
  }

  /** A member has heard all: what it had besides it has no more. */
  #withdrawRest(member: Member): void {
    const outbox = this.#outbox();
    for (const { prefix, pathId } of this.#had.get(member) ?? []) {
      const id = this.#rib.find(prefix);
      const told = id < 0 ? undefined : [...this.#toldOf(id)].find(([path]) => path === pathId);
      if (!told || isOwn(told[1], member.source)) {
        outbox.withdraw(Array.from(prefix.words), prefix.length, pathId);
      }
    }
    this.#had.delete(member);
    for (const full of outbox.flush([member])) this.#fallBehind(full);
  }

  #tell(id: number, { gone }: Cohort, sources: ReadonlySet<PathSource>, outbox: Outbox): void {
    const words = this.#rib.wordsOf(id, this.#words);
    const length = this.#rib.lengthOf(id);
    let isTold = false;
    for (const [pathId, told] of this.#toldOf(id)) {
      isTold = true;
      outbox.announce(words, length, pathId, told);
      if (sources.has(told.source)) outbox.lose(told.source, words, length, pathId);
      gone.get(id)?.delete(pathId);
    }
    if (this.config.addPath > 0) {
      for (const pathId of gone.get(id) ?? []) outbox.withdraw(words, length, pathId);
      gone.delete(id);
    } else if (!isTold) outbox.withdraw(words, length, 0);
  }

  /** A member of a cohort has no room: it goes on at its own pace. */
  #split(cohort: Cohort, member: Member): void {
    if (cohort.members.size === 1) {
      cohort.isBlocked = true;
      return;
    }
    cohort.members.delete(member);
    const own = { ...separate(cohort, member), isBlocked: true };
    this.#cohorts.add(own);
    this.#behind.set(member, own);
  }
}

const NONE: readonly Operation[] = [];

/** A cohort of one that has still to hear the same. */
const separate = (cohort: Cohort, member: Member): Cohort => ({
  ...cohort,
  members: new Set([member]),
  behind: cohort.behind.clone(),
  gone: new Map([...cohort.gone].map(([id, ids]) => [id, new Set(ids)])),
});
