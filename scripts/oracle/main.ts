/** Ask the kernel about thousands of frames: see scripts/test-oracle. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { ROOT } from '../lab/cluster.ts';
import { type Comparison, differences } from './compare.ts';
import { type Case, corpus } from './corpus.ts';
import { document, LISTED, type Listed } from './differences.ts';
import { PORTS, type PortName } from './frames.ts';
import { kernelFault } from './kernel.ts';
import { mutations } from './mutate.ts';
import { describe, Oracle } from './oracle.ts';

const EX_USAGE = 64;
const EX_UNAVAILABLE = 69;
const MOST_SHOWN = 20;
/** Cases that are asked of one router. */
const BATCH = 10_000;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '5000' },
    seed: { type: 'string', default: '1' },
    case: { type: 'string' },
    mutation: { type: 'string' },
    frame: { type: 'string', multiple: true },
    update: { type: 'boolean', default: false },
  },
});

function usage(why: string): never {
  console.error(`oracle: ${why}; see scripts/test-oracle --help`);
  process.exit(EX_USAGE);
}

/** PORT:HEX */
function frameOf(text: string): readonly [PortName, Uint8Array] {
  const [port, hex] = text.split(':');
  const name = PORTS.find((known) => known === port);
  if (!name || !/^([0-9a-f]{2}){14,}$/i.test(hex ?? '')) {
    usage(`--frame ${text}: PORT:HEX is wanted, PORT one of ${PORTS.join(', ')}`);
  }
  return [name, Buffer.from(hex!, 'hex')];
}

function show(comparison: Comparison): void {
  const { input, kernel, tortie, drops } = comparison;
  const text = (fields: object) => JSON.stringify(fields, null, 1).replaceAll('\n', '\n    ');
  console.log(`${comparison.case.name}\n  in, ${input.port}: ${text(input.fields)}`);
  for (const [who, left] of [
    ['kernel', kernel],
    ['tortie', tortie],
  ] as const) {
    console.log(`  ${who}:${left.length === 0 ? ' silence' : ''}`);
    for (const { port, fields } of left) console.log(`   ${port}: ${text(fields)}`);
  }
  if (drops.length > 0) console.log(`  tortie dropped: ${drops.join(', ')}`);
  for (const difference of differences(comparison)) {
    const rows = LISTED.filter((row) => row.claims(difference)).map(({ title }) => title);
    console.log(`  differs in ${difference.field}: ${rows.join('; ') || 'not listed'}`);
  }
}

function whole(name: 'count' | 'seed' | 'mutation'): number {
  const number = Number(values[name]);
  if (!Number.isSafeInteger(number) || number < 0)
    usage(`--${name} ${values[name]}: a whole number is wanted`);
  return number;
}

/** The cases that are only to be shown, if some are. */
function chosen(seed: number): Case[] | null {
  if (values.frame) return [{ name: 'as given', frames: values.frame.map(frameOf), again: '' }];
  if (values.mutation !== undefined) return mutations(corpus(), whole('mutation') + 1, seed).slice(-1);
  const text = values.case;
  if (text === undefined) return null;
  const cases = corpus().filter(({ name }) => name.includes(text));
  if (cases.length === 0) usage(`--case ${text}: no case has that in its name`);
  return cases;
}

async function run(oracle: Oracle): Promise<number> {
  const count = whole('count');
  const seed = whole('seed');
  const wanted = chosen(seed);
  if (wanted) {
    for (const comparison of await oracle.ask(wanted)) show(comparison);
    return 0;
  }
  const byHand = await oracle.judge(corpus());
  const unlisted = [...byHand.unlisted];
  let found = byHand.differences;
  const mutants = mutations(corpus(), count, seed);
  for (let first = 0; first < count; first += BATCH) {
    if (first > 0) await oracle.renew();
    const verdict = await oracle.judge(mutants.slice(first, first + BATCH));
    unlisted.push(...verdict.unlisted);
    found += verdict.differences;
  }
  const idle: Listed[] = LISTED.filter((row) => !byHand.needed.has(row));
  for (const difference of unlisted.slice(0, MOST_SHOWN)) console.log(describe(difference));
  for (const { title } of idle) console.log(`docs/DIFFERENCES.md lists “${title}”, which did not occur`);
  console.log(
    `${byHand.cases} cases by hand and ${count} mutations of seed ${seed}: ${found} differences, ${unlisted.length} of them not listed; ${LISTED.length - idle.length} of ${LISTED.length} rows needed`,
  );
  return unlisted.length + idle.length === 0 ? 0 : 1;
}

if (values.update) writeFileSync(`${ROOT}/docs/DIFFERENCES.md`, document());
const fault = await kernelFault();
if (fault !== null) {
  console.error(`oracle: ${fault}`);
  process.exit(EX_UNAVAILABLE);
}
const oracle = await Oracle.create();
try {
  process.exitCode = await run(oracle);
} finally {
  await oracle.close();
}
