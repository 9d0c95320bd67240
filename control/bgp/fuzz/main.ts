/** Feed a speaker with messages that have mistakes in them, for as long as you like: see scripts/test-fuzz. */
import { parseArgs } from 'node:util';
import { Campaign, FuzzFailure, type Progress } from './campaign.ts';
import { recordedUpdates } from './corpus.ts';

const PROGRESS_MS = 5_000;
/** Recorded UPDATEs among which is chosen. */
const MOST_RECORDED = 20_000;
/** Heap is compared with what it was when so much was done: by then code is compiled, and tables have their size. */
const WARM = 0.2;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    replay: { type: 'string' },
    recorded: { type: 'string', default: '../shared/data/bgp-session-2015.mrt.gz' },
  },
});
const count = Number(values.count);
const seed = Number(values.seed);
if (!Number.isSafeInteger(count) || count < 1 || !Number.isInteger(seed)) {
  console.error(`fuzz: --count ${values.count} --seed ${values.seed}: whole numbers are wanted`);
  process.exit(64);
}
const recorded = recordedUpdates(values.recorded, MOST_RECORDED);
if (recorded.length === 0) console.log(`without recorded UPDATEs: ${values.recorded} is missing`);

/** MB, without what could be collected. */
function heap(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1e6;
}

const mb = (value: number) => `${value.toFixed(1)} MB`;

function line({ messages, sessions, prefixes, sets }: Progress): string {
  return `${messages} messages, ${sessions} sessions; ${prefixes} prefixes, ${sets} attribute sets; heap ${mb(heap())}`;
}

async function run(): Promise<void> {
  const campaign = new Campaign(seed, recorded);
  await campaign.start();
  if (values.replay !== undefined) {
    await campaign.replay(Uint8Array.from(Buffer.from(values.replay, 'hex')));
    report(campaign.progress);
    await campaign.end();
    return;
  }
  let warm: number | null = null;
  let said = performance.now();
  while (campaign.progress.messages < count) {
    await campaign.session();
    const { progress } = campaign;
    if (warm === null && progress.messages >= count * WARM) warm = heap();
    if (performance.now() - said < PROGRESS_MS) continue;
    said = performance.now();
    console.log(line(progress));
  }
  const grown = heap() - (warm ?? 0);
  report(campaign.progress);
  console.log(
    'longest turns of the event loop, in CPU time, and the shortest that the same message takes again:',
  );
  for (const { ms, first, number, form, bytes } of await campaign.slowestAgain()) {
    const what = `message ${number} of ${bytes.length} bytes from ${form.peer.address}`;
    console.log(`  ${first.toFixed(1)} ms, ${ms.toFixed(1)} ms: ${what}`);
    console.log(`    --replay ${Buffer.from(bytes).toString('hex')}`);
  }
  await campaign.end();
  const { prefixes, sets } = campaign.progress;
  console.log(`when the peers are gone: ${prefixes} prefixes, ${sets} attribute sets`);
  console.log(`heap grew by ${mb(grown)} in the last ${100 - WARM * 100} %; ${mb(heap())} now`);
}

function report(progress: Progress): void {
  console.log(line(progress));
  console.log('sessions ended by:');
  for (const [what, times] of [...progress.ended].sort((a, b) => b[1] - a[1]))
    console.log(`  ${times}  ${what}`);
}

run().catch((error: unknown) => {
  console.error(error instanceof FuzzFailure ? error.message : error);
  process.exit(1);
});
