/** Which worker reads which input of which port: evenly, and with as few moves as that takes. Pure. */

/** Readers of a port's inputs, by worker; -1 while nobody reads. */
export type ReaderList = readonly number[];

/** How many inputs each worker reads. */
function loadsOf(ports: Iterable<ReaderList>, workers: number): number[] {
  const loads = new Array<number>(workers).fill(0);
  for (const readers of ports)
    for (const reader of readers) if (reader >= 0 && reader < workers) loads[reader]!++;
  return loads;
}

/**
 * Give each input without a reader the least busy worker, one that reads no other input of the port as far as
 * there are workers. `others`: what the workers read already.
 */
export function place(readers: ReaderList, others: Iterable<ReaderList>, workers: number): number[] {
  const loads = loadsOf(others, workers);
  const placed = readers.map((reader) => (reader < workers ? reader : -1));
  for (const reader of placed) if (reader >= 0) loads[reader]!++;
  for (const [index, reader] of placed.entries()) {
    if (reader >= 0) continue;
    const uses = (worker: number) => placed.filter((other) => other === worker).length;
    let best = 0;
    for (let worker = 1; worker < workers; worker++) {
      const order = uses(worker) - uses(best) || loads[worker]! - loads[best]!;
      if (order < 0) best = worker;
    }
    placed[index] = best;
    loads[best]!++;
  }
  return placed;
}

/**
 * The same ports with their inputs spread so that no worker reads two more than another. An input moves only if
 * it must, and never to a worker that reads one of its port already.
 */
export function balance(ports: readonly ReaderList[], workers: number): number[][] {
  const result = ports.map((readers) => [...readers]);
  const loads = loadsOf(result, workers);
  for (;;) {
    const most = loads.indexOf(Math.max(...loads));
    const least = loads.indexOf(Math.min(...loads));
    if (loads[most]! - loads[least]! < 2) return result;
    // There is one: a port with inputs at both counts for both, and the busier has two more.
    const port = result.find((readers) => readers.includes(most) && !readers.includes(least));
    if (!port) return result;
    port[port.indexOf(most)] = least;
    loads[most]!--;
    loads[least]!++;
  }
}
