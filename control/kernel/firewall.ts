/** What the host's firewall thinks of forwarding, as far as a look at its policies tells. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { z } from 'zod';

const run = promisify(execFile);
const TIMEOUT_MS = 5000;

const ruleset = z.object({
  nftables: z.array(
    z.object({
      chain: z
        .object({
          family: z.string(),
          table: z.string(),
          name: z.string(),
          hook: z.string().optional(),
          policy: z.string().optional(),
        })
        .optional(),
    }),
  ),
});

/** Why packets may not be forwarded: a base chain of the forward hook whose policy is drop; else null. */
export async function forwardObstacle(): Promise<string | null> {
  let text: string;
  try {
    ({ stdout: text } = await run('nft', ['-j', 'list', 'chains'], { timeout: TIMEOUT_MS }));
  } catch (error) {
    // Without nft there are no rules of nft's; those of old iptables have a policy of their own.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return legacyObstacle();
    return `nft cannot list its chains: ${(error as Error).message.split('\n')[0]}`;
  }
  return policyObstacle(text) ?? (await legacyObstacle());
}

/** The same, from what `nft -j list chains` printed. */
export function policyObstacle(text: string): string | null {
  const chain = ruleset
    .parse(JSON.parse(text))
    .nftables.map((item) => item.chain)
    .find(
      (candidate) =>
        candidate?.hook === 'forward' &&
        candidate.policy === 'drop' &&
        ['ip', 'inet'].includes(candidate.family),
    );
  if (!chain) return null;
  return `the firewall drops what is forwarded unless a rule accepts it (nft ${chain.family} ${chain.table} ${chain.name})`;
}

async function legacyObstacle(): Promise<string | null> {
  try {
    const { stdout } = await run('iptables-legacy', ['-S', 'FORWARD'], { timeout: TIMEOUT_MS });
    return stdout.startsWith('-P FORWARD DROP')
      ? 'the firewall drops what is forwarded unless a rule accepts it (iptables-legacy FORWARD)'
      : null;
  } catch {
    return null;
  }
}
