/** What the schemas of all kinds are made of. */
import { z } from 'zod';
import {
  isIp6,
  tryAddress4,
  tryAddress6,
  tryInterface4,
  tryInterface6,
  tryMac,
  tryPrefix4,
  tryPrefix6,
} from '../address.ts';
import { selectorProblem } from './selector.ts';

export const API_VERSION = 'projectcalico.org/v3';

export const refined = (accepts: (text: string) => unknown, wanted: string) =>
  z.string().refine((text) => accepts(text) !== null, { error: `must be ${wanted}` });

export const address4 = refined(tryAddress4, 'an IPv4 address such as 192.0.2.1');
export const interfaceAddress4 = refined(
  tryInterface4,
  'an IPv4 address with a prefix length such as 192.0.2.1/24',
);
export const address6 = refined(tryAddress6, 'an IPv6 address such as 2001:db8::1');
export const interfaceAddress6 = refined(
  tryInterface6,
  'an IPv6 address with a prefix length such as 2001:db8::1/64',
);
export const prefix4 = refined(tryPrefix4, 'an IPv4 prefix without host bits such as 10.65.0.0/16');
export const prefix6 = refined(tryPrefix6, 'an IPv6 prefix without host bits such as fd65::/48');
/** Of either family. */
export const anyPrefix = refined(
  (text) => (isIp6(text) ? tryPrefix6(text) : tryPrefix4(text)),
  'an IP prefix without host bits such as 10.65.0.0/16 or fd65::/48',
);
export const anyAddress = refined(
  (text) => (isIp6(text) ? tryAddress6(text) : tryAddress4(text)),
  'an IP address such as 192.0.2.1 or 2001:db8::1',
);
export const mac = refined(tryMac, 'a MAC address such as 66:12:34:56:78:9a');
export const port = z.int().min(1).max(65535);
export const deviceName = z
  .string()
  .regex(/^[^\s/:]{1,15}$/, { error: 'must be an interface name: 1 to 15 characters, no space, "/" or ":"' });
/** Letters and digits with "-", "_" and "." between: a node, a filter, a pod. */
export const name = z.string().regex(/^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,251}[a-zA-Z0-9])?$/, {
  error: 'must be a name: letters and digits, with "-", "_" and "." between them, at most 253',
});

export const MAX_AS = 4294967295;
/** A number, or its text, also as two 16-bit halves: "1.10". */
export const asNumber = z.preprocess((value) => {
  const [, high, low] = typeof value === 'string' ? (/^(?:(\d+)\.)?(\d+)$/.exec(value) ?? []) : [];
  if (low === undefined || (high !== undefined && Math.max(Number(high), Number(low)) > 65535)) return value;
  return Number(high ?? 0) * 65536 + Number(low);
}, z.int().min(1).max(MAX_AS));

export const selector = z.string().refine((text) => selectorProblem(text) === null, {
  error: ({ input }) => selectorProblem(String(input)) ?? '',
});

const DURATION = /^(?:\d+(?:\.\d*)?(?:ns|us|µs|ms|s|m|h))+$|^0$/;
/** Go's notation. */
export const duration = z.string().regex(DURATION, { error: 'must be a duration such as 90s or 1m30s' });

const SECONDS: Partial<Record<string, number>> = {
  ns: 1e-9,
  us: 1e-6,
  µs: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  h: 3600,
};
/** Seconds of a duration that the schema has accepted. */
export function secondsOf(text: string): number {
  const parts = text.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)/g);
  return [...parts].reduce((sum, [, number, unit]) => sum + Number(number) * SECONDS[unit!]!, 0);
}

/** A duration of so many seconds at least and at most. */
export const durationWithin = (least: number, most: number, words: string) =>
  duration.refine((text) => secondsOf(text) >= least && secondsOf(text) <= most, {
    error: `must be ${words}`,
  });

const NUMBER_16 = '(?:\\d{1,4}|[1-5]\\d{4}|6[0-4]\\d{3}|65[0-4]\\d{2}|655[0-2]\\d|6553[0-5])';
const COMMUNITY = new RegExp(`^${NUMBER_16}:${NUMBER_16}$`);
const LARGE = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/;
const isCommunity = (text: string): boolean =>
  COMMUNITY.test(text) ||
  (LARGE.exec(text)
    ?.slice(1)
    .every((part) => Number(part) <= MAX_AS) ??
    false);
const COMMUNITY_WORDS = 'a community such as 64512:100, or a large one such as 64512:100:7';
export const community = z.string().refine(isCommunity, { error: `must be ${COMMUNITY_WORDS}` });
export const communityOrName = z.string().refine((text) => isCommunity(text) || /^[^:\s]+$/.test(text), {
  error: `must be ${COMMUNITY_WORDS}, or the name of one of "communities"`,
});

/** Where a password is: in a Kubernetes secret. */
export const password = z.strictObject({
  secretKeyRef: z
    .strictObject({ name: z.string().default(''), key: z.string().min(1), optional: z.boolean().optional() })
    .optional(),
});

interface Meta {
  readonly inert?: { readonly why: string; readonly harmless: readonly unknown[] };
}

/**
 * A field of Calico's that is accepted, with a warning that it does nothing unless its value is one of `harmless`:
 * those that ask for what tortie does anyway. `why` completes "accepted with a warning: ".
 */
export const inert = <S extends z.ZodType>(schema: S, why: string, ...harmless: unknown[]) =>
  schema.optional().meta({ description: `Accepted with a warning: ${why}.`, inert: { why, harmless } });

export const inertOf = (schema: z.ZodType): Meta['inert'] => (schema.meta() as Meta | undefined)?.inert;

/** Identity and history are the store's to write; what others wrote is read and passed over. */
const metadata = z.strictObject({
  name: z.string().min(1).max(253),
  namespace: z.string().min(1).max(63).optional(),
  labels: z.record(z.string(), z.string()).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
  uid: z.string().nullish(),
  creationTimestamp: z.string().nullish(),
  /** At what revision it was read: a write checks it. */
  resourceVersion: z.string().nullish(),
  generation: z.int().nullish(),
  generateName: z.string().nullish(),
  selfLink: z.string().nullish(),
  deletionTimestamp: z.string().nullish(),
  deletionGracePeriodSeconds: z.int().nullish(),
  ownerReferences: z.array(z.unknown()).nullish(),
  finalizers: z.array(z.string()).nullish(),
  managedFields: z.array(z.unknown()).nullish(),
});

/** A resource of one kind. */
export const resource = <K extends string, S extends z.ZodType>(kind: K, spec: S) =>
  z.strictObject({ apiVersion: z.literal(API_VERSION), kind: z.literal(kind), metadata, spec });
