/** `tortie ipam`: addresses, blocks and handles, with calicoctl's tables and words. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { z } from 'zod';
import { tryAddress4, tryAddress6 } from '../address.ts';
import { IPAM_CONFIG_NAME } from '../datastore/keys.ts';
import type { KeyValueStore } from '../datastore/kv.ts';
import type { OpenStore } from '../datastore/open.ts';
import { EX_USAGE, TortieError } from '../error.ts';
import type { Allocation, CheckReport } from '../ipam/check.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { API_VERSION, type IPAMConfig, type IPPool, SCHEMAS } from '../resources/schema.ts';
import { type Io, printJson } from './io.ts';
import { type StoreOptions, usesStore, withStore } from './resources/store.ts';
import { box } from './table.ts';

interface Options extends StoreOptions {
  readonly json?: boolean;
  readonly dryRun?: boolean;
}

/** What a verb works with. */
interface Work {
  readonly store: OpenStore & { readonly keys: KeyValueStore };
  readonly ipam: Ipam;
}

export function addIpam(program: Command, io: Io): void {
  const ipam = program.command('ipam').description('addresses, and the blocks that nodes took');
  addShow(ipam, io);
  addCheck(ipam, io);
  addRelease(ipam, io);
  addConfigure(ipam, io);
}

async function withIpam<T>(io: Io, options: StoreOptions, work: (work: Work) => Promise<T>): Promise<T> {
  const { openIpam } = await import('../ipam/open.ts');
  return withStore(io, options, async (store) => {
    const ipam = openIpam(store);
    return work({ store: { ...store, keys: store.keys! }, ipam });
  });
}

const json = (command: Command): Command => usesStore(command).option('--json', 'print JSON');

// ---- show ------------------------------------------------------------------------------------------

interface ShowOptions extends Options {
  readonly ip?: string;
  readonly showBlocks?: boolean;
  readonly showBorrowed?: boolean;
  readonly showConfiguration?: boolean;
}

function addShow(ipam: Command, io: Io): void {
  json(ipam.command('show'))
    .description('how full pools and blocks are, who has an address, or how addresses are handed out')
    .option('--ip <address>', 'who has this address')
    .option('--show-blocks', 'blocks, too')
    .option('--show-borrowed', 'addresses that nodes use of blocks of others')
    .option('--show-configuration', 'how addresses are handed out')
    .addHelpText('after', '\nExamples:\n  tortie ipam show --show-blocks\n  tortie ipam show --ip 10.65.0.2')
    .action((options: ShowOptions) =>
      withIpam(io, options, async (work) => {
        if (options.ip !== undefined) return showAddress(io, work, options.ip, options.json);
        if (options.showConfiguration) return showConfiguration(io, work, options.json);
        if (options.showBorrowed) return showBorrowed(io, work, options.json);
        return showUse(io, work, options);
      }),
    );
}

interface Use {
  readonly grouping: 'IP Pool' | 'Block';
  readonly cidr: string;
  readonly total: number;
  readonly inUse: number;
}

async function showUse(io: Io, { store, ipam }: Work, options: ShowOptions): Promise<void> {
  const { usedOrdinals } = await import('../ipam/block.ts');
  const { contains, rangeOf, sizeOf } = await import('../ipam/cidr.ts');
  const pools = (await store.resources.list('IPPool')).map(({ resource }) => resource as IPPool);
  const blocks = await ipam.blocks();
  const uses = pools.flatMap(({ spec }): Use[] => {
    const range = rangeOf(spec.cidr);
    const inPool = blocks
      .filter(({ cidr }) => contains(range, rangeOf(cidr)))
      .map(
        (block): Use => ({
          grouping: 'Block',
          cidr: block.cidr,
          total: block.allocations.length,
          inUse: usedOrdinals(block).length,
        }),
      );
    const inUse = inPool.reduce((sum, use) => sum + use.inUse, 0);
    const pool: Use = { grouping: 'IP Pool', cidr: spec.cidr, total: Number(sizeOf(range)), inUse };
    return options.showBlocks ? [pool, ...inPool] : [pool];
  });
  if (options.json) return printJson(io, uses);
  const rows = uses.map(({ grouping, cidr, total, inUse }) => {
    const count = (value: number) => (value > 1e9 ? value.toPrecision(5) : String(value));
    const share = (value: number) => `${count(value)} (${Math.round((100 * value) / total)}%)`;
    return [grouping, cidr, count(total), share(inUse), share(total - inUse)];
  });
  io.out(box(['GROUPING', 'CIDR', 'IPS TOTAL', 'IPS IN USE', 'IPS FREE'], rows));
}

