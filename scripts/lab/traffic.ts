/** Traffic through a lab, and what the tools said of it. */
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../../bench/lab.ts';
import { ROOT } from './cluster.ts';

const CAPTURE_MS = 2000;

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** TTL of the answers, or null if there was none. */
  readonly ttl: number | null;
  readonly output: string;
}

/** Standard output of a program, also when it failed. */
export async function outputOf(run: Promise<string>): Promise<string> {
  try {
    return await run;
  } catch (error) {
    const { stdout } = error as { stdout?: unknown };
    if (typeof stdout === 'string') return stdout;
    throw error;
  }
}

/** `ping`, parsed. */
export async function ping(
  lab: Lab,
  netns: string,
  address: string,
  options: string[] = [],
): Promise<PingResult> {
  const output = await outputOf(
    lab.run(netns, 'ping', ['-n', '-c', '3', '-i', '0.2', '-W', '2', ...options, address]),
  );
  const counts = output.match(/(\d+) packets transmitted, (\d+) received/);
  if (!counts) throw new Error(`ping said no counts:\n${output}`);
  const ttl = output.match(/ttl=(\d+)/);
  return {
    sent: Number(counts[1]),
    received: Number(counts[2]),
    ttl: ttl ? Number(ttl[1]) : null,
    output: output.trim(),
  };
}

/** What we read of iperf3's JSON. */
export interface IperfReport {
  readonly end: { readonly sum_received?: { readonly bytes: number } };
  readonly error?: string;
}

/** One TCP transfer by iperf3; bytes that arrived. */
export async function tcp(
  lab: Lab,
  client: string,
  server: string,
  address: string,
  options: string[] = ['-n', '20M'],
): Promise<number> {
  const service = lab.spawn(server, 'iperf3', ['-s', '-1', '-B', address]);
  try {
    return await tcpTo(lab, client, address, options);
  } finally {
    await service.stop();
  }
}

/** The same to a server that listens, or soon will: it does not say when. */
export async function tcpTo(lab: Lab, client: string, address: string, options: string[]): Promise<number> {
  for (let left = 40; ; left--) {
    const text = await outputOf(lab.run(client, 'iperf3', ['-c', address, '-J', ...options], 60_000));
    const { end, error } = JSON.parse(text) as IperfReport;
    if (end.sum_received) return end.sum_received.bytes;
    if (!error?.includes('refused') || left === 0) throw new Error(`iperf3: ${error ?? text}`);
    await sleep(50);
  }
}

/**
 * One packet as tcpdump decodes it, seen on a device while `action` runs; null if none came by.
 * `filter` is tcpdump's.
 */
export async function wire(
  lab: Lab,
  netns: string,
  device: string,
  filter: string,
  action: () => Promise<unknown>,
): Promise<string | null> {
  const tcpdump = lab.spawn(netns, 'tcpdump', [
    '-i',
    device,
    '-n',
    '-l',
    '-v',
    '-Z',
    'root',
    '-c',
    '1',
    filter,
  ]);
  try {
    while (!tcpdump.said.includes('listening on') && !tcpdump.ended) await sleep(10);
    if (tcpdump.said.includes("Couldn't change to"))
      return await captured(lab, netns, device, filter, action);
    await action();
    // It ends once it has its packet, of which it prints one line a header.
    const lines: string[] = [];
    for (;;) {
      const line = await tcpdump.line(CAPTURE_MS).catch(() => null);
      if (line === null) return lines.length === 0 ? null : lines.join('\n');
      lines.push(line);
    }
  } finally {
    await tcpdump.stop();
  }
}

/**
 * The same in a user namespace, whose root tcpdump may not leave: capture first, then have tcpdump read the
 * file as nobody, which needs no leaving.
 */
async function captured(
  lab: Lab,
  netns: string,
  device: string,
  filter: string,
  action: () => Promise<unknown>,
): Promise<string | null> {
  const file = join(lab.folder, 'wire.pcap');
  const capture = await lab.start(netns, 'python3', [join(ROOT, 'scripts/lab/capture.py'), device, file]);
  try {
    await action();
  } finally {
    await capture.stop();
  }
  await chmod(lab.folder, 0o755);
  const text = await lab.run(netns, 'unshare', [
    '--user',
    'tcpdump',
    '-n',
    '-v',
    '-c',
    '1',
    '-r',
    file,
    filter,
  ]);
  return text.trim() || null;
}
