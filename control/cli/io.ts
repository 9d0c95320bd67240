/** What the command line touches of the world, so that tests can hand it another one. */

import type { TraceView } from '../api/types.ts';
import type { Installed, InstallOptions } from '../cni/install.ts';
import type { LoadedMrt } from '../load-mrt.ts';
import type { SystemCheck } from '../node/check-system.ts';
import type { Diags, DiagsSources } from '../node/diags.ts';
import type { PurgeAction, PurgeOptions } from '../purge.ts';
import type { ReplayOptions } from '../replay.ts';
import type { TraceReplayOptions } from '../trace-replay.ts';

/** Work that is loaded only by the verb that does it. Numbers are exit codes. */
export interface Actions {
  runAgent(configFile: string): Promise<number>;
  runReplay(options: ReplayOptions): Promise<number>;
  traceReplay(options: TraceReplayOptions): Promise<TraceView[]>;
  purge(options: PurgeOptions): Promise<PurgeAction[]>;
  installCni(options: InstallOptions): Promise<Installed>;
  checkSystem(): Promise<SystemCheck[]>;
  /** `asn`: our AS; null: as the file says it. */
  loadMrt(file: string, asn: number | null): Promise<LoadedMrt>;
  collectDiags(sources: DiagsSources, output: string | undefined): Promise<Diags>;
}

export interface Io {
  /** Standard output and standard error. */
  out(text: string): void;
  err(text: string): void;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Folder of the agents' folders: one per node, with an api.sock. */
  readonly runFolder: string;
  /** Settings where no others are named. */
  readonly configFile: string;
  /** All of standard input. */
  readonly input: () => string;
  readonly now: () => Date;
  /** Aborted when the user wants out: Ctrl-C. */
  readonly interrupted: AbortSignal;
  readonly actions: Actions;
  /** What the process is to exit with if nothing throws. */
  exitCode: number;
}

export const printJson = (io: Io, value: unknown): void => io.out(`${JSON.stringify(value, null, 2)}\n`);
