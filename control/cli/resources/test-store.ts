/** A datastore of its own for each test, and command lines on it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { type Outcome, runCli } from '../test-io.ts';

let folder: string;

/** Call it once in a file of tests: an embedded store, named by agent.yaml in a folder. */
export function eachInItsStore(): void {
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'tortie-verbs-'));
    write('agent.yaml', 'nodeName: node1\ndatastore: {kind: embedded, path: store}\n');
  });
  afterEach(() => rmSync(folder, { recursive: true }));
}

export const file = (name: string): string => join(folder, name);
export const write = (name: string, text: string): void => writeFileSync(file(name), text);
export const tortie = (args: string[], world = {}): Promise<Outcome> =>
  runCli(args, { env: { TORTIE_CONFIG: file('agent.yaml') }, ...world });
/** Words, with $name for a file of the folder. */
export const say = (words: string, world = {}): Promise<Outcome> =>
  tortie(
    words.split(' ').map((word) => (word.startsWith('$') ? file(word.slice(1)) : word)),
    world,
  );
/** What is printed by words that do not fail, and have nothing to warn of. */
export async function good(words: string): Promise<string> {
  const { code, out, err } = await say(words);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out;
}

export const head = (kind: string, metadata: string) =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {${metadata}}\n`;
export const pool = (name: string, cidr: string, more = '') =>
  `${head('IPPool', `name: ${name}`)}spec: {cidr: ${cidr}${more}}\n`;
export const node = (name: string, address: string) =>
  `${head('Node', `name: ${name}`)}spec: {bgp: {ipv4Address: ${address}/24}}\n`;
export const pod = (name: string, address: string, metadata = '') =>
  `${head('WorkloadEndpoint', `name: ${name}${metadata}`)}spec: {node: a, pod: ${name}, interfaceName: cali${name}, ipNetworks: [${address}/32]}\n`;
