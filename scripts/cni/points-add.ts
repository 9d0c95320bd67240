/** The points of ADD: the result, and the container as it then is. */
import { type Json, parse } from './driver.ts';
import type { Point } from './points.ts';
import {
  type Attached,
  type Container,
  demand,
  demandSilence,
  errorCode,
  IFNAME,
  type Subject,
} from './subject.ts';

export interface Interface {
  readonly name: string;
  readonly mac?: string;
  readonly sandbox?: string;
}
export interface Ip {
  readonly address: string;
  readonly interface?: number;
}
interface Route {
  readonly dst: string;
  readonly gw?: string;
}

export const interfacesOf = ({ result }: { result: Json }): Interface[] =>
  (result.interfaces as Interface[] | undefined) ?? [];
export const ipsOf = ({ result }: { result: Json }): Ip[] => (result.ips as Ip[] | undefined) ?? [];
const routesOf = ({ result }: { result: Json }): Route[] => (result.routes as Route[] | undefined) ?? [];

const DEFAULTS = new Set(['0.0.0.0/0', '::/0']);
/** As `ip route` prints a destination. */
const asPrinted = (dst: string): string => (DEFAULTS.has(dst) ? 'default' : dst.replace(/\/(32|128)$/, ''));

/** The container's own interface in a result. */
function own(attached: Attached): Interface {
  const { container, call } = attached;
  const found = interfacesOf(attached).find(
    ({ name, sandbox }) => name === call.ifname && sandbox === container.netns,
  );
  demand(
    found,
    `no interface ${call.ifname} with sandbox ${container.netns} in ${JSON.stringify(interfacesOf(attached))}`,
  );
  return found;
}

/** The container has what the result says. */
async function demandWorking(attached: Attached): Promise<void> {
  const { container, call } = attached;
  const link = await container.link(call.ifname);
  demand(link, `no ${call.ifname} in the container`);
  demand(link.flags.includes('UP'), `${call.ifname} is not up`);
  const addresses = link.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  for (const { address } of ipsOf(attached)) {
    demand(addresses.includes(address), `${address} is not on ${call.ifname}, which has ${addresses}`);
  }
}

const containers = (subject: Subject, count: number): Promise<Container[]> =>
  Promise.all(Array.from({ length: count }, () => subject.container()));

function demandDistinct(all: readonly Attached[]): void {
  const addresses = all.flatMap(ipsOf).map(({ address }) => address.split('/')[0]);
  demand(new Set(addresses).size === addresses.length, `an address was given twice: ${addresses.join(', ')}`);
}

export const addPoints: readonly Point[] = [
  {
    name: 'add-result',
    rule: 'ADD prints a result: its version, interfaces, and addresses that name one of them',
    try: async (subject) => {
      const attached = await subject.attach();
      const { result } = attached;
      demand(
        result.cniVersion === subject.version,
        `cniVersion ${result.cniVersion}, not ${subject.version}`,
      );
      const ips = ipsOf(attached);
      demand(ips.length > 0, 'no ips');
      const interfaces = interfacesOf(attached);
      for (const { address, interface: index } of ips) {
        demand(/^[0-9a-f.:]+\/\d+$/i.test(address), `${address} is no address with a prefix length`);
        demand(
          index !== undefined && interfaces[index]?.sandbox,
          `${address} is of interface ${index}, which is none in the container`,
        );
      }
      own(attached);
    },
  },
  {
    name: 'add-interface',
    rule: 'the container has the interface, up, with the MAC that the result says',
    try: async (subject) => {
      const attached = await subject.attach();
      const link = await attached.container.link();
      demand(link, `no ${IFNAME} in the container`);
      demand(link.flags.includes('UP'), `${IFNAME} is not up`);
      const { mac } = own(attached);
      demand(
        mac?.toLowerCase() === link.address,
        `the result says MAC ${mac}, the interface ${link.address}`,
      );
    },
  },
  {
    name: 'add-addresses',
    rule: 'the interface has the addresses of the result',
    try: async (subject) => demandWorking(await subject.attach()),
  },
  {
    name: 'add-routes',
    rule: 'the container has the routes of the result',
    try: async (subject) => {
      const attached = await subject.attach();
      const routes = await attached.container.routes();
      for (const { dst, gw } of routesOf(attached)) {
        const isThere = routes.some(
          (route) => route.dst === asPrinted(dst) && (gw === undefined || route.gateway === gw),
        );
        demand(isThere, `no route to ${dst} via ${gw} in ${JSON.stringify(routes)}`);
      }
    },
  },
  {
    name: 'add-distinct',
    rule: 'two containers get different addresses',
    try: async (subject) => demandDistinct([await subject.attach(), await subject.attach()]),
  },
  {
    name: 'add-at-once',
    rule: 'ADDs of several containers at once all succeed, with different addresses',
    try: async (subject) => {
      const all = await containers(subject, 4);
      const attached = await Promise.all(all.map((container) => subject.add(container)));
      demandDistinct(attached);
      for (const one of attached) await demandWorking(one);
    },
  },
  {
    name: 'add-second-interface',
    rule: 'a container may be attached twice by different interfaces, and loses one without the other',
    try: async (subject) => {
      const first = await subject.attach();
      const second = await subject.add(first.container, 'net1', subject.other);
      demandDistinct([first, second]);
      demandSilence('DEL', await subject.del(second, subject.other));
      demand(!(await first.container.link('net1')), 'net1 is still there after its DEL');
      await demandWorking(first);
    },
  },
  {
    name: 'add-name-in-use',
    rule: 'a name that another interface of the container has is an error, and that interface stays as it is',
    try: async (subject) => {
      const container = await subject.container();
      await container.ip('link', 'add', IFNAME, 'type', 'veth', 'peer', 'name', 'other');
      await container.ip('addr', 'add', '203.0.113.9/32', 'dev', IFNAME);
      const before = await container.link();
      const host = await subject.hostLinks();
      const call = subject.call(container);
      const outcome = await subject.exec({ command: 'ADD', ...call });
      errorCode(outcome);
      const after = await container.link();
      demand(JSON.stringify(after) === JSON.stringify(before), `${IFNAME} was ${JSON.stringify(before)}`);
      const left = (await subject.hostLinks()).filter((name) => !host.includes(name));
      // The bridge of a bridge plugin may come with the first attempt: what stays must not grow with the next.
      await subject.exec({ command: 'ADD', ...call });
      const more = (await subject.hostLinks()).filter((name) => !host.includes(name));
      demand(more.length <= left.length, `each failed ADD leaves a link behind: ${more}`);
    },
  },
  {
    name: 'add-again',
    rule: 'a second ADD of the same attachment is an error or the same result',
    try: async (subject) => {
      const { container, result, call } = await subject.attach();
      const outcome = await subject.exec({ command: 'ADD', ...call });
      if (outcome.exit !== 0) return void errorCode(outcome);
      const again = parse(outcome.stdout);
      demand(
        JSON.stringify(again?.ips) === JSON.stringify(result.ips),
        `first ${JSON.stringify(result.ips)}, then ${JSON.stringify(again?.ips)}`,
      );
      const link = await container.link();
      demand(link, `no ${IFNAME} any more`);
    },
  },
  {
    name: 'add-no-namespace',
    rule: 'ADD to a namespace that is not there is an error',
    try: async (subject) => {
      const container = await subject.container();
      const call = subject.call(container);
      await container.remove();
      errorCode(await subject.exec({ command: 'ADD', ...call }));
    },
  },
];
