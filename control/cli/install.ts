/** `tortie install`: what other programs need to find tortie. */
import type { Command } from 'commander';
import type { InstallOptions } from '../cni/install.ts';
import { type Io, printJson } from './io.ts';

interface Flags extends Pick<InstallOptions, 'confDir' | 'binDir' | 'name'> {
  readonly withPortmap?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function addInstall(program: Command, io: Io): void {
  const install = program.command('install').description('put in place what other programs need');
  install
    .command('cni')
    .description('the CNI plugin and its configuration, for container runtimes')
    .option('--conf-dir <folder>', 'where the runtime looks for networks', '/etc/cni/net.d')
    .option('--bin-dir <folder>', 'where it looks for plugins', '/opt/cni/bin')
    .option('--name <name>', 'name of the network', 'tortie')
    .option('--with-portmap', 'chain portmap behind, also if it is not in that folder')
    .option('--dry-run', 'only say what would be written')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  tortie install cni --dry-run')
    .action(async ({ confDir, binDir, name, withPortmap = false, dryRun = false, json }: Flags) => {
      const options = { confDir, binDir, name, withPortmap, dryRun };
      const { paths, warnings } = await io.actions.installCni(options);
      for (const warning of warnings) io.err(`warning: ${warning}\n`);
      if (json) printJson(io, { dryRun, paths, warnings });
      else for (const path of paths) io.out(`${dryRun ? 'would write' : 'wrote'} ${path}\n`);
    });
}
