/** The points of CHECK, DEL, STATUS and GC. */
import type { Json } from './driver.ts';
import type { Point } from './points.ts';
import { interfacesOf, ipsOf } from './points-add.ts';
import { type Attached, demand, demandSilence, errorCode, IFNAME, type Subject } from './subject.ts';

/** CHECK must see that something is wrong. */
async function demandComplaint(subject: Subject, attached: Attached, what: string): Promise<void> {
  const outcome = await subject.check(attached);
  demand(outcome.exit !== 0, `CHECK does not see that ${what}`);
  errorCode(outcome);
}

/** A point of CHECK: the container is damaged by `ip` commands, and CHECK sees it. */
const damaged = (name: string, what: string, damage: (attached: Attached) => Promise<unknown>): Point => ({
  name,
  rule: `CHECK fails when ${what}`,
  since: '0.4.0',
  try: async (subject) => {
    const attached = await subject.attach();
    demandSilence('CHECK', await subject.check(attached));
    await damage(attached);
    await demandComplaint(subject, attached, what);
  },
});

/** A point of DEL: it must do its work whatever is missing. */
const deletes = (
  name: string,
  rule: string,
  act: (subject: Subject, attached: Attached) => Promise<void>,
): Point => ({
  name,
  rule,
  try: async (subject) => act(subject, await subject.attach()),
});

const validList = (attached: readonly Attached[]): Json => ({
  'cni.dev/valid-attachments': attached.map(({ call }) => ({
    containerID: call.containerId,
    ifname: call.ifname,
  })),
});

