/**
 * One agent a network namespace: each holds an abstract Unix socket there while it lives. The kernel frees it
 * with the process, also after kill -9, and no file is left behind.
 */
import { createServer, type Server } from 'node:net';
import { EX_UNAVAILABLE, TortieError } from '../error.ts';
import { findAgents, LOCK_PREFIX, listNamespaces, locksSeenBy } from './scan.ts';

/** Throws AGENT_RUNNING if another agent lives in this namespace. */
export async function lockNamespace(nodeName: string): Promise<Server> {
  const [other] = locksSeenBy(process.pid);
  if (other) throw running(other.node);
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`\0${LOCK_PREFIX}${nodeName}`, resolve);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') throw running(nodeName);
    throw error;
  }
  return server.unref();
}

function running(node: string): TortieError {
  const pid = findAgents(listNamespaces()).find((agent) => agent.node === node)?.pid;
  const who = pid === undefined ? '' : ` (pid ${pid})`;
  const advice = pid === undefined ? 'stop it first' : `stop it first: kill ${pid}`;
  return new TortieError(
    'AGENT_RUNNING',
    `an agent of node ${node}${who} already runs in this network namespace; ${advice}`,
    EX_UNAVAILABLE,
  );
}
