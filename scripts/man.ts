/** Write the manual pages into a folder: `node dist/scripts/man.js FOLDER`. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Io } from '../control/cli/io.ts';
import { manPages } from '../control/cli/man.ts';
import { buildProgram } from '../control/cli/program.ts';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: man.js FOLDER');
// https://reproducible-builds.org/specs/source-date-epoch/
const epoch = process.env.SOURCE_DATE_EPOCH;
const date = (epoch ? new Date(Number(epoch) * 1000) : new Date()).toISOString().slice(0, 10);

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
// Only its words are asked for: no verb is run.
const io = { out() {}, err() {} } as unknown as Io;
for (const [name, text] of manPages(buildProgram(io), date)) writeFileSync(join(folder, name), text);
