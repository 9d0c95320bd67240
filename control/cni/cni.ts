/** CNI in the agent: its socket, and what answers on it. */
import type { Logger } from 'pino';
import type { NodeAgent } from '../agent/node.ts';
import type { OpenStore } from '../datastore/open.ts';
import type { PodNamespaces } from './namespaces.ts';
import { OwnAddresses } from './own-addresses.ts';
import { cniHandler } from './plugin.ts';
import { AgentPorts } from './ports.ts';
import { type CniServer, serveCni } from './server.ts';

/** Serve container runtimes at `path`. */
export function startCni(
  path: string,
  agent: NodeAgent,
  store: OpenStore,
  namespaces: PodNamespaces,
  log: Logger,
): CniServer {
  const handler = cniHandler({
    nodeName: agent.config.nodeName,
    store: store.resources,
    ports: new AgentPorts(agent),
    namespaces,
    ipam: store.keys && new OwnAddresses(agent.config.nodeName, store.resources, store.keys),
    known: () => agent.resources,
    claims: new Map(),
    unready: () => null,
    log,
  });
  return serveCni(path, handler, (error) => log.error({ err: error }, 'CNI socket'));
}
