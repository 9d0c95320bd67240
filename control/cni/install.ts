/** What a container runtime needs to find tortie: the plugin's program under its two names, and a conflist. Each is put in place whole. */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { EX_NOPERM, EX_UNAVAILABLE, EX_USAGE, TortieError } from '../error.ts';
import { NETWORK_NAME } from './request.ts';

export const CONFLIST = '10-tortie.conflist';
const PROGRAMS = ['tortie-cni', 'tortie-ipam'];
/** What every runtime of today reads; newer ones choose from "cniVersions". */
const USUAL = '1.0.0';
const NEWEST = '1.1.0';

export interface InstallOptions {
  readonly confDir: string;
  readonly binDir: string;
  /** Of the network. */
  readonly name: string;
  /** Chain portmap behind, though it is not in `binDir`. */
  readonly withPortmap: boolean;
  readonly dryRun: boolean;
}

export interface Installed {
  /** Files that were written, or would be. */
  readonly paths: readonly string[];
  /** What may keep it from being used, for people. */
  readonly warnings: readonly string[];
}

/** Throws a TortieError: INSTALL_NAME, INSTALL_UNBUILT, INSTALL_FAILED. */
export function installCni(options: InstallOptions): Installed {
  const { confDir, binDir, name: network, dryRun } = options;
  if (!NETWORK_NAME.test(network)) {
    throw new TortieError(
      'INSTALL_NAME',
      `"${network}" is no name of a network: letters, digits, "_", "." and "-", a letter or digit first`,
      EX_USAGE,
    );
  }
  const program = readProgram();
  const conflist = `${JSON.stringify(conflistOf(options), null, 2)}\n`;
  // The conflist last: a runtime that sees it finds the rest.
  const files = [
    ...PROGRAMS.map((name) => ({ path: join(binDir, name), content: program, mode: 0o755 })),
    { path: join(confDir, CONFLIST), content: Buffer.from(conflist), mode: 0o644 },
  ];
  if (!dryRun) for (const { path, content, mode } of files) replace(path, content, mode);
  return { paths: files.map(({ path }) => path), warnings: warningsOf(options) };
}

function conflistOf({ name, binDir, withPortmap }: InstallOptions): unknown {
  const portmap = join(binDir, 'portmap');
  const isThere = existsSync(portmap);
  const chained = withPortmap || isThere;
  const isNew = !chained || (isThere && speaks(portmap, NEWEST));
  return {
    cniVersion: USUAL,
    ...(isNew && { cniVersions: [USUAL, NEWEST] }),
    name,
    plugins: [
      // Limits of bandwidth come to us: the plugin of that name shapes a veth, which pods have not.
      {
        type: 'tortie-cni',
        capabilities: { bandwidth: true, ips: true, mac: true },
        ipam: { type: 'tortie-ipam' },
      },
      ...(chained ? [{ type: 'portmap', snat: true, capabilities: { portMappings: true } }] : []),
    ],
  };
}

function speaks(plugin: string, version: string): boolean {
  const { stdout } = spawnSync(plugin, {
    env: { CNI_COMMAND: 'VERSION' },
    input: JSON.stringify({ cniVersion: USUAL }),
    timeout: 5000,
  });
  return stdout?.includes(`"${version}"`) ?? false;
}

function warningsOf({ confDir, binDir, withPortmap }: InstallOptions): string[] {
  const warnings: string[] = [];
  if (withPortmap && !existsSync(join(binDir, 'portmap'))) {
    warnings.push(`no portmap in ${binDir}: the runtime must find it elsewhere, or every ADD fails`);
  }
  const others = existsSync(confDir) ? readdirSync(confDir).sort() : [];
  const first = others.find((name) => /\.(conf|conflist|json)$/.test(name));
  if (first !== undefined && first < CONFLIST) {
    warnings.push(
      `${join(confDir, first)} comes first: a runtime that takes the first network takes that one`,
    );
  }
  return warnings;
}

/** From the build, whether we run from source or from dist. */
function readProgram(): Buffer {
  for (const up of ['../..', '../../..']) {
    const path = join(import.meta.dirname, up, 'build/Release/tortie-cni');
    if (existsSync(path)) return readFileSync(path);
  }
  throw new TortieError(
    'INSTALL_UNBUILT',
    'the plugin’s program is not built: run scripts/setup (or: npm rebuild)',
    EX_UNAVAILABLE,
  );
}

/** A file appears whole or not at all, also to a runtime that runs the one of before. */
function replace(path: string, content: Buffer, mode: number): void {
  const temporary = join(dirname(path), `.${process.pid}.tortie-install`);
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, content, { mode, flag: 'wx' });
    const fd = openSync(temporary, 'r');
    fsyncSync(fd);
    closeSync(fd);
    renameSync(temporary, path);
  } catch (error) {
    try {
      rmSync(temporary, { force: true });
    } catch {
      // Where the folder cannot be, nothing of ours is in it.
    }
    const { code, message } = error as NodeJS.ErrnoException;
    const isDenied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
    const advice = isDenied ? 'run this as root, or choose other folders' : 'nothing of it was changed';
    throw new TortieError(
      'INSTALL_FAILED',
      `cannot write ${path}: ${message}; ${advice}`,
      isDenied ? EX_NOPERM : 1,
    );
  }
}
