/** The cells of one daemon as tests. */
import { afterAll, beforeAll, describe, it } from 'vitest';
import { noLab } from '../lab/in-lab.ts';
import { CELLS } from './cells.ts';
import { type Driver, missing, Place } from './driver.ts';
import { Link, Trial } from './trial.ts';

declare module 'vitest' {
  interface TaskMeta {
    /** Of the cell, for the table. */
    cell?: { id: string; title: string };
    /** The daemon and its version. */
    daemon?: string;
    /** Why it was not tried. */
    reason?: string;
  }
}

/** Run all cells, or the short form. `number` tells the daemon's addresses from others'. */
export function matrix(driver: Driver, number: number, { quick = false } = {}): void {
  const absent = noLab ?? missing(driver);
  if (absent) console.log(`skipped: ${absent}`);
  const cells = CELLS.filter((cell) => !quick || cell.quick);

  describe.skipIf(absent !== null)(`with ${driver.name}`, () => {
    let link: Link;
    let version = '';

    beforeAll(async () => {
      link = await Link.make(driver.name.toLowerCase(), number);
      driver.place = new Place(link.netns, '/');
      version = await driver.version();
    });
    afterAll(() => link?.remove());

    for (const { id, title, run } of cells) {
      it(title, async ({ task, skip }) => {
        task.meta.cell = { id, title };
        task.meta.daemon = `${driver.name} ${version}`;
        const reason = driver.cannot[id];
        if (reason) {
          task.meta.reason = reason;
          console.log(`skipped: ${driver.name}: ${title} (${reason})`);
          skip(reason);
        }
        const trial = new Trial(driver, link);
        try {
          await run(trial);
        } catch (error) {
          const note = driver.place.output.trim();
          if (note && process.env.TORTIE_INTEROP_VERBOSE) console.error(note);
          throw error;
        } finally {
          await trial.close();
        }
      });
    }
  });
}
