/**
 * The namespaces of pods as the agent reaches them. A runtime names one by a path, and hands over a descriptor: where the path leads to
 * the same namespace for us, it is enough; where it does not (another mount namespace, /proc of another process), the descriptor is
 * kept, by the agent and by whoever keeps descriptors while no agent runs.
 */
import { fstatSync, openSync, statSync } from 'node:fs';
import { native as loadNative } from '../../dataplane/native/index.ts';
import type { DescriptorStore } from '../agent/store.ts';
import { netnsInode } from '../kernel/scan.ts';
import type { Resource } from '../resources/schema.ts';
import { CniError, CODE } from './error.ts';

export interface PodNamespace {
  /** A path by which the agent, and what it starts, reaches it. */
  readonly path: string;
  readonly inode: number;
}

/** Of a descriptor of ours, for our children as well. */
const pathOf = (fd: number): string => `/proc/${process.pid}/fd/${fd}`;

/** What a request's descriptor is. Throws a CniError: none came, or it is no network namespace, or our own. */
export function identify(netns: string, fd: number | null, reason: string | undefined): PodNamespace {
  if (fd === null) {
    throw new CniError(
      CODE.unknownContainer,
      `CNI_NETNS ${netns}: ${reason ?? 'the namespace could not be opened'}`,
      'the container’s namespace is gone, or the path leads nowhere',
    );
  }
  const own = statSync('/proc/self/ns/net');
  const { dev, ino } = fstatSync(fd);
  if (dev !== own.dev) throw new CniError(CODE.environment, `CNI_NETNS ${netns} is no network namespace`);
  if (ino === own.ino) {
    throw new CniError(CODE.environment, `CNI_NETNS ${netns} is the node’s own network namespace`);
  }
  return { path: pathOf(fd), inode: ino };
}

/** Under which name the descriptor of a port's namespace is kept. */
const keptAs = (port: string): string => `netns ${port}`;
const KEY = 'netns';

export class PodNamespaces {
  readonly #node: string;
  readonly #store: () => Pick<DescriptorStore, 'keep' | 'claim' | 'forget'>;
  /** By port. */
  readonly #held = new Map<string, number>();

  constructor(node: string, store: () => Pick<DescriptorStore, 'keep' | 'claim' | 'forget'>) {
    this.#node = node;
    this.#store = store;
  }

  /** The agent is to find the namespace of a port by its path, or by a descriptor that is kept. */
  hold(port: string, netns: string, { path, inode }: PodNamespace): void {
    this.release(port);
    if (netnsInode(netns) === inode) return;
    const fd = openSync(path, 'r');
    loadNative().adopt(fd);
    this.#held.set(port, fd);
    this.#store().keep(keptAs(port), KEY, [fd]);
  }

  release(port: string): void {
    const fd = this.#held.get(port);
    if (fd === undefined) return;
    this.#held.delete(port);
    this.#store().forget(keptAs(port));
    loadNative().close(fd);
  }

  /** Resources with the paths that lead to their namespaces here. */
  overlay(resources: readonly Resource[]): Resource[] {
    return resources.map((resource) => {
      if (resource.kind !== 'WorkloadEndpoint' || resource.spec.node !== this.#node) return resource;
      const { interfaceName } = resource.spec;
      const fd = this.#held.get(interfaceName) ?? this.#claim(interfaceName);
      return fd === undefined ? resource : { ...resource, spec: { ...resource.spec, netns: pathOf(fd) } };
    });
  }

  /** What the agent before held for a port. */
  #claim(port: string): number | undefined {
    const [fd] = this.#store().claim(keptAs(port), (key) => key === KEY)?.fds ?? [];
    if (fd !== undefined) this.#held.set(port, fd);
    return fd;
  }
}
