/**
 * What a store of this machine promises when a writer is cut off, for tests: processes write as fast as they can and end by
 * SIGKILL at a random moment, while another one, this, writes too, and watches.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { until } from '../bgp/until.ts';
import type { EmbeddedStore } from './embedded.ts';
import type { KeyEvent } from './kv.ts';

const BUILT = new URL('../../dist/control/datastore/embedded.js', import.meta.url).href;
/** A writer lives for so long after its first word, at most; ms. */
const LIFE_MS = 60;

/** Writes to keys of its own, several at a time, and says on standard output what was acknowledged: "KEY NUMBER". */
const WRITER = `
const { EmbeddedStore } = await import(${JSON.stringify(BUILT)});
const { createHash } = await import('node:crypto');
const { writeSync } = await import('node:fs');
const store = new EmbeddedStore(process.argv[1]);
const work = async (key) => {
  const found = await store.get(key);
  let { n } = found ? JSON.parse(found.value) : { n: 0 };
  let revision = found?.revision ?? null;
  for (;;) {
    n += 1;
    const body = 'x'.repeat(Math.floor(Math.random() * 6000));
    const hash = createHash('sha1').update(n + body).digest('hex');
    ({ revision } = await store.put(key, JSON.stringify({ n, body, hash }), { revision }));
    writeSync(1, key + ' ' + n + '\\n');
  }
};
await Promise.all([0, 1, 2, 3].map((i) => work('/cut/' + i)));
`;

export interface CutReport {
  readonly rounds: number;
  readonly acknowledged: number;
  readonly revisions: number;
}

/** Throws an Error that says what was lost or torn. `open` opens the store in `folder` anew. */
export async function cutPower(
  folder: string,
  rounds: number,
  open: () => EmbeddedStore,
): Promise<CutReport> {
  const watcher = open();
  const told = new Told();
  watcher.watch('/', 1, told);
  const acknowledged = new Map<string, number>();
  let count = 0;
  for (let round = 0; round < rounds; round++) {
    const writer = new Writer(folder);
    await writer.starts();
    const end = performance.now() + Math.random() * LIFE_MS;
    while (performance.now() < end) await watcher.put('/here', String(round));
    await writer.kill();
    for (const [key, n] of writer.acknowledged()) {
      count++;
      acknowledged.set(key, Math.max(n, acknowledged.get(key) ?? 0));
    }
    const after = open();
    const { entries, revision } = await after.list('/cut/');
    for (const { key, value } of entries) {
      const { n, body, hash } = JSON.parse(value) as { n: number; body: string; hash: string };
      const right = createHash('sha1')
        .update(n + body)
        .digest('hex');
      if (hash !== right) throw new Error(`round ${round}: ${key} is torn`);
      const least = acknowledged.get(key) ?? 0;
      if (n < least) throw new Error(`round ${round}: ${key} is ${n}; ${least} was acknowledged`);
      // One that was written, but not acknowledged any more.
      if (n > least + 1) throw new Error(`round ${round}: ${key} is ${n}; only ${least} was acknowledged`);
      acknowledged.set(key, n);
    }
    if (entries.length < acknowledged.size) throw new Error(`round ${round}: keys are lost`);
    await after.close();
    await until('the watch has seen all', () => told.revision === revision);
    for (const { key, value } of entries) {
      if (told.values.get(key) !== value) throw new Error(`round ${round}: ${key} was told otherwise`);
    }
  }
  await watcher.close();
  if (told.wrong) throw new Error(told.wrong);
  return { rounds, acknowledged: count, revisions: told.revision };
}

class Writer {
  readonly #child: ChildProcess;
  #output = '';

  constructor(folder: string) {
    const args = ['--input-type=module', '-e', WRITER, folder];
    this.#child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child.stdout!.on('data', (data: Buffer) => {
      this.#output += data.toString();
    });
  }

  starts(): Promise<boolean> {
    return until('a writer writes', () => {
      if (this.#child.exitCode !== null) throw new Error('the writer ended by itself');
      return this.#output.length > 0;
    });
  }

  async kill(): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }

  acknowledged(): [key: string, n: number][] {
    const lines = this.#output.slice(0, this.#output.lastIndexOf('\n')).split('\n');
    return lines.map((line) => [line.split(' ')[0]!, Number(line.split(' ')[1])]);
  }
}

/** What a watch told: each revision once, none left out. */
class Told {
  readonly values = new Map<string, string>();
  revision = 0;
  wrong: string | null = null;

  readonly onEvents = (events: readonly KeyEvent[]): void => {
    for (const { key, entry, revision } of events) {
      if (revision !== this.revision + 1) this.wrong ??= `revision ${revision} told after ${this.revision}`;
      this.revision = revision;
      if (entry) this.values.set(key, entry.value);
    }
  };

  readonly onEnd = (error: Error): void => {
    this.wrong ??= error.message;
  };
}
