import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { CONFLIST, type InstallOptions, installCni } from './install.ts';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function place(more: Partial<InstallOptions> = {}): InstallOptions {
  const folder = mkdtempSync(join(tmpdir(), 'tortie-install-'));
  folders.push(folder);
  const [confDir, binDir] = [join(folder, 'etc/net.d'), join(folder, 'bin')];
  return { confDir, binDir, name: 'pods', withPortmap: false, dryRun: false, ...more };
}

const conflist = ({ confDir }: InstallOptions) => JSON.parse(readFileSync(join(confDir, CONFLIST), 'utf8'));
const types = (options: InstallOptions) =>
  conflist(options).plugins.map((plugin: { type: string }) => plugin.type);

/** A portmap that speaks these versions. */
function putPortmap({ binDir }: InstallOptions, ...versions: string[]): void {
  mkdirSync(binDir, { recursive: true });
  const answer = JSON.stringify({ cniVersion: '1.0.0', supportedVersions: versions });
  writeFileSync(join(binDir, 'portmap'), `#!/bin/sh\necho '${answer}'\n`);
  chmodSync(join(binDir, 'portmap'), 0o755);
}

it('puts programs and conflist in place, and again', () => {
  const options = place();
  const { paths, warnings } = installCni(options);
  expect(warnings).toEqual([]);
  const [cni, ipam, list] = paths;
  expect(statSync(cni!).mode & 0o777).toBe(0o755);
  expect(readFileSync(cni!).equals(readFileSync(ipam!))).toBe(true);
  expect(statSync(list!).mode & 0o777).toBe(0o644);
  expect(conflist(options)).toEqual({
    cniVersion: '1.0.0',
    cniVersions: ['1.0.0', '1.1.0'],
    name: 'pods',
    plugins: [
      {
        type: 'tortie-cni',
        capabilities: { bandwidth: true, ips: true, mac: true },
        ipam: { type: 'tortie-ipam' },
      },
    ],
  });
  expect(installCni(options).paths).toEqual(paths);
  expect(readdirSync(options.binDir).sort()).toEqual(['tortie-cni', 'tortie-ipam']);
});

it('chains the portmap that is there, at a version that it speaks', () => {
  const old = place();
  putPortmap(old, '0.4.0', '1.0.0');
  installCni(old);
  expect(types(old)).toEqual(['tortie-cni', 'portmap']);
  expect(conflist(old)).not.toHaveProperty('cniVersions');
  const recent = place();
  putPortmap(recent, '1.0.0', '1.1.0');
  installCni(recent);
  expect(conflist(recent).cniVersions).toEqual(['1.0.0', '1.1.0']);
});

it('says what may keep it from being used', () => {
  const options = place({ withPortmap: true });
  mkdirSync(options.confDir, { recursive: true });
  writeFileSync(join(options.confDir, '10-calico.conflist'), '{}');
  expect(installCni(options).warnings).toEqual([
    expect.stringMatching(/^no portmap in /),
    expect.stringMatching(/10-calico\.conflist comes first/),
  ]);
  expect(types(options)).toEqual(['tortie-cni', 'portmap']);
});

it('changes nothing in a dry run, and says why it cannot', () => {
  const options = place({ dryRun: true });
  expect(installCni(options).paths).toHaveLength(3);
  expect(() => readdirSync(options.binDir)).toThrow(/ENOENT/);
  expect(() => installCni({ ...options, name: '../x' })).toThrow(/no name of a network/);
  const file = place();
  writeFileSync(file.binDir, '');
  expect(() => installCni(file)).toThrow(/cannot write .*tortie-cni: E/);
});
