/** Results of ADD: one shape within, and the shapes of the specification's versions at the door. */
import { z } from 'zod';
import { isIp6 } from '../address.ts';
import { CniError, CODE } from './error.ts';

/** Versions of the specification that we speak, oldest first. The plugin's program lists them, too (native/tortie-cni.c). */
export const VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof VERSIONS)[number];

export const isAtLeast = (version: Version, other: Version): boolean =>
  VERSIONS.indexOf(version) >= VERSIONS.indexOf(other);

const interfaceSchema = z.looseObject({
  name: z.string(),
  mac: z.string().optional(),
  /** Since 1.1.0. */
  mtu: z.int().optional(),
  /** Path of the namespace; absent: on the host. */
  sandbox: z.string().optional(),
});
const ipSchema = z.looseObject({
  address: z.string(),
  gateway: z.string().optional(),
  /** Index into the interfaces. */
  interface: z.int().optional(),
});
const routeSchema = z.looseObject({ dst: z.string(), gw: z.string().optional() });

const resultSchema = z.looseObject({
  interfaces: z.array(interfaceSchema).nullish(),
  ips: z.array(ipSchema).nullish(),
  routes: z.array(routeSchema).nullish(),
  dns: z.looseObject({}).nullish(),
});

export type ResultInterface = z.infer<typeof interfaceSchema>;
export type ResultIp = z.infer<typeof ipSchema>;
export type ResultRoute = z.infer<typeof routeSchema>;

export interface Result {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Readonly<Record<string, unknown>>;
}

/** A result of any version that we speak. `what` it is, for the message. */
export function parseResult(value: unknown, what: string): Result {
  const { success, data, error } = resultSchema.safeParse(value);
  if (!success) {
    const [issue] = error.issues;
    throw new CniError(CODE.decode, `${what}: ${issue?.path.join('.')}: ${issue?.message}`);
  }
  const ips = (data.ips ?? []).map(({ version: _, ...ip }) => ip);
  return {
    interfaces: data.interfaces ?? [],
    ips,
    routes: data.routes ?? [],
    dns: data.dns ?? {},
  };
}

/** What came with 1.1.0. */
const NEW_OF_INTERFACES = new Set(['mtu', 'socketPath', 'pciID']);
const NEW_OF_ROUTES = new Set(['mtu', 'advmss', 'priority', 'table', 'scope']);

const without = (value: object, names: ReadonlySet<string>): object =>
  Object.fromEntries(Object.entries(value).filter(([name]) => !names.has(name)));

/** As a version of the specification prints it. A delegated IPAM plugin names no interfaces. */
export function formatResult(result: Result, version: Version, delegated = false): string {
  const isNew = isAtLeast(version, '1.1.0');
  const saysFamily = !isAtLeast(version, '1.0.0');
  const { interfaces, ips, routes, dns } = result;
  return JSON.stringify({
    cniVersion: version,
    ...(!delegated && {
      interfaces: interfaces.map((one) => (isNew ? one : without(one, NEW_OF_INTERFACES))),
    }),
    ips: ips.map((ip) => (saysFamily ? { version: isIp6(ip.address) ? '6' : '4', ...ip } : ip)),
    ...(routes.length > 0 && { routes: routes.map((one) => (isNew ? one : without(one, NEW_OF_ROUTES))) }),
    dns,
  });
}

/** What a chain before us made, and what we add. */
export function mergeResults(before: Result | null, ours: Result): Result {
  if (!before) return ours;
  const offset = before.interfaces.length;
  const moved = ours.ips.map((ip) =>
    ip.interface === undefined ? ip : { ...ip, interface: ip.interface + offset },
  );
  return {
    interfaces: [...before.interfaces, ...ours.interfaces],
    ips: [...before.ips, ...moved],
    routes: [...before.routes, ...ours.routes],
    dns: { ...before.dns, ...ours.dns },
  };
}
