import { expect, it } from 'vitest';
import { DROP, DROP_REASONS } from './drops.ts';

const MANUAL = '../docs/DROPS.md';

const sentence = (text: string): string => `${text[0]!.toUpperCase()}${text.slice(1)}.`;

it('is what docs/DROPS.md tells; "npx vitest run dataplane/drops -u" writes it anew', async () => {
  const sections = DROP_REASONS.map(
    ({ name, description, cause, cure }) => `## ${name}

${sentence(description)}

- Usual cause: ${cause}.
- What to do: ${cure}.
`,
  );
  const text = `# Why packets are dropped

\`tortie show drops\` counts dropped packets by port and reason, and shows the headers of the last one; with \`--json\` its first bytes, too.
\`tortie_port_drops_total\` has the same for Prometheus, and \`tortie trace\` follows packets until they are dropped. A packet is counted at the
port that it came by, once: frames received are those delivered, answered here, and dropped. Port \`kernel\` has what the node's kernel dropped before
the tunnels' sockets saw it: fragments that were never whole, and wrong UDP checksums, of all programs of its namespace.

${sections.join('\n')}`;
  await expect(text).toMatchFileSnapshot(MANUAL);
});

it('numbers reasons in the order of the registry', () => {
  expect(DROP_REASONS.map(({ name }) => DROP[name as keyof typeof DROP])).toEqual([...DROP_REASONS.keys()]);
});
