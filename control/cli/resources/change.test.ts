import { beforeEach, describe, expect, it } from 'vitest';
import { eachInItsStore, good, head, node, say, tortie, write } from './test-store.ts';

eachInItsStore();

describe('patch', () => {
  const spec = async () => JSON.parse(await good('get node a -o json'));
  beforeEach(async () => {
    write(
      'a.yaml',
      `${head('Node', 'name: a, labels: {x: y}')}spec: {bgp: {ipv4Address: 192.0.2.1/24, asNumber: 64513}}\n`,
    );
    await good('apply -f $a.yaml');
  });
  const patch = (text: string, type?: string) =>
    tortie(['patch', 'node', 'a', '-p', text, ...(type ? ['-t', type] : [])]);

  it.each([
    [
      undefined,
      '{"spec":{"bgp":{"ipv4IPIPTunnelAddr":"10.65.0.1"}}}',
      { ipv4Address: '192.0.2.1/24', asNumber: 64513, ipv4IPIPTunnelAddr: '10.65.0.1' },
    ],
    ['strategic', '{"spec":{"bgp":{"asNumber":null}}}', { ipv4Address: '192.0.2.1/24' }],
    [
      'strategic',
      '{"spec":{"bgp":{"$patch":"replace","ipv4Address":"192.0.2.3/24"}}}',
      { ipv4Address: '192.0.2.3/24' },
    ],
    [
      'merge',
      '{"spec":{"bgp":{"asNumber":null,"ipv4Address":"192.0.2.4/24"}}}',
      { ipv4Address: '192.0.2.4/24' },
    ],
    [
      'json',
      '[{"op":"remove","path":"/spec/bgp/asNumber"},{"op":"replace","path":"/spec/bgp/ipv4Address","value":"192.0.2.5/24"}]',
      { ipv4Address: '192.0.2.5/24' },
    ],
  ])('%s %s', async (type, text, bgp) => {
    expect(await patch(text, type)).toEqual({
      code: 0,
      out: "Successfully patched 1 'Node' resource\n",
      err: '',
    });
    expect(await spec()).toMatchObject({ metadata: { labels: { x: 'y' } }, spec: { bgp } });
    expect((await spec()).spec.bgp).toEqual(bgp);
  });

  it.each([
    ['strategic', '{"spec":{"bpg":{}}}', 78, 'spec.bpg: unknown key; did you mean bgp?'],
    ['strategic', '[]', 64, '--patch: must be a map'],
    ['strategic', '{"spec":{"$patch":"erase"}}', 64, 'allowed: merge, replace, delete'],
    ['json', '{}', 64, 'type json takes a list'],
    ['json', '[{"op":"test","path":"/spec/bgp/asNumber","value":1}]', 64, '--patch: operation 0: '],
    ['merge', '{"metadata":{"name":"b"}}', 64, 'a patch cannot rename Node(a)'],
    ['merge', '{"spec"', 78, '--patch:1:8: '],
    ['other', '{}', 64, "argument 'other' is invalid"],
  ])('refuses %s %s', async (type, text, code, message) => {
    const before = await spec();
    const { code: given, err } = await patch(text, type);
    expect({ given, err }).toEqual({ given: code, err: expect.stringContaining(message) });
    expect(await spec()).toEqual(before);
  });
});

it('labels', async () => {
  write('a.yaml', node('a', '192.0.2.1'));
  await good('apply -f $a.yaml');
  expect(await good('label nodes a cluster=front')).toBe('Successfully set label cluster on nodes a\n');
  expect(await good('label nodes a cluster=front')).toBe('Successfully updated label cluster on nodes a\n');
  expect(await say('label nodes a cluster=back')).toMatchObject({
    code: 1,
    err: expect.stringContaining(
      "failed to update label of nodes a, key cluster is already present. please use '--overwrite' to set a new value.",
    ),
  });
  expect(await good('label nodes a cluster=back --overwrite')).toBe(
    'Successfully updated label cluster on nodes a\n',
  );
  expect(await good('label nodes a cluster --remove')).toBe(
    'Successfully removed label cluster from nodes a\n',
  );
  expect(await say('label nodes a cluster --remove')).toMatchObject({
    code: 1,
    err: expect.stringContaining('cannot remove label of nodes a, key cluster does not exist'),
  });
  expect(await say('label nodes a x')).toMatchObject({
    code: 64,
    err: expect.stringContaining('invalid label x'),
  });
  expect(await say('label nodes b x=y')).toMatchObject({
    code: 1,
    err: expect.stringContaining('resource does not exist: Node(b)'),
  });
});
