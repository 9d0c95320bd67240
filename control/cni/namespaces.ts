/**
 * The namespaces of pods as the agent reaches them. A runtime names one by a path, and hands over a descriptor: where the path leads to
 * the same namespace for us, it is enough; where it does not (another mount namespace, /proc of another process), the descriptor is kept.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
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

export class PodNamespaces {
  /** By port. */
  readonly #held = new Map<string, number>();

  /** The agent is to find the namespace of a port by its path, or by a descriptor that is kept. */
  hold(port: string, netns: string, { path, inode }: PodNamespace): void {
    this.release(port);
    if (netnsInode(netns) !== inode) this.#held.set(port, openSync(path, 'r'));
  }

  release(port: string): void {
    const fd = this.#held.get(port);
    if (fd === undefined) return;
    this.#held.delete(port);
    closeSync(fd);
  }

  /** Resources with the paths that lead to their namespaces here. */
  overlay(resources: readonly Resource[]): Resource[] {
    return resources.map((resource) => {
      if (resource.kind !== 'WorkloadEndpoint') return resource;
      const fd = this.#held.get(resource.spec.interfaceName);
      return fd === undefined ? resource : { ...resource, spec: { ...resource.spec, netns: pathOf(fd) } };
    });
  }

  close(): void {
    for (const port of [...this.#held.keys()]) this.release(port);
  }
}
