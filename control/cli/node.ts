/** `tortie node status`, to the letter as calicoctl prints it, `node checksystem` and `node diags`. */
import type { Command } from 'commander';
import type { NodeStatusView, PeerView } from '../api/types.ts';
import { TortieError } from '../error.ts';
import type { SystemCheck } from '../node/check-system.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';
import { type StoreOptions, usesStore, withStore } from './resources/store.ts';
import { box, columns } from './table.ts';

export function addNode(program: Command, io: Io): void {
  const node = program.command('node').description('the node as a whole');
  asksDaemon(node.command('status'))
    .description('whether the agent runs, and its BGP sessions')
    .addHelpText('after', '\nExample:\n  tortie node status')
    .action(async (options: DaemonOptions) => {
      try {
        const status = await daemon(io, options).nodeStatus();
        if (options.json) printJson(io, status);
        else io.out(statusText(status, io.now()));
      } catch (error) {
        const isDown = error instanceof TortieError && error.code === 'AGENT_NOT_RUNNING';
        if (isDown && !options.json) io.out('Calico process is not running.\n');
        throw error;
      }
    });
  addCheckSystem(node, io);
  addDiags(node, io);
}

function addCheckSystem(node: Command, io: Io): void {
  node
    .command('checksystem')
    .description('whether this machine has what the agent needs')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  tortie node checksystem')
    .action(async ({ json }: { json?: boolean }) => {
      const checks = await io.actions.checkSystem();
      const isGood = checks.every(({ state }) => state !== 'failed');
      if (json) printJson(io, { ok: isGood, checks });
      else io.out(checksText(checks, isGood));
      if (!isGood) io.exitCode = 1;
    });
}

const checksText = (checks: readonly SystemCheck[], isGood: boolean): string => {
  const rows = checks.map(({ name, state, detail }) => [
    name,
    state === 'ok' ? 'OK' : state.toUpperCase(),
    detail,
  ]);
  const verdict = isGood
    ? 'System meets the requirements to run tortie.'
    : 'System does not meet the requirements to run tortie.';
  return `${columns(['CHECK', 'STATE', 'DETAIL'], rows)}\n${verdict}\n`;
};

interface DiagsFlags extends DaemonOptions, StoreOptions {
  readonly output?: string;
}

function addDiags(node: Command, io: Io): void {
  usesStore(asksDaemon(node.command('diags')))
    .description('collect what a maintainer wants to see of this node in a .tar.gz, without secrets')
    .option('--output <file>', 'the archive; default: tortie-diags-TIME.tar.gz here')
    .addHelpText('after', '\nExample:\n  tortie node diags --output /tmp/diags.tar.gz')
    .action(async ({ output, json, ...where }: DiagsFlags) => {
      const sources = {
        agent: () => daemon(io, where),
        resources: () =>
          withStore(io, where, async ({ resources }) =>
            (await resources.list()).map((stored) => stored.resource),
          ),
        now: io.now(),
      };
      const diags = await io.actions.collectDiags(sources, output);
      if (json) {
        printJson(io, diags);
        return;
      }
      for (const { name, problem } of diags.items) {
        if (problem !== null) io.err(`warning: ${name}: ${problem}\n`);
      }
      io.out(`Diags saved to ${diags.path}\n`);
    });
}

export const statusText = ({ peersV4, peersV6 }: NodeStatusView, now: Date): string =>
  `Calico process is running.\n\n${familyText(4, peersV4, now)}\n${familyText(6, peersV6, now)}\n`;

function familyText(family: 4 | 6, peers: readonly PeerView[], now: Date): string {
  const rows = peers.map((peer) => [
    peer.address,
    peer.type,
    peer.state,
    sinceText(new Date(peer.since), now),
    infoText(peer),
  ]);
  const header = ['Peer address', 'Peer type', 'State', 'Since', 'Info'];
  return `IPv${family} BGP status\n${rows.length > 0 ? box(header, rows) : `No IPv${family} peers found.\n`}`;
}

const RECENT_MS = 20 * 3600 * 1000;

/** Time of day within the last 20 hours, the date before that: as BIRD tells it, in local time. */
function sinceText(since: Date, now: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  return now.getTime() - since.getTime() < RECENT_MS
    ? [since.getHours(), since.getMinutes(), since.getSeconds()].map(two).join(':')
    : `${since.getFullYear()}-${two(since.getMonth() + 1)}-${two(since.getDate())}`;
}

const infoText = ({ info, lastError }: PeerView): string =>
  info === 'Established' || !lastError ? info : `${info} ${lastError}`;
