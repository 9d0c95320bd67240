import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../bgp/until.ts';
import { EmbeddedStore } from './embedded.ts';
import { cutPower } from './power-cut.ts';

const BUILT = new URL('../../dist/control/datastore/embedded.js', import.meta.url).href;
/** Opens the store in the folder of its argument, puts until it fails, and prints what came of it. */
const FILL = `
const { EmbeddedStore } = await import(${JSON.stringify(BUILT)});
const report = { put: 0, code: null, message: '', left: 0, freed: false };
try {
  const store = new EmbeddedStore(process.argv[1]);
  try {
    for (; report.put < 200; report.put++) await store.put('/a/' + report.put, 'x'.repeat(20_000));
  } catch (error) {
    Object.assign(report, { code: error.code, message: error.message });
  }
  report.left = (await store.list('/a/')).entries.length;
  report.freed = await store.delete('/a/0');
  await store.close();
} catch (error) {
  Object.assign(report, { code: error.code, message: error.message });
}
console.log(JSON.stringify(report));
`;
/** Holds a lease in the store of its argument, and says when it has it and when it is lost. */
const HOLD = `
const { EmbeddedStore } = await import(${JSON.stringify(BUILT)});
const store = new EmbeddedStore(process.argv[1]);
const lease = await store.lease(1);
lease.onLost(() => console.log('lost'));
await store.put('/leased', 'alive', { lease });
console.log('held');
setInterval(() => {}, 1000);
`;
/** A mount namespace: root makes one at once, others as root of their own. */
const UNSHARE = process.getuid!() === 0 ? ['-m'] : ['-rm'];
const canMount = spawnSync('unshare', [...UNSHARE, 'true']).status === 0;

let folder: string;
let stores: EmbeddedStore[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tortie-store-'));
  stores = [];
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  rmSync(folder, { recursive: true, force: true });
});
const open = (path = folder) => {
  const store = new EmbeddedStore(path);
  stores.push(store);
  return store;
};
const fill = (program: string, args: readonly string[]) => {
  const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (!stdout) throw new Error(stderr || 'the program was ended');
  return JSON.parse(stdout) as { put: number; code: string; message: string; left: number; freed: boolean };
};
const node = (path: string) => [process.execPath, '--input-type=module', '-e', FILL, path];

describe('power cuts', () => {
  it('lose nothing that was acknowledged, and tear nothing', async () => {
    const { acknowledged, revisions } = await cutPower(folder, 20, open);
    expect(acknowledged).toBeGreaterThan(50);
    expect(revisions).toBeGreaterThanOrEqual(acknowledged);
  });
});

describe('a lease', () => {
  it('is lost by a holder that stood still for too long', async () => {
    const store = open();
    const holder = spawn(process.execPath, ['--input-type=module', '-e', HOLD, folder]);
    try {
      let output = '';
      holder.stdout.on('data', (data: Buffer) => {
        output += data.toString();
      });
      await until('it is held', () => output === 'held\n');
      holder.kill('SIGSTOP');
      await until('it is over', async () => (await store.get('/leased')) === null);
      holder.kill('SIGCONT');
      await until('the holder knows', () => output === 'held\nlost\n');
    } finally {
      holder.kill('SIGKILL');
    }
  });
});

