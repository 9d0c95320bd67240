import { describe, expect, it } from 'vitest';
import { purge } from './purge.ts';

describe('purge', () => {
  it.each(['', '.', '..', '../somewhere', 'a/b', 'Node'])(
    'takes no name that is no node’s: "%s"',
    async (nodeName) => {
      await expect(purge({ nodeName, dryRun: true })).rejects.toMatchObject({
        code: 'PURGE_SCOPE',
        exitCode: 64,
      });
    },
  );
});
