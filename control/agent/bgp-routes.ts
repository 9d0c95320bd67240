/** Routes of the BGP speaker for people: found by prefix or address, each with its place and why it has it. */
import { mask4, mask6, tryAddress4, tryAddress6, tryPrefix4, tryPrefix6 } from '../address.ts';
import type { BgpRouteQuery, BgpRouteView, BgpToldView, BgpWhyView } from '../api/types.ts';
import type { AttributeSet } from '../bgp/attribute-table.ts';
import { FAMILIES, type Family, formatPrefix, IPV4, IPV6, type Prefix } from '../bgp/family.ts';
import type { Speaker } from '../bgp/speaker.ts';
import { type AttributesView, attributesView } from '../bgp/text.ts';
import { TortieError } from '../error.ts';
import { compare, type Path, type PathSource, REASONS } from '../rib/decision.ts';
import type { Candidate, Rib } from '../rib/rib.ts';
import { measured } from './bgp-measures.ts';

/** Prefixes that are looked at in vain until the reader may pause. */
const BREATH = 128;
/** A power of two. */
const KEPT_VIEWS = 256;

/** What is asked of a speaker: tables without one answer the same. */
export type Tables = Pick<Speaker, 'ribs' | 'source' | 'adjOutAt' | 'refusalOf' | 'withheld'>;

// ---- What is asked for ---------------------------------------------------------------------------------

interface Asked extends Prefix {
  readonly isAddress: boolean;
}

/** Throws PREFIX. */
function askedOf(text: string): Asked {
  const address4 = tryAddress4(text);
  if (address4 !== null) return { family: IPV4, words: [address4], length: 32, isAddress: true };
  const address6 = tryAddress6(text);
  if (address6) return { family: IPV6, words: address6, length: 128, isAddress: true };
  const four = tryPrefix4(text);
  if (four) return { family: IPV4, words: [four.prefix], length: four.length, isAddress: false };
  const six = tryPrefix6(text);
  if (six) return { family: IPV6, words: six.words, length: six.length, isAddress: false };
  const advice = 'give one such as 10.65.1.0/26, without bits behind its length';
  throw new TortieError('PREFIX', `"${text}" is no prefix and no address; ${advice}`);
}

/** The first `length` bits of an address. */
function shortened({ family, words }: Prefix, length: number): Prefix {
  const masks = family === IPV4 ? [mask4(length)] : mask6(length);
  return { family, words: masks.map((mask, i) => mask & words[i]!), length };
}

/** The longest prefix that holds this one, itself included, and suits. */
function longest(prefix: Prefix, suits: (prefix: Prefix) => boolean): Prefix | null {
  for (let length = prefix.length; length >= 0; length--) {
    const candidate = shortened(prefix, length);
    if (suits(candidate)) return candidate;
  }
  return null;
}

function contains(outer: Prefix, inner: Prefix): boolean {
  if (outer.length > inner.length) return false;
  const { words } = shortened(inner, outer.length);
  for (let i = 0; i < words.length; i++) if (words[i] !== outer.words[i]) return false;
  return true;
}

// ---- Lists ---------------------------------------------------------------------------------------------

/** What is shown of one prefix, by its number in the RIB. */
type Rows = (rib: Rib, id: number) => Iterable<BgpRouteView>;

/** As BgpView.routes says it; `peer` is that of `in` or `out`. Throws PREFIX at once. */
export function routesOf(
  speaker: Tables,
  { prefix, longer = false, out, best = false, family: only }: BgpRouteQuery,
  peer: string | null,
): Iterable<BgpRouteView | null> {
  const asked = prefix === undefined ? null : askedOf(prefix);
  const families = FAMILIES.filter(
    (family) => (only ?? family.name) === family.name && (asked?.family ?? family) === family,
  );
  const source = peer === null ? null : speaker.source(peer);
  const views = new Views(speaker);
  const rows: Rows =
    out !== undefined
      ? (rib, id) => sentRows(speaker, peer!, views, rib, id)
      : tableRows(source, best, views);
  return list(speaker, families, asked, longer, rows);
}

function* list(
  speaker: Tables,
  families: readonly Family[],
  asked: Asked | null,
  longer: boolean,
  rows: Rows,
): Generator<BgpRouteView | null> {
  for (const family of families) {
    const rib = speaker.ribs[family.index];
    const rowsAt = (prefix: Prefix) => {
      const id = rib.find(prefix);
      return id < 0 ? [] : [...rows(rib, id)];
    };
    const meant = asked?.isAddress ? longest(asked, (prefix) => rowsAt(prefix).length > 0) : asked;
    if (asked && !meant) continue;
    if (meant && !longer) {
      yield* rowsAt(meant);
      continue;
    }
    let vain = 0;
    // Prefixes that come while this is read have numbers beyond, or places of others that went.
    for (let id = 0; id < rib.end; id++) {
      let isVain = true;
      if (isUsed(rib, id) && (!meant || contains(meant, rib.prefixOf(id)))) {
        for (const row of rows(rib, id)) {
          isVain = false;
          yield row;
        }
      }
      if (isVain && ++vain % BREATH === 0) yield null;
    }
  }
}

/** Numbers of prefixes that are gone are kept for others, and marked by their length. */
const isUsed = (rib: Rib, id: number): boolean => rib.lengthOf(id) >= 0;

function* sentRows(speaker: Tables, peer: string, views: Views, rib: Rib, id: number) {
  for (const { prefix, pathId, set, source } of speaker.adjOutAt(peer, rib.family, id)) {
    const row: BgpRouteView = {
      family: prefix.family.name,
      prefix: formatPrefix(prefix),
      pathId: pathId >>> 0,
      nextHop: set.nextHop?.text ?? null,
      cost: null,
      peer: source.local ? null : source.name,
      peerAsn: source.local ? null : source.asn,
      since: null,
      stale: false,
      state: 'sent',
      reason: '',
      detail: null,
      attributes: views.of(set),
    };
    yield row;
  }
}