async function showAddress(io: Io, work: Work, address: string, asJson = false): Promise<void> {
  checkAddress(address);
  const { allocations } = await reportOf(work);
  const found = allocations.find((allocation) => allocation.address === address) ?? null;
  if (asJson) return printJson(io, found);
  if (!found) {
    io.out(`${address} is not assigned\n`);
    return;
  }
  io.out(`IP ${address} is in use\nAttributes:\n`);
  const attributes = { ...found.attributes, handle: found.handle ?? 'none', block: found.block };
  for (const [name, value] of Object.entries(attributes)) io.out(`  ${name}: ${value}\n`);
}

async function showBorrowed(io: Io, work: Work, asJson = false): Promise<void> {
  const blocks = new Map((await work.ipam.blocks()).map(({ cidr, affinity }) => [cidr, affinity ?? 'none']));
  const { allocations } = await reportOf(work);
  const borrowed = allocations.flatMap(({ address, block, attributes, users }) => {
    const owner = blocks.get(block)!;
    if (attributes.node === undefined || owner === `host:${attributes.node}`) return [];
    const type = attributes.type ?? (attributes.pod === undefined ? 'unknown' : 'Pod');
    const to = users[0] ?? attributes.pod ?? '';
    return [{ address, node: attributes.node, block, owner: owner.replace('host:', ''), type, to }];
  });
  if (asJson) return printJson(io, borrowed);
  const header = ['IP', 'BORROWING-NODE', 'BLOCK', 'BLOCK OWNER', 'TYPE', 'ALLOCATED-TO'];
  io.out(
    box(
      header,
      borrowed.map(({ address, node, block, owner, type, to }) => [address, node, block, owner, type, to]),
    ),
  );
}

async function showConfiguration(io: Io, { ipam }: Work, asJson = false): Promise<void> {
  const config = await ipam.config();
  if (asJson) return printJson(io, config);
  const rows = [
    ['StrictAffinity', String(config.strictAffinity)],
    ['AutoAllocateBlocks', String(config.autoAllocateBlocks)],
    ['MaxBlocksPerHost', String(config.maxBlocksPerHost)],
  ];
  io.out(box(['PROPERTY', 'VALUE'], rows));
}

// ---- check -----------------------------------------------------------------------------------------

interface CheckOptions extends Options {
  readonly showAllIps?: boolean;
  readonly showProblemIps?: boolean;
  readonly output?: string;
}

function addCheck(ipam: Command, io: Io): void {
  json(ipam.command('check'))
    .description('whether addresses, handles and blocks agree with pods and nodes')
    .option('--show-all-ips', 'every address that is allocated or used')
    .option('--show-problem-ips', 'addresses that are leaked, or used and not allocated')
    .option('-o, --output <file>', 'write a report, for "tortie ipam release --from-report"')
    .addHelpText('after', '\nExample:\n  tortie ipam check --show-problem-ips -o report.json')
    .action((options: CheckOptions) =>
      withIpam(io, options, async (work) => {
        const report = await reportOf(work);
        if (options.output !== undefined) {
          const written = { version: 1, generatedAt: io.now().toISOString(), ...report };
          writeFileSync(options.output, `${JSON.stringify(written, null, 1)}\n`);
        }
        if (options.json) return printJson(io, report);
        io.out(await checkText(work, report, options));
      }),
    );
}

async function reportOf({ store, ipam }: Work): Promise<CheckReport> {
  const [{ check }, { listHandles }, { allAffinities }] = await Promise.all([
    import('../ipam/check.ts'),
    import('../ipam/handles.ts'),
    import('../ipam/affinity.ts'),
  ]);
  return check({
    blocks: await ipam.blocks(),
    handles: await listHandles(store.keys),
    claims: await allAffinities(store.keys),
    resources: (await store.resources.list()).map(({ resource }) => resource),
  });
}

