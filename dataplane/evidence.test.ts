import { expect, it } from 'vitest';
import { DROP } from './drops.ts';
import { createEvidence, EvidenceWriter, KEPT_BYTES, readEvidence } from './evidence.ts';
import { LENGTH, OFFSET, ROW, STATUS } from './memory/burst.ts';
import { MAX_PORTS } from './memory/layout.ts';
import { frame, POD_A, POD_B, packet, Scenario } from './scenario.ts';
import { viewOf } from './wire/bytes.ts';

const evidenceOf = (scenario: Scenario, port: number, reason: keyof typeof DROP) =>
  readEvidence(scenario.tables.evidence, port, DROP[reason]);

it('keeps the last frame of each reason as it was received', () => {
  const scenario = new Scenario();
  scenario.now = 1_700_000_000_123;
  const first = frame(packet({ ttl: 1, destination: '10.65.1.2' }));
  const last = frame(packet({ ttl: 1, destination: '10.65.1.3' }));
  scenario.receive(POD_A, first);
  scenario.receive(POD_A, last);
  expect(evidenceOf(scenario, POD_A, 'ttl_expired')).toEqual({
    time: 1_700_000_000_123,
    length: last.length,
    bytes: last,
  });
  expect(evidenceOf(scenario, POD_B, 'ttl_expired')).toBeNull();
  expect(evidenceOf(scenario, POD_A, 'no_route')).toBeNull();
});

it('keeps the beginning of a long frame, and the whole of a frame of any short length', () => {
  const scenario = new Scenario();
  const long = frame(packet({ destination: '224.0.0.1', payload: new Uint8Array(1000).fill(7) }));
  scenario.receive(POD_A, long);
  const found = evidenceOf(scenario, POD_A, 'multicast')!;
  expect(found.length).toBe(long.length);
  expect(found.bytes).toEqual(long.slice(0, KEPT_BYTES));
  for (let length = 0; length < 14; length++) {
    scenario.receive(POD_A, long.slice(0, length));
    expect(evidenceOf(scenario, POD_A, 'frame_short')!.bytes).toEqual(long.slice(0, length));
  }
});

it('keeps what could not be sent, at the port that it came by', () => {
  const scenario = new Scenario();
  const { pipeline, rows, arena } = scenario;
  const sent = frame(packet());
  arena.set(sent, 128);
  rows.fill(0, 0, ROW);
  rows[OFFSET] = 128;
  rows[LENGTH] = sent.length;
  pipeline.receiveBurst(POD_A, rows, 1);
  const queue = pipeline.egress.rows(POD_B);
  queue[STATUS] = 11; // EAGAIN
  pipeline.transmitted(POD_B, queue, 1);
  pipeline.egress.clear();
  expect(evidenceOf(scenario, POD_A, 'tx_full')?.length).toBe(sent.length);
});

it('is bounded: the newest take the place of others', () => {
  const memory = createEvidence();
  const writer = new EvidenceWriter(memory, 3);
  const bytes = new Uint8Array(64);
  for (let port = 0; port < MAX_PORTS; port++) {
    for (let reason = 0; reason < 4; reason++) {
      bytes[0] = port;
      writer.keep(port, reason, port * 4 + reason, viewOf(bytes), 0, 64);
      // What was kept last is there, whatever went for it.
      expect(readEvidence(memory, port, reason)).toMatchObject({ time: port * 4 + reason, length: 64 });
    }
  }
});

it('answers with the newest of all workers', () => {
  const memory = createEvidence();
  for (const [worker, time] of [5, 9, 7].entries()) {
    new EvidenceWriter(memory, worker).keep(1, 2, time, viewOf(Uint8Array.of(time)), 0, 1);
  }
  expect(readEvidence(memory, 1, 2)).toEqual({ time: 9, length: 1, bytes: Uint8Array.of(9) });
});
