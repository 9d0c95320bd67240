/** What is told of the plan, change by change. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../config/config.ts';
import { TableWriter } from '../tables.ts';
import type { BgpPlan } from './bgp-plan.ts';
import { BgpRouting } from './bgp-routing.ts';
import { Feeder } from './feeder.ts';
import { KernelRoutes } from './kernel-routes.ts';

const US = '127.79.0.1';

let folder: string;
let routing: BgpRouting;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-routing-'));
  const file = join(folder, 'agent.yaml');
  writeFileSync(file, 'nodeName: routing-test\ndatastore: {kind: static, path: none.yaml}\n');
  const config = loadConfig(file);
  const feeder = new Feeder(new TableWriter(), () => null);
  const kernelRoutes = new KernelRoutes(feeder, () => ({ resolved: new Map(), failures: [] }));
  routing = new BgpRouting(() => config, feeder, kernelRoutes, pino({ level: 'silent' }));
});
afterAll(async () => {
  await routing.stop();
  rmSync(folder, { recursive: true });
});

it('shows the problems of the plan as it is now, also where the speaker is told nothing new', async () => {
  const plan: BgpPlan = {
    asn: 64512,
    bindAll: false,
    listenPort: 0,
    addresses: [US],
    clusterId: null,
    peers: [],
    originate: [],
    problems: [],
  };
  const problem = {
    text: 'left out: BGPPeer tor, peer 127.79.0.9: a reason',
    leftOut: ['127.79.0.9', 'tor'],
  };
  const configure = (problems: BgpPlan['problems']) => routing.configure({ ...plan, problems }, 0x7f4f0001);
  await configure([problem]);
  expect(routing.view.summary().problems).toEqual([problem]);
  expect(() => routing.view.refresh('tor')).toThrow(`no peer "tor"; ${problem.text}`);
  const other = { ...problem, text: 'left out: BGPPeer tor, peer 127.79.0.9: another reason' };
  await configure([other]);
  expect(routing.view.summary().problems).toEqual([other]);
  await configure([]);
  expect(routing.view.summary().problems).toEqual([]);
  expect(() => routing.view.refresh('tor')).toThrow('no peer "tor"; peers: none');
});
