/** `tortie node status`, to the letter as calicoctl prints it. */
import type { Command } from 'commander';
import type { NodeStatusView, PeerView } from '../api/types.ts';
import { TortieError } from '../error.ts';
import { asksDaemon, type DaemonOptions, daemon } from './daemon.ts';
import { type Io, printJson } from './io.ts';
import { box } from './table.ts';

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
}

export function statusText(status: NodeStatusView, now: Date): string {
  const rows = status.peersV4.map((peer) => [
    peer.address,
    peer.type,
    peer.state,
    sinceText(new Date(peer.since), now),
    infoText(peer),
  ]);
  const peers =
    rows.length > 0
      ? box(['Peer address', 'Peer type', 'State', 'Since', 'Info'], rows)
      : 'No IPv4 peers found.\n';
  return `Calico process is running.\n\nIPv4 BGP status\n${peers}\nIPv6 BGP status\nNo IPv6 peers found.\n\n`;
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
