/** What import and export policies are asked, and what they answer. The rules themselves are the owner's. */
import type { PathSource } from '../rib/decision.ts';
import type { Attributes } from './attributes.ts';
import type { Prefix } from './family.ts';

export type Operation =
  | { readonly kind: 'add community'; readonly community: number }
  | { readonly kind: 'add large community'; readonly community: readonly [number, number, number] }
  | { readonly kind: 'prepend'; readonly asns: readonly number[] }
  | { readonly kind: 'set local preference'; readonly value: number };

/** Shared: one object for each outcome that a policy has, so that its effects are computed once. */
export interface Verdict {
  readonly accept: boolean;
  /** For people: which rule said so. */
  readonly reason: string;
  readonly operations: readonly Operation[];
}

export interface PolicyRoute {
  readonly prefix: Prefix;
  readonly attributes: Attributes;
  readonly source: PathSource;
}

export interface Policy {
  /** Two policies with the same key do the same. */
  readonly key: string;
  /** The route is good until this returns. */
  evaluate(route: PolicyRoute): Verdict;
}

export const ACCEPTED: Verdict = { accept: true, reason: 'accepted', operations: [] };

export const ACCEPT_ALL: Policy = { key: 'accept all', evaluate: () => ACCEPTED };

const UNSAID: Verdict = {
  accept: false,
  reason: 'an external peer without a policy (RFC 8212)',
  operations: [],
};

export const DENY_ALL: Policy = { key: 'deny all', evaluate: () => UNSAID };
