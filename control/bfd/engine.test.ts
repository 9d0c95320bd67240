/** Sessions over real sockets of the loopback device: no rights are needed. */
import { createSocket } from 'node:dgram';
import { afterEach, expect, it } from 'vitest';
import { native } from '../../dataplane/native/index.ts';
import { until } from '../bgp/until.ts';
import { Engine } from './engine.ts';
import { ADMIN_DOWN, DOWN, encode, INIT, LENGTH, type State, UP } from './packet.ts';
import { MAX_SESSIONS, type SessionReport, type SessionSpec } from './protocol.ts';

/** Addresses of this process's own, so that runs side by side do not meet. */
const net = `127.${80 + (process.pid % 16)}.${(process.pid >> 4) % 250}`;
const [A, B, NOBODY] = [`${net}.1`, `${net}.2`, `${net}.3`];
/** Nobody is to be taken for gone because a busy machine is late. */
const FAST = { minTxMs: 50, minRxMs: 50, multiplier: 100 };
const session = (local: string, peer: string, more: Partial<SessionSpec> = {}): SessionSpec => ({
  local,
  peer,
  multihop: false,
  ...FAST,
  ...more,
});

const engines: Engine[] = [];
afterEach(async () => {
  await Promise.all(engines.splice(0).map((engine) => engine.leave()));
});

function engine(...sessions: SessionSpec[]) {
  const changes: SessionReport[] = [];
  const one = new Engine((session) => changes.push(session));
  one.configure(sessions);
  engines.push(one);
  const report = (peer: string) => one.reports().find(({ spec }) => spec.peer === peer);
  const isIn = (peer: string, state: State) =>
    until(`${peer} is in state ${state}`, () => {
      const found = report(peer);
      return found?.state === state && found;
    });
  return { engine: one, changes, report, isIn };
}

/** A datagram to one of our addresses, with the TTL of a neighbour. */
async function throwAt(address: string, port: number, ...datagrams: Uint8Array[]): Promise<void> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => {
    socket.bind({ fd: native().datagramOpen({ address: NOBODY, port: 0, ttl: 255 }) }, resolve);
  });
  for (const bytes of datagrams) {
    await new Promise((resolve) => socket.send(bytes, port, address, resolve));
  }
  socket.close();
}

it('brings two ends up, tells of it once, and takes leave without a failure', async () => {
  const one = engine(session(A, B));
  const other = engine(session(B, A));
  await one.isIn(B, UP);
  await other.isIn(A, UP);
  const before = one.report(B)!;
  expect(before.remoteDiscriminator).toBe(other.report(A)!.discriminator);
  await until('the intervals are agreed on', () => one.report(B)!.txMs === 50);
  // The same again disturbs nobody.
  one.engine.configure([session(A, B)]);
  const left = other.engine.leave();
  expect(other.engine.reports()).toEqual([]);
  const report = await one.isIn(B, DOWN);
  expect(report).toMatchObject({ remoteState: ADMIN_DOWN, failures: 0, discriminator: before.discriminator });
  expect(one.changes.map(({ state, failures }) => [state, failures])).toEqual([
    [INIT, 0],
    [UP, 0],
    [DOWN, 0],
  ]);
  await left;
});

it('serves v6 as well, and several hops on a port of their own', async () => {
  const one = engine(session('::1', '::1', { multihop: true }), session(A, B, { multihop: true }));
  const other = engine(session(B, A, { multihop: true }));
  await one.isIn(B, UP);
  await other.isIn(A, UP);
  // A session with itself: its own packets are the peer's.
  await one.isIn('::1', UP);
});

it('goes on where it was when it is wanted again while it takes leave', async () => {
  const one = engine(session(A, B));
  const other = engine(session(B, A));
  const { discriminator } = await one.isIn(B, UP);
  await other.isIn(A, UP);
  one.engine.configure([]);
  one.engine.configure([session(A, B)]);
  await until('the other end hears', () => other.changes.some((change) => change.state === DOWN));
  await other.isIn(A, UP);
  expect((await one.isIn(B, UP)).discriminator).toBe(discriminator);
  expect(other.changes.some(({ failures }) => failures > 0)).toBe(false);
});

it('is another session in another place', async () => {
  const one = engine(session(A, B));
  const { discriminator } = await until('it is there', () => one.report(B));
  one.engine.configure([session(NOBODY, B)]);
  expect(one.report(B)!.discriminator).not.toBe(discriminator);
});

it('says why an address cannot be had, and has it as soon as it can', async () => {
  const blocker = createSocket('udp4');
  await new Promise<void>((resolve) => blocker.bind(3784, A, resolve));
  const one = engine(session(A, B), session('192.0.2.77', NOBODY));
  expect(one.report(B)).toMatchObject({
    problem: expect.stringContaining(`bind udp ${A} port 3784: EADDRINUSE`),
  });
  expect(one.report(NOBODY)!.problem).toContain('EADDRNOTAVAIL, no interface there has that address');
  blocker.close();
  await until('the session is there', () => one.report(B)!.problem === null);
  expect(one.report(NOBODY)!.problem).not.toBeNull();
});

it('counts what is for no session, by reason, and is disturbed by nothing', async () => {
  const one = engine(session(A, B), session(A, NOBODY, { multihop: true }));
  const other = engine(session(B, A));
  await one.isIn(B, UP);
  await other.isIn(A, UP);
  const mine = one.report(B)!;
  const packet = {
    diagnostic: 0,
    state: DOWN as State,
    poll: false,
    final: false,
    independent: false,
    demand: false,
    multiplier: 3,
    mine: 1,
    yours: mine.discriminator,
    minTxUs: 1,
    minRxUs: 1,
    minEchoRxUs: 0,
  };
  // Our session's discriminator, but by the port where nobody has to be near; and a stranger at either.
  await throwAt(A, 4784, encode(packet));
  await throwAt(
    A,
    3784,
    encode({ ...packet, yours: 0 }),
    encode({ ...packet, yours: (mine.discriminator % 1000) + 1 }),
  );
  await throwAt(
    A,
    3784,
    Buffer.alloc(0),
    Buffer.of(0x20, 0, 3),
    Buffer.alloc(LENGTH),
    Buffer.alloc(1400, 0xff),
  );
  await until(
    'all have come',
    () => Object.values(one.engine.discards).reduce((sum, count) => sum + count) === 7,
  );
  expect(one.engine.discards).toMatchObject({ session: 3, length: 2, version: 2 });
  expect(one.report(B)).toMatchObject({ state: UP, failures: 0, since: mine.since });
});

it('has a limit, and says of whom it has no session', () => {
  const many = Array.from({ length: MAX_SESSIONS + 1 }, (_, i) =>
    session('192.0.2.77', `10.1.${i >> 8}.${i & 255}`),
  );
  const one = engine(...many);
  expect(one.engine.reports()).toHaveLength(MAX_SESSIONS + 1);
  expect(one.report('10.1.16.0')!.problem).toBe(`more than ${MAX_SESSIONS} sessions`);
});
