/**
 * Tunnel daemons that a user would run instead: fastd with the method "null" and vtun without cipher and
 * compression, both over UDP, each between two nodes of their own with the kernel's routes to the pods.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { needs, offloadsOf, type Path, POD_DEVICE, podBehind, twoNodes } from './paths.ts';

const FASTD = '/usr/bin/fastd';
const VTUN = '/usr/sbin/vtund';
/** Inner packets: 1500 less the outer headers of either, rounded down. */
const MTU = 1400;

async function twoNodesWithPods(lab: Lab, prefix: string) {
  const nodes = await twoNodes(lab, prefix, 'super');
  const pods = [await lab.netns(`${prefix}-a`), await lab.netns(`${prefix}-b`)] as const;
  for (const [index, node] of nodes.entries()) {
    await podBehind(lab, node, pods[index]!, 'pod', `10.65.${index + 1}`, MTU);
  }
  const devices = { pods: [pods[0], POD_DEVICE], underlay: [nodes[0], 'eth0'] } as const;
  return {
    nodes,
    path: async (version: string): Promise<Path> => {
      await lab.reach(pods[0], '10.65.2.2');
      const offloads = await offloadsOf(lab, devices);
      return { version, offloads, client: pods[0], server: pods[1], address: '10.65.2.2' };
    },
  };
}

/** A file of the lab with this text. */
function write(lab: Lab, name: string, text: string): string {
  const file = join(lab.folder, name);
  writeFileSync(file, text, { mode: 0o600 });
  return file;
}

export async function fastd(lab: Lab): Promise<Path> {
  needs(FASTD, 'fastd');
  const { nodes, path } = await twoNodesWithPods(lab, 'fastd');
  const run = async (...args: string[]) => (await lab.run(nodes[0], FASTD, args)).trim();
  // "null" neither encrypts nor authenticates packets, but the handshake still asks for keys.
  const keys = [];
  for (const node of nodes) {
    const secret = await run('--generate-key', '--machine-readable');
    const file = write(lab, `${node}.key`, `secret "${secret}";\n`);
    keys.push({ secret, shown: await run('--config', file, '--show-key', '--machine-readable') });
  }
  for (const [index, node] of nodes.entries()) {
    const [own, other] = [index + 1, 2 - index];
    const config = write(
      lab,
      `${node}.conf`,
      `log level warn;
method "null";
mode tun;
mtu ${MTU};
interface "tun0";
bind 192.0.2.${own}:10000;
secret "${keys[index]!.secret}";
peer "other" { key "${keys[1 - index]!.shown}"; remote 192.0.2.${other}:10000; }
on up sync "ip link set tun0 up; ip route add 10.65.${other}.0/24 dev tun0";
`,
    );
    lab.spawn(node, FASTD, ['--config', config]);
  }
  return path(`${await run('--version')}, method null`);
}

export async function vtun(lab: Lab): Promise<Path> {
  needs(VTUN, 'vtun');
  const { nodes, path } = await twoNodesWithPods(lab, 'vtun');
  // Its parser takes one statement a line.
  const config = (index: number) =>
    write(
      lab,
      `${nodes[index]}.conf`,
      `options { port 5000; timeout 10; ip /sbin/ip; }
default { compress no; encrypt no; speed 0; }
pods {
  passwd lab;
  type tun;
  proto udp;
  device tun0;
  keepalive no;
  up {
    ip "link set %% up mtu ${MTU}";
    ip "route add 10.65.${2 - index}.0/24 dev %%";
  };
}
`,
    );
  lab.spawn(nodes[1], VTUN, ['-n', '-s', '-f', config(1)]);
  lab.spawn(nodes[0], VTUN, ['-n', '-p', '-f', config(0), 'pods', '192.0.2.2']);
  const told = await lab.run(nodes[0], 'dpkg-query', ['-s', 'vtun']);
  return path(`vtun ${told.match(/^Version: (.*)$/m)?.[1]}, proto udp, neither cipher nor compression`);
}