export const lifePoints: readonly Point[] = [
  {
    name: 'check',
    rule: 'CHECK of what ADD made succeeds and prints nothing',
    since: '0.4.0',
    try: async (subject) => demandSilence('CHECK', await subject.check(await subject.attach())),
  },
  {
    name: 'check-needs-result',
    rule: 'CHECK without prevResult is an error',
    since: '0.4.0',
    try: async (subject) => {
      const { call } = await subject.attach();
      errorCode(await subject.exec({ command: 'CHECK', ...call }));
    },
  },
  {
    name: 'check-tolerates',
    rule: 'CHECK lets be what a later plugin of the chain added',
    since: '0.4.0',
    try: async (subject) => {
      const attached = await subject.attach();
      await attached.container.ip('addr', 'add', '203.0.113.9/32', 'dev', IFNAME);
      await attached.container.ip('route', 'add', 'blackhole', '203.0.113.64/26');
      demandSilence('CHECK', await subject.check(attached));
    },
  },
  {
    name: 'check-interface',
    rule: 'CHECK fails when the interface is gone, unless it is mended by then',
    since: '0.4.0',
    try: async (subject) => {
      const attached = await subject.attach();
      demandSilence('CHECK', await subject.check(attached));
      await attached.container.ip('link', 'del', IFNAME);
      const outcome = await subject.check(attached);
      // A plugin whose daemon makes the interface anew at once tells the truth.
      if (outcome.exit === 0 && (await attached.container.link())) return;
      demand(outcome.exit !== 0, 'CHECK does not see that the interface is gone');
      errorCode(outcome);
    },
  },
  damaged('check-address', 'an address is gone', (attached) => {
    const [first] = ipsOf(attached);
    return attached.container.ip('addr', 'del', first!.address, 'dev', IFNAME);
  }),
  damaged('check-route', 'a route is gone', ({ container }) => container.ip('route', 'flush', 'dev', IFNAME)),
  {
    name: 'check-other-address',
    rule: 'CHECK fails when prevResult has another address than the container',
    since: '0.4.0',
    try: async (subject) => {
      const attached = await subject.attach();
      const ips = ipsOf(attached).map((ip) => ({ ...ip, address: '203.0.113.77/32' }));
      const changed = { ...attached, result: { ...attached.result, ips } };
      await demandComplaint(subject, changed, 'prevResult names an address that is not there');
    },
  },
  {
    name: 'check-other-mac',
    rule: 'CHECK fails when prevResult has another MAC than the interface',
    since: '0.4.0',
    try: async (subject) => {
      const attached = await subject.attach();
      const interfaces = interfacesOf(attached).map((one) =>
        one.name === IFNAME ? { ...one, mac: '02:00:00:00:00:99' } : one,
      );
      const changed = { ...attached, result: { ...attached.result, interfaces } };
      await demandComplaint(subject, changed, 'prevResult names another MAC');
    },
  },
  deletes(
    'del',
    'DEL removes the interface, prints nothing, and leaves no link on the node',
    async (subject) => {
      const before = await subject.hostLinks();
      const attached = await subject.attach();
      const with2 = await subject.hostLinks();
      demandSilence('DEL', await subject.del(attached));
      demand(!(await attached.container.link()), `${IFNAME} is still there`);
      const after = await subject.hostLinks();
      demand(
        after.length <= before.length,
        `links on the node: ${before.length} before, ${with2.length} with one container more, ${after.length} after`,
      );
    },
  ),
  deletes('del-again', 'a second DEL succeeds', async (subject, attached) => {
    demandSilence('DEL', await subject.del(attached));
    demandSilence('the second DEL', await subject.del(attached));
  }),
  {
    name: 'del-unknown',
    rule: 'DEL of a container that was never added succeeds',
    try: async (subject) => {
      const call = subject.call(await subject.container());
      demandSilence('DEL', await subject.exec({ command: 'DEL', ...call }));
    },
  },
  deletes('del-without-result', 'DEL without prevResult removes the interface', async (subject, attached) => {
    demandSilence('DEL', await subject.exec({ command: 'DEL', ...attached.call }));
    demand(!(await attached.container.link()), `${IFNAME} is still there`);
  }),
  deletes('del-namespace-gone', 'DEL succeeds when the namespace is gone', async (subject, attached) => {
    await attached.container.remove();
    demandSilence('DEL', await subject.del(attached));
  }),
  deletes('del-without-netns', 'DEL without CNI_NETNS succeeds', async (subject, attached) => {
    const { netns: _, ...call } = attached.call;
    demandSilence(
      'DEL',
      await subject.exec({ command: 'DEL', ...call }, subject.conf({ prevResult: attached.result })),
    );
  }),
  {
    name: 'del-frees',
    rule: 'addresses come back by DEL: more containers, one after another, than there are addresses',
    try: async (subject) => {
      const container = await subject.container();
      for (let count = 0; count < 8; count++) {
        const attached = await subject.add(container);
        demandSilence('DEL', await subject.del(attached));
      }
    },
  },
  {
    name: 'status',
    rule: 'STATUS succeeds and prints nothing',
    since: '1.1.0',
    try: async (subject) => demandSilence('STATUS', await subject.exec({ command: 'STATUS' })),
  },
  {
    name: 'gc-keeps',
    rule: 'GC keeps attachments that are listed',
    since: '1.1.0',
    try: async (subject) => {
      const all = [await subject.attach(), await subject.attach()];
      demandSilence('GC', await subject.exec({ command: 'GC' }, subject.conf(validList(all))));
      for (const attached of all) demandSilence('CHECK after GC', await subject.check(attached));
    },
  },
  {
    name: 'gc-removes',
    rule: 'GC takes back what attachments have that are not listed; their DEL still succeeds',
    since: '1.1.0',
    try: async (subject) => {
      const [kept, stale] = [await subject.attach(), await subject.attach()];
      demandSilence('GC', await subject.exec({ command: 'GC' }, subject.conf(validList([kept]))));
      await demandComplaint(subject, stale, 'the attachment was collected');
      demandSilence('DEL after GC', await subject.del(stale));
      demandSilence('CHECK of the other', await subject.check(kept));
    },
  },
  {
    name: 'gc-network',
    rule: 'GC of a network leaves the attachments of another network',
    since: '1.1.0',
    try: async (subject) => {
      const attached = await subject.attach();
      const other = subject.conf({ ...subject.other, ...validList([]) });
      demandSilence('GC', await subject.exec({ command: 'GC' }, other));
      demandSilence('CHECK after GC', await subject.check(attached));
    },
  },
];