async function checkText({ ipam }: Work, report: CheckReport, options: CheckOptions): Promise<string> {
  const blocks = await ipam.blocks();
  const { allocations, leaked, outsidePools, notAllocated, shared } = report;
  const shows = options.showAllIps || options.showProblemIps;
  const told = (lines: readonly string[]) => (shows ? lines.map((line) => `  ${line}`) : []);
  const describe = ({ address, handle, attributes, users }: Allocation) =>
    `${address} handle ${handle ?? 'none'}; ${users.join(', ') || attributes.pod || attributes.type || 'nobody'}`;
  const all = allocations.map(describe);
  return [
    'Checking IPAM for inconsistencies...',
    '',
    'Loading all IPAM blocks...',
    `Found ${blocks.length} IPAM blocks.`,
    ...blocks.map(({ cidr, affinity }) => ` IPAM block ${cidr} affinity=${affinity ?? 'none'}:`),
    `IPAM blocks record ${allocations.length} allocations.`,
    ...(options.showAllIps ? all.map((line) => `  ${line}`) : []),
    '',
    'Loading all IPAM pools...',
    ...report.pools.map((cidr) => `  ${cidr}`),
    `Found ${report.pools.length} active IP pools.`,
    '',
    'Loading all nodes.',
    `Found ${report.tunnelAddresses} node tunnel IPs.`,
    '',
    'Loading all workload endpoints.',
    `Found ${report.workloadAddresses} workload IPs.`,
    `Workloads and nodes are using ${report.tunnelAddresses + report.workloadAddresses} IPs.`,
    '',
    'Scanning for IPs that are allocated but not actually in use...',
    ...told(leaked.map(describe)),
    `Found ${leaked.length} IPs that are allocated in IPAM but not actually in use.`,
    'Scanning for IPs that are in use by a workload or node but not allocated in IPAM...',
    ...told([...outsidePools, ...notAllocated]),
    `Found ${outsidePools.length} in-use IPs that are not in active IP pools.`,
    `Found ${notAllocated.length} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.`,
    'Scanning for IPs that several use...',
    ...told(shared.map(describe)),
    `Found ${shared.length} IPs that several use.`,
    '',
    'Scanning for IPAM handles with no matching IPs...',
    ...told(report.deadHandles),
    `Found ${report.deadHandles.length} handles with no matching IPs.`,
    'Scanning for IPs with missing handle...',
    ...told(report.missingHandles.map(describe)),
    `Found ${report.missingHandles.length} IPs whose handle does not lead to them.`,
    'Scanning for blocks and claims that disagree...',
    ...told(report.badClaims),
    `Found ${report.badClaims.length} blocks or claims that disagree.`,
    `Check complete; found ${report.problems} problems.`,
    '',
  ].join('\n');
}

// ---- release ---------------------------------------------------------------------------------------

interface ReleaseOptions extends Options {
  readonly ip?: string;
  readonly fromReport?: string;
}

const reportSchema = z.object({
  version: z.literal(1),
  leaked: z.array(
    z.object({
      address: z.string(),
      handle: z.string().nullable(),
      sequence: z.string().regex(/^\d+$/),
      block: z.string(),
    }),
  ),
  deadHandles: z.array(z.string()),
});

function addRelease(ipam: Command, io: Io): void {
  json(ipam.command('release'))
    .description('free an address, or all that a report of "ipam check" found leaked')
    .option('--ip <address>', 'the address')
    .option('--from-report <file>', 'free what this report says is leaked, unless it was assigned anew since')
    .option('--dry-run', 'only say what would be freed')
    .addHelpText(
      'after',
      '\nExamples:\n  tortie ipam release --ip 10.65.0.2\n  tortie ipam release --from-report report.json',
    )
    .action((options: ReleaseOptions) => {
      const { ip, fromReport } = options;
      if ((ip === undefined) === (fromReport === undefined)) {
        throw new TortieError(
          'IPAM_RELEASE',
          'say what to release: --ip ADDRESS or --from-report FILE',
          EX_USAGE,
        );
      }
      return withIpam(io, options, (work) =>
        ip !== undefined
          ? releaseAddress(io, work, ip, options)
          : releaseReport(io, work, fromReport!, options),
      );
    });
}

async function releaseAddress(
  io: Io,
  work: Work,
  address: string,
  { dryRun, json: asJson }: Options,
): Promise<void> {
  checkAddress(address);
  const { allocations } = await reportOf(work);
  const found = allocations.find((allocation) => allocation.address === address);
  // The sequence number: whoever gets the address meanwhile keeps it.
  const handle = found?.handle ?? undefined;
  const wanted = found
    ? [{ address, sequence: BigInt(found.sequence), ...(handle !== undefined && { handle }) }]
    : [];
  const released = dryRun ? wanted.map((one) => one.address) : await work.ipam.releaseAddresses(wanted);
  if (asJson) return printJson(io, { released, dryRun: dryRun === true });
  if (released.length === 0) io.out(`IP address ${address} is not assigned\n`);
  else io.out(`${dryRun ? 'Would release' : 'Successfully released'} IP address ${address}\n`);
}

