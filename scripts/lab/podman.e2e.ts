import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { CniNode, NODE, NODE_ADDRESS } from '../cni/node.ts';
import { noLab } from './in-lab.ts';

const BUSYBOX = '/bin/busybox';
const APPLETS = ['sh', 'ip', 'ping', 'sleep', 'httpd', 'wget', 'cat'];

/** Podman on a node, its networks those of the CNI folder, its images and containers in the lab's. */
class Podman {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;

  constructor({ lab, binDir, confDir }: CniNode) {
    this.#folder = join(lab.folder, 'podman');
    mkdirSync(this.#folder);
    const file = join(this.#folder, 'containers.conf');
    writeFileSync(
      file,
      `[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["${binDir}", "/usr/lib/cni"]
network_config_dir = "${confDir}"
`,
    );
    this.#env = { ...process.env, CONTAINERS_CONF: file };
  }

  /** Not `ip netns exec`: that hides the cgroups. */
  #command(args: readonly string[]): string[] {
    const at = (name: string) => join(this.#folder, name);
    const places = ['--root', at('store'), '--runroot', at('run'), '--tmpdir', at('tmp')];
    return [`--net=/run/netns/${NODE}`, 'podman', ...places, '--storage-driver', 'vfs', ...args];
  }

  run(...args: string[]): string {
    return execFileSync('nsenter', this.#command(args), {
      env: this.#env,
      encoding: 'utf8',
      timeout: 60_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** A detached container of the tiny image, on our network. */
  start(name: string, options: readonly string[], ...command: string[]): void {
    const usual = ['--detach', '--ulimit', 'host', '--network', 'tortie', '--name', name];
    this.run('run', ...usual, ...options, 'tiny', ...command);
  }

  /** An image of busybox and nothing else. */
  importImage(): void {
    const root = join(this.#folder, 'image');
    mkdirSync(join(root, 'bin'), { recursive: true });
    copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
    for (const name of APPLETS) symlinkSync('busybox', join(root, 'bin', name));
    mkdirSync(join(root, 'www'));
    writeFileSync(join(root, 'www/index.html'), 'hello from a container\n');
    const archive = join(this.#folder, 'image.tar');
    execFileSync('tar', ['-C', root, '-cf', archive, '.']);
    this.run('import', archive, 'tiny');
  }

  inspect(name: string): { ip: string; mac: string } {
    const [found] = JSON.parse(this.run('inspect', name));
    const { IPAddress: ip, MacAddress: mac } = found.NetworkSettings.Networks.tortie;
    return { ip, mac };
  }
}

/** Why podman cannot run here, or null. */
function noPodman(): string | null {
  if (noLab) return noLab;
  for (const program of ['podman', 'runc']) {
    if (spawnSync(program, ['--version']).error) return `no ${program} here`;
  }
  return existsSync(BUSYBOX) ? null : 'no busybox-static here';
}

const skipped = noPodman();
if (skipped && skipped !== noLab) console.log(`skipped: ${skipped}`);

describe.skipIf(skipped)('podman over CNI networks', () => {
  let node: CniNode;
  let podman: Podman;
  let impossible: string | null = null;

  beforeAll(async () => {
    node = await CniNode.create();
    podman = new Podman(node);
    podman.importImage();
    try {
      podman.run('run', '--rm', '--ulimit', 'host', '--network', 'none', 'tiny', '/bin/ip', 'link');
    } catch (error) {
      // A sandbox may allow neither cgroups nor mounts: nothing of ours.
      impossible = `podman runs no container here: ${(error as Error).message.trim().split('\n').at(-1)}`;
      console.log(`skipped: ${impossible}`);
    }
  });
  afterAll(async () => {
    // What a failed test left running holds mounts in the lab's folder.
    if (!impossible) podman?.run('rm', '--force', '--all', '--time', '0');
    await node?.close();
  });

  it('lists the network that was installed', () => {
    expect(podman.run('network', 'ls')).toMatch(/^\w+ +tortie +\S*tortie-cni,portmap\s*$|tortie/m);
  });

  it('runs containers that reach each other and the node, and takes them away', async ({ skip }) => {
    if (impossible) skip();
    podman.start('one', [], '/bin/sleep', '600');
    podman.start('two', ['--ip', '10.65.3.3', '--mac-address', '02:00:00:00:00:77'], '/bin/sleep', '600');
    expect(podman.inspect('two')).toEqual({ ip: '10.65.3.3', mac: '02:00:00:00:00:77' });
    const { ip } = podman.inspect('one');
    expect(podman.run('exec', 'two', 'ping', '-c', '1', ip)).toMatch(/ 0% packet loss/);
    expect(podman.run('exec', 'one', 'ping', '-c', '1', NODE_ADDRESS)).toMatch(/ 0% packet loss/);
    expect((await node.endpoints()).map(({ metadata }) => metadata.name).sort()).toEqual([
      'node1-k8s-one-eth0',
      'node1-k8s-two-eth0',
    ]);
    podman.run('restart', '--time', '0', 'one');
    expect(podman.run('exec', 'one', 'ping', '-c', '1', '10.65.3.3')).toMatch(/ 0% packet loss/);
    podman.run('rm', '--force', '--time', '0', 'one', 'two');
    expect(await node.endpoints()).toEqual([]);
    expect(await node.handles()).toEqual([]);
  });

  it('publishes a port to the outside and to the node itself', async ({ skip }) => {
    if (impossible) skip();
    podman.start('web', ['--publish', '8080:80'], '/bin/httpd', '-f', '-h', '/www');
    const fetched = (netns: string, host: string) =>
      until(`${netns} reads from ${host}`, () =>
        node.lab.run(netns, 'curl', ['-sS', '-m', '2', `http://${host}:8080/index.html`]).catch(() => null),
      );
    expect(await fetched('outside', NODE_ADDRESS)).toBe('hello from a container\n');
    expect(await fetched(NODE, NODE_ADDRESS)).toBe('hello from a container\n');
    expect(await fetched(NODE, '127.0.0.1')).toBe('hello from a container\n');
    // From another container of the node, and from itself.
    const url = `http://${NODE_ADDRESS}:8080/index.html`;
    podman.start('client', [], '/bin/sleep', '600');
    for (const name of ['client', 'web']) {
      expect(podman.run('exec', name, 'wget', '-q', '-O', '-', url)).toBe('hello from a container\n');
    }
    podman.run('rm', '--force', '--time', '0', 'web', 'client');
  });
});
