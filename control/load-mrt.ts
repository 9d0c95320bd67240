/** An MRT file in tables of its own, to ask the questions that a running speaker is asked. */
import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { routesOf, type Tables, whyOf } from './agent/bgp-routes.ts';
import type { BgpRouteQuery, BgpRouteView, BgpWhyView } from './api/types.ts';
import { RecordReader } from './bgp/mrt.ts';
import { MrtLoader, type MrtSummary } from './bgp/mrt-load.ts';
import { EX_DATAERR, EX_NOINPUT, TortieError } from './error.ts';

const GZIP = [0x1f, 0x8b];
const BZIP2 = [0x42, 0x5a, 0x68];
const XZ = [0xfd, 0x37, 0x7a];

export interface LoadedMrt {
  readonly summary: MrtSummary & {
    /** Of the file, uncompressed. */
    readonly bytes: number;
    /** Different AS paths. */
    readonly asPaths: number;
    readonly seconds: number;
    /** What the process has taken since it began to read, resident. */
    readonly memoryBytes: number;
  };
  /** As BgpView.routes. */
  routes(query: BgpRouteQuery): Iterable<BgpRouteView | null>;
  /** As BgpView.why. */
  why(prefix: string): BgpWhyView;
}

/**
 * Read a file, compressed by gzip or not. `asn`: our AS, where the file does not say it. Throws MRT_FILE with the offset
 * where it cannot be read on.
 */
export async function loadMrt(file: string, asn: number | null = null): Promise<LoadedMrt> {
  const start = performance.now();
  const before = process.memoryUsage.rss();
  const loader = new MrtLoader({ asn });
  const reader = new RecordReader();
  try {
    for await (const chunk of contents(file)) {
      reader.push(chunk);
      for (let record = reader.next(); record; record = reader.next()) loader.take(record);
      await loader.settled();
    }
    reader.finish();
  } catch (error) {
    throw explained(file, error);
  }
  const seconds = (performance.now() - start) / 1000;
  const memoryBytes = Math.max(0, process.memoryUsage.rss() - before);
  const tables: Tables = {
    ribs: loader.ribs,
    source: () => null,
    adjOutAt: () => [],
    refusalOf: () => null,
    withheld: () => null,
  };
  return {
    summary: {
      ...loader.summary(),
      bytes: reader.offset,
      asPaths: countAsPaths(loader),
      seconds,
      memoryBytes,
    },
    routes: (query) => routesOf(tables, query, null),
    why: (prefix) => whyOf(tables, prefix, null),
  };
}

async function* contents(file: string): AsyncGenerator<Uint8Array> {
  const stream = createReadStream(file);
  const chunks = stream[Symbol.asyncIterator]();
  const first = (await chunks.next()) as IteratorResult<Buffer, undefined>;
  if (first.done) return;
  const begins = (magic: readonly number[]) => magic.every((byte, i) => first.value[i] === byte);
  if (begins(BZIP2)) throw packed(file, 'bzip2', 'bunzip2 --keep');
  if (begins(XZ)) throw packed(file, 'xz', 'unxz --keep');
  const all = async function* () {
    yield first.value;
    yield* { [Symbol.asyncIterator]: () => chunks } as AsyncIterable<Buffer>;
  };
  if (!begins(GZIP)) return yield* all();
  const gunzip = createGunzip();
  // An error shows where it is read.
  pipeline(Readable.from(all()), gunzip, () => {});
  yield* gunzip as AsyncIterable<Buffer>;
}

const packed = (file: string, by: string, tool: string) =>
  new TortieError(
    'MRT_FILE',
    `${file} is compressed by ${by}, which is not read; run: ${tool} ${file}`,
    EX_DATAERR,
  );

function explained(file: string, error: unknown): unknown {
  if (error instanceof TortieError) {
    if (error.code !== 'MRT_FILE' || error.exitCode !== 1) return error;
    return new TortieError('MRT_FILE', `${file}: ${error.message}`, EX_DATAERR);
  }
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  if (code.startsWith('Z_'))
    return new TortieError('MRT_FILE', `${file}: its gzip is damaged: ${message}`, EX_DATAERR);
  return new TortieError(
    'MRT_FILE',
    `cannot read ${file}: ${code}; give the path of an MRT file`,
    EX_NOINPUT,
  );
}

function countAsPaths({ ribs }: MrtLoader): number {
  const sets = new Set<number>();
  const paths = new Set<string>();
  for (const rib of ribs) {
    for (let id = 0; id < rib.end; id++) {
      for (const { set } of rib.pathsAt(id)) {
        if (sets.has(set.id)) continue;
        sets.add(set.id);
        paths.add(JSON.stringify(set.attributes.asPath));
      }
    }
  }
  return paths.size;
}
