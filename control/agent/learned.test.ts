import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parsePrefix4 } from '../address.ts';
import { LearnedRoutes, MAX_KEPT_ROUTES } from './learned.ts';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-learned-'));
  path = join(folder, 'node1', 'learned.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

const route = (prefix: string, nextHop = 1) => ({
  ...parsePrefix4(prefix),
  nextHop,
  peerLabel: '192.0.2.9 (AS 64512)',
});
const [a, b] = [route('10.65.1.0/26'), route('10.65.2.0/26')];

function restarted(seconds: number): LearnedRoutes {
  new LearnedRoutes(path).save([a, b]);
  const next = new LearnedRoutes(path);
  next.load(seconds, 1000);
  return next;
}

it('keeps what is not told anew, until all is told', () => {
  const learned = restarted(120);
  expect(learned.staleUntil).toEqual(new Date(121_000));
  const newer = { ...a, nextHop: 2 };
  expect(learned.merge([newer], false, 2000)).toEqual([newer, b]);
  // Told anew, it goes with its peer; the other is waited for.
  expect(learned.merge([], false, 2000)).toEqual([b]);
  expect(learned.isOver(false, 2000)).toBe(false);
  expect(learned.isOver(true, 2000)).toBe(true);
  expect(learned.merge([newer], true, 2000)).toEqual([newer]);
  expect(learned).toMatchObject({ staleCount: 0, staleUntil: null });
  expect(learned.isOver(true, 2000)).toBe(false);
});

it('keeps it no longer than it may', () => {
  const learned = restarted(120);
  expect(learned.merge([], false, 120_999)).toEqual([a, b]);
  expect(learned.merge([], false, 121_000)).toEqual([]);
  expect(restarted(0).merge([], false, 1000)).toEqual([]);
});

it('begins without routes where there is no file, or half a one', () => {
  const learned = new LearnedRoutes(path);
  learned.load(120);
  learned.save([a]);
  writeFileSync(path, '{"format":1,"rou');
  learned.load(120);
  expect(learned.merge([], false)).toEqual([]);
});

it('keeps no more than it can write in a moment', () => {
  const learned = restarted(120);
  const many = Array.from({ length: MAX_KEPT_ROUTES + 1 }, (_, index) => ({ ...a, prefix: index << 6 }));
  expect(learned.save(many)).toBe(false);
  const next = new LearnedRoutes(path);
  next.load(120);
  expect(next.staleCount).toBe(0);
});
