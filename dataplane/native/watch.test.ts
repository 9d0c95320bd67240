import { once } from 'node:events';
import { createRequire } from 'node:module';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { native as load } from './index.ts';

const native = load();
const ADDON = createRequire(import.meta.url).resolve('../../build/Release/tortie.node');

it('calls back on the event loop while there is input, until it is told to stop', async () => {
  const fd = native.eventfdCreate();
  let calls = 0;
  const called = new Promise<void>((resolve) => {
    const watch = native.fdWatch(fd, () => {
      // Input that is left where it is is told again.
      if (++calls < 3) return;
      native.fdUnwatch(watch);
      resolve();
    });
  });
  await turn();
  expect(calls).toBe(0);
  native.eventfdSignal(fd);
  await called;
  for (let i = 0; i < 5; i++) await turn();
  expect(calls).toBe(3);
  native.close(fd);
});

it('refuses what no loop can wait for, and what is no function', () => {
  expect(() => native.fdWatch(0x7fff, () => {})).toThrow(/descriptor 32767 cannot be watched/);
  const fd = native.eventfdCreate();
  expect(() => native.fdWatch(fd, 1 as never)).toThrow(/onReady must be a function/);
  expect(() => native.fdUnwatch({} as never)).toThrow(/what fdWatch gave/);
  native.close(fd);
});

it('ends with its thread, and what a callback throws is that thread’s error', async () => {
  const program = (body: string) =>
    new Worker(
      `const native = require(${JSON.stringify(ADDON)});
       const fd = native.eventfdCreate();
       native.eventfdSignal(fd);
       native.fdWatch(fd, () => { ${body} });`,
      { eval: true },
    );
  const [status] = await once(program('process.exit(7)'), 'exit');
  expect(status).toBe(7);
  const [error] = await once(program('throw new RangeError("mine")'), 'error');
  expect(error).toMatchObject({ name: 'RangeError', message: 'mine' });
});
