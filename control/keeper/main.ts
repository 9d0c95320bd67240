/**
 * The keeper: a process that holds the agent's descriptors, so that devices keep their queues and sockets their
 * buffers while no agent runs. It reads nothing and decides nothing. Started by the agent, in the node's network
 * namespace, where it lives under an abstract address (client.ts); ends by SIGTERM, or when no agent has come for an hour.
 *
 * Usage: node main.js NODE
 */
import { native as load } from '../../dataplane/native/index.ts';
import { decode, encode, keeperAddress, MAX_MESSAGE, OP } from './protocol.ts';

/** Most descriptors kept: as many as ports, queues and sockets can come to. */
const MAX_KEPT = 4096;
const ABANDONED_MS = 3_600_000;

function serve(node: string): void {
  const native = load();
  const listener = native.unixListen(keeperAddress(node));
  const epoll = native.epollCreate();
  const kept = new Map<string, number>();
  const agents = new Set<number>();
  const ready = new Int32Array(16);
  const buffer = new Uint8Array(MAX_MESSAGE);
  const none = new Int32Array(0);

  const release = (name: string) => {
    const fd = kept.get(name);
    if (fd === undefined) return;
    kept.delete(name);
    native.close(fd);
  };

  /** Carry out one message: its answer, and the descriptor that goes with it. */
  const answer = (op: string, text: string, fds: readonly number[]): [Uint8Array, Int32Array] => {
    const [fd] = fds;
    switch (op) {
      case OP.keep:
        if (fd === undefined || (kept.size >= MAX_KEPT && !kept.has(text))) {
          for (const extra of fds) native.close(extra);
          return [encode(OP.refused, `${MAX_KEPT} descriptors are kept at most`), none];
        }
        release(text);
        kept.set(text, fd);
        return [encode(OP.done), none];
      case OP.forget:
        release(text);
        return [encode(OP.done), none];
      case OP.get: {
        const entry = [...kept][Number(text)];
        return entry ? [encode(OP.descriptor, entry[0]), Int32Array.of(entry[1])] : [encode(OP.end), none];
      }
      default:
        return [encode(OP.refused, `unknown operation ${op}`), none];
    }
  };

  const hear = (agent: number) => {
    try {
      const message = native.receiveFds(agent, buffer);
      if (!message) return;
      if (message.bytes > 0) {
        const { op, text } = decode(buffer.subarray(0, message.bytes));
        const [reply, fds] = answer(op, text, message.fds);
        native.sendFds(agent, fds, reply);
        return;
      }
    } catch {
      // Whoever cannot be heard or answered is let go; what it gave stays.
    }
    agents.delete(agent);
    native.close(agent);
  };

  native.epollAdd(epoll, listener, listener);
  let leftAt = performance.now();
  while (agents.size > 0 || performance.now() - leftAt < ABANDONED_MS) {
    const count = native.epollWait(epoll, ready, agents.size > 0 ? -1 : ABANDONED_MS);
    for (const tag of ready.subarray(0, count)) {
      if (tag !== listener) {
        hear(tag);
        if (agents.size === 0) leftAt = performance.now();
        continue;
      }
      const peer = native.unixAccept(listener);
      if (!peer) continue;
      // An abstract address has no owner: only our own user may have what is kept.
      if (peer.uid !== process.getuid?.()) native.close(peer.fd);
      else {
        agents.add(peer.fd);
        native.epollAdd(epoll, peer.fd, peer.fd);
      }
    }
  }
}

serve(process.argv[2] ?? '');
