/**
 * The BFD process: sessions with a clock of their own, which nothing that the agent does can hold up. It is told by the agent
 * what sessions there are to be, over a Unix socket, and outlives it: an agent that comes back within two minutes finds its
 * sessions as they were. Ends by `stop` or SIGTERM, or when no agent comes back, and takes leave of the peers first.
 *
 * Usage: node process.js SOCKET
 */
import { chmodSync, rmSync, statSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { constants, getPriority, setPriority } from 'node:os';
import { Engine } from './engine.ts';
import { type FromProcess, Lines, line, PROTOCOL, type ToProcess } from './protocol.ts';

/** How long peers keep the routes of an agent that restarts, unless it says otherwise (RFC 4724). */
const ABANDONED_MS = 120_000;
const REPORT_MS = 2000;
/** Bytes that may wait for an agent that does not read: changes of state, and one report. */
const MAX_WAITING = 16 * 1024 * 1024;

function serve(path: string): void {
  let agent: Socket | null = null;
  const tell = (message: FromProcess): void => {
    agent?.write(line(message));
    // One that has not read for so long finds all as it is when it comes back.
    if (agent && agent.writableLength > MAX_WAITING) agent.destroy();
  };
  const engine = new Engine((session) => tell({ op: 'changed', session }));
  const report = (): void => {
    if (!agent || agent.writableLength > 0) return;
    const { discards, refused } = engine;
    const statistics = { discards, refused, priority: getPriority() };
    tell({ op: 'report', sessions: engine.reports(), statistics });
  };

  let leaving = false;
  let inode = 0;
  const leave = (): void => {
    if (leaving) return;
    leaving = true;
    engine.leave().then(() => {
      // Unless an agent has found us before: then there is more to do.
      if (!leaving) return;
      // Nobody is to find the socket of a process that ends; another's may be in its place by now.
      if (statSync(path, { throwIfNoEntry: false })?.ino === inode) rmSync(path, { force: true });
      process.exit(0);
    });
  };
  let abandoned = setTimeout(leave, ABANDONED_MS);

  const obey = (message: ToProcess): void => {
    if (message.op === 'stop') return leave();
    leaving = false;
    engine.configure(message.sessions);
    report();
  };

  const server = createServer((socket) => {
    // One agent at a time: the newest.
    agent?.destroy();
    agent = socket;
    clearTimeout(abandoned);
    const lines = new Lines<ToProcess>();
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      try {
        for (const message of lines.push(text)) obey(message);
      } catch (error) {
        tell({ op: 'fatal', text: (error as Error).message });
        socket.destroy();
      }
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      if (agent !== socket) return;
      agent = null;
      clearTimeout(abandoned);
      abandoned = setTimeout(leave, ABANDONED_MS);
    });
    const netns = statSync('/proc/self/ns/net').ino;
    tell({ op: 'hello', protocol: PROTOCOL, netns, pid: process.pid });
    report();
  });
  setInterval(report, REPORT_MS);

  process.on('SIGTERM', leave);
  process.on('SIGINT', leave);
  process.on('uncaughtException', (error) => {
    tell({ op: 'fatal', text: error.stack ?? error.message });
    setImmediate(() => process.exit(1));
  });

  rmSync(path, { force: true });
  // Whoever may write to it can take BGP sessions down: for our own user alone, from the first moment on.
  process.umask(0o177);
  server.listen(path, () => {
    chmodSync(path, 0o600);
    inode = statSync(path).ino;
  });
}

try {
  setPriority(constants.priority.PRIORITY_HIGHEST);
} catch {
  // Not allowed (RLIMIT_NICE, CAP_SYS_NICE): the report says what it is.
}
serve(process.argv[2] ?? '');
