import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TortieError } from '../error.ts';
import { agentJsonSchema, loadConfig } from './config.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-config-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function load(text: string) {
  const file = join(folder, 'agent.yaml');
  writeFileSync(file, text);
  return loadConfig(file);
}

function complaintOf(text: string): string {
  try {
    load(text);
  } catch (error) {
    expect(error).toBeInstanceOf(TortieError);
    expect((error as TortieError).exitCode).toBe(78);
    return (error as Error).message.replaceAll(`${folder}/`, '');
  }
  throw new Error('was accepted');
}

describe('loadConfig', () => {
  it('completes a minimal file', () => {
    const config = load('nodeName: node1\ndatastore: {kind: static, path: resources}\n');
    expect(config).toMatchObject({
      nodeName: 'node1',
      datastore: { kind: 'static', path: join(folder, 'resources') },
      hostDevice: 'tortie0',
      workers: 1,
      sockets: { api: '/run/tortie/node1/api.sock', udpChecksum: true, vxlanSenders: 16 },
      bgp: { enabled: true, holdTime: 90 },
      log: { level: 'info' },
    });
  });

  it.each([
    [
      'unknown key',
      'nodeName: n\ndatastore: {kind: static, path: r}\nworker: 2\n',
      'agent.yaml:3:1: worker: unknown key; did you mean workers?',
    ],
    [
      'bad value',
      'nodeName: n\ndatastore:\n  kind: etc\n  path: r\n',
      'agent.yaml:3:3: datastore.kind: "etc" is not allowed; allowed: static, embedded, etcd (did you mean etcd?)',
    ],
    [
      'number out of range',
      'nodeName: n\ndatastore: {kind: static, path: r}\nworkers: 17\n',
      'agent.yaml:3:1: workers: 17: must be from 1 to 16',
    ],
    [
      'not one of several numbers',
      'nodeName: n\ndatastore: {kind: static, path: r}\nsockets: {vxlanSenders: 3}\n',
      'agent.yaml:3:11: sockets.vxlanSenders: 3 is not allowed; allowed: 1, 2, 4, 8, 16, 32, 64',
    ],
    ['missing key', 'log: {}\n', 'agent.yaml:1:1: nodeName: is missing; must be a string'],
    [
      'a BMP collector that is named twice',
      'nodeName: n\ndatastore: {kind: static, path: r}\nbgp: {bmp: [{address: 192.0.2.9, port: 1790}, {address: 192.0.2.9, port: 1790}]}\n',
      'agent.yaml:3:7: bgp.bmp: must name each collector once',
    ],
    [
      'a BMP collector without an address',
      'nodeName: n\ndatastore: {kind: static, path: r}\nbgp: {bmp: [{address: collector.example, port: 1790}]}\n',
      'bgp.bmp.0.address: "collector.example": must be an IP address such as 192.0.2.9',
    ],
    [
      'what a kind of store needs',
      'nodeName: n\ndatastore: {kind: etcd}\n',
      'agent.yaml:2:1: datastore.endpoints: is missing; kind etcd needs it',
    ],
    [
      'what a kind of store has not',
      'nodeName: n\ndatastore:\n  kind: embedded\n  endpoints: [http://192.0.2.9:2379]\n',
      'agent.yaml:4:3: datastore.endpoints: is not for kind embedded',
    ],
    [
      'syntax',
      'nodeName: [\n',
      'agent.yaml:2:1: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    ['empty', '# nothing\n', 'agent.yaml:1:1: is empty; see docs/CONFIG.md for an example'],
  ])('names file, line, path and what is allowed: %s', (_name, text, expected) => {
    expect(complaintOf(text)).toContain(expected);
  });

  it('tells everything that is wrong at once', () => {
    expect(
      complaintOf('nodeName: N\ndatastore: {kind: static, path: r}\nworkers: 99\n').split('\n'),
    ).toHaveLength(2);
  });

  it('says what to do when the file is not there', () => {
    expect(() => loadConfig(join(folder, 'none.yaml'))).toThrow(
      /ENOENT; give the path of the agent’s YAML file/,
    );
  });
});

it('publishes its schema; "npx vitest run control/config -u" writes it anew', async () => {
  // As the formatter has it: short lists on one line.
  const text = JSON.stringify(agentJsonSchema(), null, 2).replace(
    /\[\s+([^[\]{}]*?)\s+\]/g,
    (_, items: string) => `[${items.replaceAll(/\s*\n\s*/g, ' ')}]`,
  );
  await expect(`${text}\n`).toMatchFileSnapshot('../../docs/agent.schema.json');
});
