#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { EX_IOERR } from '../error.ts';
import type { Io } from './io.ts';
import { run } from './program.ts';

const interrupt = new AbortController();

const io: Io = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  env: process.env,
  runFolder: '/run/tortie',
  configFile: '/etc/tortie/agent.yaml',
  input: () => readFileSync(0, 'utf8'),
  now: () => new Date(),
  interrupted: interrupt.signal,
  actions: {
    runAgent: async (file) => (await import('../agent.ts')).runAgent(file),
    runReplay: async (options) => (await import('../replay.ts')).runReplay(options),
    traceReplay: async (options) => (await import('../trace-replay.ts')).traceReplay(options),
    purge: async (options) => (await import('../purge.ts')).purge(options),
    installCni: async (options) => (await import('../cni/install.ts')).installCni(options),
    checkSystem: async () => (await import('../node/check-system.ts')).checkSystem(),
    loadMrt: async (file, asn) => (await import('../load-mrt.ts')).loadMrt(file, asn),
    collectDiags: async (sources, output) => (await import('../node/diags.ts')).collectDiags(sources, output),
  },
  exitCode: 0,
};

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `tortie show routes | head` is no error.
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`tortie: what was asked for cannot be written: ${error.message} (OUTPUT)\n`);
  process.exit(EX_IOERR);
});

const [verb, ...more] = process.argv.slice(2);
/** What goes on for ever, and what has a file to remove. */
const GENTLE = ['monitor', 'dump'];
// Only these are ended gently; the agent has handlers of its own.
if (verb === 'trace' || (verb === 'bgp' && GENTLE.includes(more[0] ?? ''))) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => interrupt.abort());
}

process.exitCode = await run(process.argv.slice(2), io);