describe('a damaged store', () => {
  const file = () => join(folder, 'data.mdb');
  beforeEach(async () => {
    const store = new EmbeddedStore(folder);
    await Promise.all(
      Array.from({ length: 500 }, (_, i) => store.put(`/a/${i}`, 'x'.repeat(i % 50 === 0 ? 20_000 : 100))),
    );
    await store.close();
  });

  it('is read as it was while it is whole', async () => {
    expect((await open().list('/a/')).entries).toHaveLength(500);
  });

  it('is refused wherever it is cut off', async () => {
    const { size } = statSync(file());
    for (const length of [1, 100, 4096, 4100, 8192, Math.floor(size / 2), size - 4096]) {
      truncateSync(file(), length);
      expect(() => open(), `${length} bytes`).toThrow(expect.objectContaining({ code: 'STORE_CORRUPT' }));
    }
    // As if it had just been made.
    truncateSync(file(), 0);
    expect((await open().list('/a/')).entries).toEqual([]);
  });

  it('is refused, or read, wherever somebody wrote over it, but never ends the process', () => {
    const { size } = statSync(file());
    const copy = readFileSync(file());
    for (let page = 0; page < size / 4096; page += 3) {
      const descriptor = openSync(file(), 'r+');
      writeSync(descriptor, randomBytes(4096), 0, 4096, page * 4096);
      let code = 'none';
      try {
        open();
      } catch (error) {
        ({ code } = error as { code: string });
      }
      // A page that is free, or within a large value, is missed by nobody here.
      expect(['none', 'STORE_CORRUPT']).toContain(code);
      if (page === 0) expect(code).toBe('STORE_CORRUPT');
      writeFileSync(file(), copy);
    }
  });

  it('says what to do', () => {
    writeFileSync(file(), 'something else');
    expect(() => open()).toThrow(
      `${folder}: data.mdb does not begin as a store does, at byte 0; it is damaged: move the folder away, then put a copy back or begin anew`,
    );
  });

  it('is refused where it stands no longer', async () => {
    const store = open();
    const other = `${folder}-moved`;
    cpSync(folder, other, { recursive: true });
    renameSync(join(other, 'data.mdb'), file());
    rmSync(other, { recursive: true });
    await expect(store.put('/b', '1')).rejects.toMatchObject({
      code: 'STORE_UNAVAILABLE',
      message: `${folder}: data.mdb was replaced while it was in use; start again whatever uses it`,
    });
    rmSync(folder, { recursive: true });
    await expect(store.put('/b', '1')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
  });
});

describe('files', () => {
  it('are for their owner only', () => {
    const inner = join(folder, 'new/store');
    open(inner);
    const modes = ['', 'data.mdb', 'data.mdb-lock', 'changed'].map(
      (name) => statSync(join(inner, name)).mode & 0o777,
    );
    expect(modes).toEqual([0o700, 0o600, 0o600, 0o600]);
  });

  it('of others are denied', () => {
    const locked = join(folder, 'locked');
    mkdirSync(locked);
    chmodSync(locked, 0);
    // Even root is as others are without these capabilities.
    const args = ['--bounding-set', '-all', '--inh-caps', '-all', ...node(locked)];
    const report =
      process.getuid!() === 0 ? fill('setpriv', args) : fill(process.execPath, node(locked).slice(1));
    chmodSync(locked, 0o700);
    expect(report.code).toBe('STORE_DENIED');
    expect(report.message).toMatch(/locked: .*run as the user that owns it/);
  });

  it('are no folder', () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(() => open(file)).toThrow(expect.objectContaining({ code: 'STORE_DENIED' }));
  });
});

describe.skipIf(!canMount)('a full disk', () => {
  const full = (prepare: string, path = `${folder}/s`) => {
    const script = `mount -t tmpfs -o size=1m none '${folder}' && ${prepare} exec "$@"`;
    return fill('unshare', [...UNSHARE, 'sh', '-c', script, 'sh', ...node(path)]);
  };

  it('loses nothing, is told, and goes on when there is room', () => {
    const report = full('');
    expect(report.code).toBe('STORE_FULL');
    expect(report.message).toMatch(/make room on its file system, nothing that was stored is lost$/);
    expect(report.put).toBeGreaterThan(5);
    expect(report.left).toBe(report.put);
    expect(report.freed).toBe(true);
  });

  it('is told before anything is made on it', () => {
    expect(full(`dd if=/dev/zero of='${folder}/z' bs=4096 2>&- ;`).code).toBe('STORE_FULL');
  });
});