/** Of all sources, or of one. */
const tableRows = (source: PathSource | null, best: boolean, views: Views): Rows =>
  function* rows(rib, id) {
    if (best) {
      const path = rib.bestOf(id);
      if (path && (source === null || path.source === source)) {
        yield rowOf(rib.prefixOf(id), path, 'best', rib.reasonOf(id), null, views);
      }
      return;
    }
    const candidates = rib.candidates(rib.prefixOf(id));
    if (source !== null && !candidates.some(({ path }) => path.source === source)) return;
    for (const [i, row] of rowsOf(rib, id, candidates, views).entries()) {
      if (source === null || candidates[i]!.path.source === source) yield row;
    }
  };

/** All paths of a prefix, each with its place and why it has it. */
function rowsOf(rib: Rib, id: number, candidates: readonly Candidate[], views: Views): BgpRouteView[] {
  const prefix = rib.prefixOf(id);
  const contenders = candidates.length > 1 ? rib.eligible(id) : [];
  const contenderOf = ({ path }: Candidate) =>
    contenders.find(({ source, pathId }) => source === path.source && pathId === path.pathId)!;
  return candidates.map((candidate, place) => {
    const { path, reason, multipath } = candidate;
    if (reason === null) return rowOf(prefix, path, 'excluded', views.exclusion(prefix, path), null, views);
    if (place === 0) return rowOf(prefix, path, 'best', reason, null, views);
    // Because of MED a path may be worse than another one than the best (RFC 4271 9.1.2.2 c).
    const own = contenderOf(candidate);
    const steps = candidates.slice(0, place).map((better) => compare(contenderOf(better), own));
    const winner = Math.max(
      0,
      steps.findIndex((step) => step > 0),
    );
    const step = REASONS[Math.abs(steps[winner]!)]!;
    const detail = measured(step, own, contenderOf(candidates[winner]!), winner);
    return rowOf(prefix, path, multipath ? 'multipath' : 'worse', step, detail, views);
  });
}

/** What is shown of attributes. It is kept of the latest sets: prefixes that share one mostly follow each other. */
class Views {
  readonly #speaker: Tables;
  readonly #sets: (AttributeSet | undefined)[] = new Array(KEPT_VIEWS);
  readonly #views: AttributesView[] = new Array(KEPT_VIEWS);

  constructor(speaker: Tables) {
    this.#speaker = speaker;
  }

  of(set: AttributeSet): AttributesView {
    const at = set.id & (KEPT_VIEWS - 1);
    if (this.#sets[at] !== set) {
      this.#sets[at] = set;
      this.#views[at] = attributesView(set.attributes);
    }
    return this.#views[at]!;
  }

  /** Why a path cannot be chosen: with the rule that refused it, if it still does. */
  exclusion(prefix: Prefix, { source, attributes, excluded }: Path): string {
    const refusal = this.#speaker.refusalOf(source.name, prefix, attributes);
    const [kind] = excluded!.split(':');
    return refusal === null ? excluded! : `${kind}: ${refusal}`;
  }
}

const rowOf = (
  prefix: Prefix,
  { source, set, nextHop, pathId, since, stale }: Path,
  state: BgpRouteView['state'],
  reason: string,
  detail: string | null,
  views: Views,
): BgpRouteView => ({
  family: prefix.family.name,
  prefix: formatPrefix(prefix),
  pathId: pathId >>> 0,
  nextHop: nextHop?.text ?? null,
  cost: nextHop?.reachable ? nextHop.cost : null,
  peer: source.local ? null : source.name,
  peerAsn: source.local ? null : source.asn,
  since: new Date(since).toISOString(),
  stale,
  state,
  reason,
  detail,
  attributes: views.of(set),
});

/** The best path of a prefix, or null. */
export function bestOf(speaker: Tables, prefix: Prefix): BgpRouteView | null {
  const route = speaker.ribs[prefix.family.index].get(prefix);
  return route && rowOf(prefix, route.path, 'best', route.reason, null, new Views(speaker));
}

// ---- Why ------------------------------------------------------------------------------------------------

/** As BgpView.why says it. `to`: a peer's address, or null. */
export function whyOf(speaker: Tables, text: string, to: string | null): BgpWhyView {
  const asked = askedOf(text);
  const rib = speaker.ribs[asked.family.index];
  const hasPaths = (prefix: Prefix) => rib.candidates(prefix).length > 0;
  const found = asked.isAddress ? longest(asked, hasPaths) : hasPaths(asked) ? asked : null;
  const views = new Views(speaker);
  const id = found ? rib.find(found) : -1;
  const candidates = found ? rowsOf(rib, id, rib.candidates(found), views) : [];
  const [first] = candidates;
  const decidedBy = first?.state === 'best' ? first.reason : null;
  const covering = decidedBy === null ? longest(asked, (prefix) => rib.get(prefix) !== null) : null;
  return {
    prefix: found && formatPrefix(found),
    covering: covering && formatPrefix(covering),
    decidedBy,
    candidates,
    told: found && to !== null ? toldOf(speaker, to, views, rib, id) : null,
  };
}

function toldOf(speaker: Tables, peer: string, views: Views, rib: Rib, id: number): BgpToldView {
  const routes = [...sentRows(speaker, peer, views, rib, id)];
  const isNothing = rib.bestOf(id) === null;
  const withheld = isNothing ? 'no path can be used' : speaker.withheld(peer, rib.family, id);
  return { peer, routes, reason: routes.length > 0 ? null : (withheld ?? 'it is about to be told') };
}
