import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fakeAgent } from '../api/fake-agent.ts';
import { serveApi } from '../api/server.ts';
import { runCli } from '../cli/test-io.ts';
import { collectDiags, withoutSecrets } from './diags.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-diags-test-'));
  writeFileSync(join(folder, 'agent.yaml'), 'nodeName: a\ndatastore: {kind: static, path: resources.yaml}\n');
  writeFileSync(
    join(folder, 'resources.yaml'),
    'apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pods}\nspec: {cidr: 10.65.0.0/16}\n',
  );
});
afterEach(() => rmSync(folder, { recursive: true }));

const archive = () => join(folder, 'd.tar.gz');
const diags = (runFolder: string) =>
  runCli(['node', 'diags', '--output', archive(), '--json', '-c', join(folder, 'agent.yaml')], {
    runFolder,
    actions: { collectDiags },
  });
const read = (name: string) =>
  JSON.parse(execFileSync('tar', ['-xzOf', archive(), `diagnostics/${name}`], { encoding: 'utf8' }));

describe('node diags', () => {
  it('packs what agent, datastore and system tell, without secrets, for the owner only', async () => {
    const secret = 'hunter2';
    const server = await serveApi(join(folder, 'run', 'a', 'api.sock'), {
      ...fakeAgent(),
      configShow: () => ({
        settings: {
          datastore: {
            kind: 'etcd',
            username: 'root',
            password: secret,
            endpoints: [`http://root:${secret}@192.0.2.9:2379`],
          },
        },
      }),
    });
    try {
      const { code, out, err } = await diags(join(folder, 'run'));
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(JSON.parse(out).path).toBe(archive());
    } finally {
      await server.close();
    }
    expect(statSync(archive()).mode & 0o777).toBe(0o600);
    const names = execFileSync('tar', ['-tzf', archive()], { encoding: 'utf8' }).split('\n');
    for (const name of [
      'system.json',
      'status.json',
      'ports.json',
      'bgp.json',
      'drops.json',
      'links.txt',
      'nftables.txt',
      'sysctl.txt',
      'log.txt',
    ]) {
      expect(names).toContain(`diagnostics/${name}`);
    }
    expect(read('routes.json')).toEqual(fakeAgent().routes());
    expect(read('resources.json')).toMatchObject([{ kind: 'IPPool', metadata: { name: 'pods' } }]);
    expect(read('agent.json').settings.datastore).toMatchObject({ username: 'root', password: '(left out)' });
    const all = execFileSync('tar', ['-xzOf', archive()]);
    expect(all.includes(secret)).toBe(false);
  });

  it('has the rest where there is no agent', async () => {
    const { code, out } = await diags(join(folder, 'none'));
    expect(code).toBe(0);
    const { items } = JSON.parse(out) as { items: { name: string; problem: string | null }[] };
    const problemOf = (wanted: string) => items.find(({ name }) => name === wanted)!.problem;
    expect(problemOf('status.json')).toContain('no agent has a socket under');
    expect(problemOf('resources.json')).toBeNull();
    expect(read('resources.json')).toHaveLength(1);
  });

  it('says where it cannot be written', async () => {
    const { code, err } = await runCli(['node', 'diags', '--output', join(folder, 'none', 'd.tar.gz')], {
      actions: { collectDiags },
    });
    expect(code).toBe(1);
    expect(err).toContain('give another --output (DIAGS_UNWRITABLE)\n');
  });
});

it('leaves out secrets, and nothing else', () => {
  const value = {
    password: 'x',
    nested: [{ clientSecret: 'y', apiToken: 'z', keyFile: '/etc/key.pem' }],
    peer: { password: { secretKeyRef: { name: 'bgp', key: 'rr' } } },
    url: 'see https://me:pw@host/path and http://host/',
    count: 3,
  };
  expect(withoutSecrets(value)).toEqual({
    password: '(left out)',
    nested: [{ clientSecret: '(left out)', apiToken: '(left out)', keyFile: '/etc/key.pem' }],
    peer: { password: { secretKeyRef: { name: 'bgp', key: 'rr' } } },
    url: 'see https://(left out)@host/path and http://host/',
    count: 3,
  });
});