async function releaseReport(
  io: Io,
  work: Work,
  file: string,
  { dryRun, json: asJson }: Options,
): Promise<void> {
  const report = readReport(file);
  const now = await reportOf(work);
  const isLeaked = new Set(now.leaked.map(({ address, sequence }) => `${address} ${sequence}`));
  // What is used by now, or was assigned anew, is no longer leaked.
  const wanted = report.leaked.filter(({ address, sequence }) => isLeaked.has(`${address} ${sequence}`));
  const releases = wanted.map(({ address, handle, sequence }) => ({
    address,
    sequence: BigInt(sequence),
    ...(handle !== null && { handle }),
  }));
  const released = dryRun ? wanted.map(({ address }) => address) : await work.ipam.releaseAddresses(releases);
  const dead = report.deadHandles.filter((handle) => now.deadHandles.includes(handle));
  if (!dryRun) for (const handle of dead) await work.ipam.releaseHandle(handle);
  if (asJson) return printJson(io, { released, handles: dead, dryRun: dryRun === true });
  const verb = dryRun ? 'Would release' : 'Released';
  io.out(
    `${verb} ${released.length} IPs and ${dead.length} handles; ${report.leaked.length - released.length} were in use again\n`,
  );
}

function readReport(file: string): z.infer<typeof reportSchema> {
  try {
    return reportSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    const why =
      error instanceof z.ZodError ? 'is no report of "tortie ipam check -o"' : (error as Error).message;
    throw new TortieError('IPAM_REPORT', `${file}: ${why}`, EX_USAGE);
  }
}

// ---- configure -------------------------------------------------------------------------------------

interface ConfigureOptions extends Options {
  readonly strictaffinity?: string;
  readonly maxBlocksPerHost?: string;
}

function addConfigure(ipam: Command, io: Io): void {
  json(ipam.command('configure'))
    .description('how addresses are handed out: the IPAMConfig named "default"')
    .option('--strictaffinity <bool>', 'true: no node borrows addresses from blocks of others')
    .option('--max-blocks-per-host <number>', 'most blocks of a node; 0: 20')
    .option('--dry-run', 'only say what would be set')
    .addHelpText('after', '\nExample:\n  tortie ipam configure --strictaffinity=true')
    .action(async (options: ConfigureOptions) => {
      const change = changeOf(options);
      const { insist } = await import('../ipam/cas.ts');
      const key = { kind: 'IPAMConfig', name: IPAM_CONFIG_NAME } as const;
      await withIpam(io, options, ({ store: { resources }, ipam: allocator }) =>
        insist('IPAMConfig', async () => {
          const stored = await resources.get(key);
          const known = (stored?.resource as IPAMConfig | undefined)?.spec ?? (await allocator.config());
          const resource = SCHEMAS.IPAMConfig.parse({
            apiVersion: API_VERSION,
            kind: 'IPAMConfig',
            metadata: stored?.resource.metadata ?? { name: IPAM_CONFIG_NAME },
            spec: { ...known, ...change },
          });
          if (!options.dryRun) await resources.put(resource, stored?.revision ?? null);
        }),
      );
      if (options.json) return printJson(io, { ...change, dryRun: options.dryRun === true });
      const verb = options.dryRun ? 'Would set' : 'Successfully set';
      const names = { strictAffinity: 'StrictAffinity', maxBlocksPerHost: 'MaxBlocksPerHost' };
      for (const [name, value] of Object.entries(change)) {
        io.out(`${verb} ${names[name as keyof typeof names]} to: ${value}\n`);
      }
    });
}

function changeOf({ strictaffinity, maxBlocksPerHost }: ConfigureOptions) {
  if (strictaffinity !== undefined && !['true', 'false'].includes(strictaffinity)) {
    throw new TortieError(
      'IPAM_CONFIGURE',
      `--strictaffinity "${strictaffinity}" must be true or false`,
      EX_USAGE,
    );
  }
  if (maxBlocksPerHost !== undefined && !/^\d{1,6}$/.test(maxBlocksPerHost)) {
    throw new TortieError(
      'IPAM_CONFIGURE',
      `--max-blocks-per-host "${maxBlocksPerHost}" must be a number`,
      EX_USAGE,
    );
  }
  if (strictaffinity === undefined && maxBlocksPerHost === undefined) {
    throw new TortieError(
      'IPAM_CONFIGURE',
      'say what to set: --strictaffinity or --max-blocks-per-host',
      EX_USAGE,
    );
  }
  return {
    ...(strictaffinity !== undefined && { strictAffinity: strictaffinity === 'true' }),
    ...(maxBlocksPerHost !== undefined && { maxBlocksPerHost: Number(maxBlocksPerHost) }),
  };
}

function checkAddress(text: string): void {
  if (tryAddress4(text) !== null || tryAddress6(text) !== null) return;
  throw new TortieError('IPAM_ADDRESS', `"${text}" is no IP address; give one such as 10.65.0.2`, EX_USAGE);
}
