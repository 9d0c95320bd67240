/** The matrix's short form: a connection that outlives its path's MTU, each way. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeAddress } from '../lab/cluster.ts';
import { noLab } from '../lab/in-lab.ts';
import { PATHS, TREATMENTS, tryTransfer } from './matrix.ts';
import { MtuPath } from './path.ts';

const told = TREATMENTS.find(({ df, told }) => df && told)!;
const shrinking = PATHS.find(({ shrinks }) => shrinks)!;

describe.skipIf(noLab)('a path that shrinks between tortie and the kernel’s VXLAN', () => {
  let path: MtuPath;
  beforeAll(async () => {
    path = await MtuPath.create('vxlan');
  });
  afterAll(() => path?.close());

  it('takes TCP from its end', async () => {
    await tryTransfer(path, told, shrinking, false);
  });

  it('takes TCP to its end, and the node knows it', async () => {
    await tryTransfer(path, told, shrinking, true);
    expect(await path.cluster.api(1).pathMtus()).toMatchObject([
      { peer: nodeAddress(2), mtu: shrinking.mtu },
    ]);
  });
});
