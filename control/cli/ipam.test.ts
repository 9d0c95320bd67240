import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openStore } from '../datastore/open.ts';
import { openIpam } from '../ipam/open.ts';
import { type Kind, type Resource, SCHEMAS } from '../resources/schema.ts';
import { runCli } from './test-io.ts';

let folder: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-ipam-cli-'));
  writeFileSync(join(folder, 'agent.yaml'), 'nodeName: a\ndatastore: {kind: embedded, path: store}\n');
  await inStore(async (store) => {
    const put = (kind: Kind, name: string, spec: unknown, namespace?: string) => {
      const metadata = { name, ...(namespace && { namespace }) };
      return store.resources.put(
        SCHEMAS[kind].parse({ apiVersion: 'projectcalico.org/v3', kind, metadata, spec }) as Resource,
        null,
      );
    };
    await put('IPPool', 'one', { cidr: '10.65.0.0/28', blockSize: 30, vxlanMode: 'Always' });
    await put('Node', 'a', { bgp: { ipv4Address: '192.0.2.1/24' } });
    const ipam = openIpam(store);
    const [pod] = await ipam.assign({
      node: 'a',
      handle: 'net.c1',
      attributes: { node: 'a', pod: 'web' },
      ip4: 1,
    });
    const spec = { node: 'a', interfaceName: 'cali1', ipNetworks: [`${pod!.address}/32`] };
    await put('WorkloadEndpoint', 'web', spec, 'default');
    used = pod!.address;
    block = pod!.block;
  });
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The address that the pod has, and its block. */
let used: string;
let block: string;

async function inStore(work: (store: ReturnType<typeof openStore>) => Promise<void>): Promise<void> {
  const store = openStore({ kind: 'embedded', path: join(folder, 'store') });
  await work(store);
  await store.close();
}
const tortie = (words: string) =>
  runCli(words.split(' '), { env: { TORTIE_CONFIG: join(folder, 'agent.yaml') } });
const good = async (words: string) => {
  const { code, out, err } = await tortie(words);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out;
};
const leak = (handle: string) =>
  inStore(async (store) => {
    await openIpam(store).assign({ node: 'a', handle, attributes: { node: 'a', pod: 'gone' }, ip4: 1 });
  });

describe('ipam show', () => {
  it('tells how full pools and blocks are', async () => {
    expect(await good('ipam show --show-blocks')).toBe(
      [
        '+----------+--------------+-----------+------------+----------+',
        '| GROUPING |     CIDR     | IPS TOTAL | IPS IN USE | IPS FREE |',
        '+----------+--------------+-----------+------------+----------+',
        '| IP Pool  | 10.65.0.0/28 |        16 | 1 (6%)     | 15 (94%) |',
        `| Block    | ${block.padEnd(12)} |         4 | 1 (25%)    | 3 (75%)  |`,
        '+----------+--------------+-----------+------------+----------+',
        '',
      ].join('\n'),
    );
    expect(JSON.parse(await good('ipam show --json'))).toEqual([
      { grouping: 'IP Pool', cidr: '10.65.0.0/28', total: 16, inUse: 1 },
    ]);
  });

  it('tells who has an address', async () => {
    const text = await good(`ipam show --ip ${used}`);
    expect(text).toContain(`IP ${used} is in use\nAttributes:\n  node: a\n  pod: web\n  handle: net.c1\n`);
    expect(await good('ipam show --ip 10.99.0.1')).toBe('10.99.0.1 is not assigned\n');
    expect(await tortie('ipam show --ip ten')).toMatchObject({ code: 64 });
  });

  it('tells what is borrowed, and how addresses are handed out', async () => {
    await inStore(async (store) => {
      const request = { node: 'b', handle: 'net.c2', attributes: { node: 'b', pod: 'guest' }, address: '' };
      const [first] = (await openIpam(store).blocks()).map(({ cidr }) => cidr);
      const base = first!.split('/')[0]!.split('.');
      const address = [...base.slice(0, 3), Number(base[3]) + 3].join('.');
      await openIpam(store).assignAddress({ ...request, address });
    });
    expect(JSON.parse(await good('ipam show --show-borrowed --json'))).toMatchObject([
      { node: 'b', block, owner: 'a', type: 'Pod', to: 'guest' },
    ]);
    await good('ipam configure --strictaffinity=true --max-blocks-per-host=4');
    expect(await good('ipam show --show-configuration')).toContain('| StrictAffinity     | true  |');
    expect(JSON.parse(await good('ipam show --show-configuration --json')).maxBlocksPerHost).toBe(4);
    expect(await good('get ipamconfig')).toContain('default');
  });
});

describe('ipam check and release', () => {
  it('finds nothing wrong where nothing is', async () => {
    const text = await good('ipam check');
    expect(text).toContain('IPAM blocks record 1 allocations.');
    expect(text.endsWith('Check complete; found 0 problems.\n')).toBe(true);
  });

  it('finds what leaked, and frees by its report only what is leaked still', async () => {
    await leak('net.lost');
    await leak('net.found');
    const report = join(folder, 'report.json');
    expect(await good(`ipam check --show-problem-ips -o ${report}`)).toMatch(
      /handle net\.lost; gone\n.*handle net\.found; gone\nFound 2 IPs that are allocated in IPAM but not actually in use\.\n[\s\S]*found 2 problems/,
    );
    const { leaked } = JSON.parse(readFileSync(report, 'utf8')) as {
      leaked: { handle: string; address: string }[];
    };
    // One is released and assigned anew before the report is used.
    await inStore(async (store) => {
      const ipam = openIpam(store);
      await ipam.releaseHandle('net.found');
      const { address } = leaked.find(({ handle }) => handle === 'net.found')!;
      await ipam.assignAddress({ node: 'a', handle: 'net.new', attributes: {}, address });
    });
    expect(await good(`ipam release --from-report ${report} --dry-run`)).toMatch(/^Would release 1 IPs/);
    expect(await good(`ipam release --from-report ${report}`)).toBe(
      'Released 1 IPs and 0 handles; 1 were in use again\n',
    );
    expect(await good('ipam check')).toContain('found 1 problems.');
    expect(await tortie(`ipam release --from-report ${join(folder, 'agent.yaml')}`)).toMatchObject({
      code: 64,
    });
  });

  it('frees one address', async () => {
    expect(await good(`ipam release --ip ${used} --dry-run`)).toBe(`Would release IP address ${used}\n`);
    expect(await good(`ipam release --ip ${used}`)).toBe(`Successfully released IP address ${used}\n`);
    expect(await good(`ipam release --ip ${used}`)).toBe(`IP address ${used} is not assigned\n`);
    // The pod is still there: it uses what nobody gave it.
    expect(await good('ipam check')).toContain('have no corresponding IPAM allocation.');
    expect((await tortie('ipam release')).err).toContain('say what to release');
  });
});
