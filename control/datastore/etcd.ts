/**
 * etcd v3 as the store of many nodes, by the client `etcd3`. Three habits of that client are not ours: it repeats a write whose
 * fate it does not know, so that a compare-and-swap loses against itself (its retries are off); a watch that connects anew
 * goes on behind the store's present revision, though it had not caught up to it (we say where it is to go on); and a watch
 * that is refused keeps those behind it waiting for ever (each has a client of its own).
 */
import { readFileSync } from 'node:fs';
import {
  ConsecutiveBreaker,
  ConstantBackoff,
  circuitBreaker,
  handleWhen,
  isBrokenCircuitError,
  noop,
} from 'cockatiel';
import {
  type Lease as ClientLease,
  Etcd3,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  type IOptions,
  isRecoverableError,
} from 'etcd3';
import type { IKeyValue, IRangeRequest, IRangeResponse, IWatchResponse } from 'etcd3/lib/rpc.js';
import type { EtcdSettings } from '../config/config.ts';
import { TortieError } from '../error.ts';
import type {
  Entry,
  KeyEvent,
  KeyValueStore,
  KeyWatch,
  Lease,
  Listing,
  ListOptions,
  PutOptions,
} from './kv.ts';

/** A call that is not answered by then has failed. */
const CALL_MS = 5000;
/** A connection on which nothing comes for so long is asked, and given up if there is no answer for as long again. */
const KEEPALIVE_MS = 5000;
/** Pause before a watch connects anew. */
const WATCH_RETRY_MS = 500;
/** An endpoint that failed is left alone for so long, where there are others. */
const SHUN_MS = 1000;
/** Entries that are fetched at a time. */
const PAGE = 1000;
const KEYS_PAGE = 10_000;

export class EtcdStore implements KeyValueStore {
  readonly description: string;
  readonly #client: Etcd3;
  readonly #options: IOptions;
  readonly #tries: number;
  readonly #watches = new Set<() => void>();
  readonly #leases = new Set<ClientLease>();
  /** Why the endpoints are shunned. */
  #lastFailure: unknown;

  /** Connects at the first call. Throws STORE_DENIED if a file of the settings cannot be read, or is no PEM. */
  constructor(settings: Omit<EtcdSettings, 'kind'>) {
    const { endpoints } = settings;
    this.description = `etcd ${endpoints.join(', ')}`;
    this.#tries = endpoints.length + 1;
    this.#options = optionsOf(settings);
    try {
      this.#client = new Etcd3(this.#options);
    } catch (error) {
      const files = 'caFile, certFile and keyFile are PEM files, of which the latter belong together';
      throw new TortieError('STORE_DENIED', `${this.description}: ${(error as Error).message}; ${files}`);
    }
  }

  async get(key: string): Promise<Entry | null> {
    const { kvs } = await this.#range({ key: Buffer.from(key) });
    return kvs[0] ? entryOf(kvs[0]) : null;
  }

  async list(prefix: string, { keysOnly = false, wants }: ListOptions = {}): Promise<Listing> {
    const entries: Entry[] = [];
    const end = endOf(prefix);
    let start = Buffer.from(prefix);
    let revision: string | undefined;
    for (;;) {
      const page = await this.#range({
        key: start,
        range_end: end,
        limit: keysOnly ? KEYS_PAGE : PAGE,
        keys_only: keysOnly,
        ...(revision !== undefined && { revision }),
      });
      // All pages are of the revision of the first.
      revision ??= page.header.revision;
      for (const kv of page.kvs) if (!wants || wants(kv.key.toString())) entries.push(entryOf(kv));
      const last = page.kvs.at(-1);
      if (!page.more || !last) return { entries, revision: Number(revision) };
      start = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  async put(key: string, value: string, { revision, lease }: PutOptions = {}): Promise<Entry> {
    const put = { key: Buffer.from(key), value: Buffer.from(value), ...(lease && { lease: lease.id }) };
    const response = await this.#write(key, revision, { request_put: put });
    return { key, value, revision: Number(response.header.revision) };
  }

  async delete(key: string, revision?: number): Promise<boolean> {
    const request = { request_delete_range: { key: Buffer.from(key) } };
    if (revision !== undefined && !(await this.get(key))) return false;
    const { responses } = await this.#write(key, revision, request);
    return Number(responses[0]?.response_delete_range?.deleted ?? 0) > 0;
  }

  watch(prefix: string, fromRevision: number, watch: KeyWatch): () => void {
    let next = fromRevision;
    let timer: NodeJS.Timeout | undefined;
    let end = () => {};
    const begin = () => {
      const client = new Etcd3(this.#options);
      const watcher = client.watch().prefix(prefix).startRevision(String(next)).watcher();
      end = () => {
        watcher.removeAllListeners();
        watcher.on('error', () => {});
        void watcher.cancel().catch(() => {});
        client.close();
      };
      watcher.on('connecting', (request) => {
        (request as { start_revision?: string }).start_revision = String(next);
      });
      watcher.on('connected', () => watch.onState?.(null));
      watcher.on('disconnected', (error) => watch.onState?.(this.#explain(error).message));
      watcher.on('data', ({ events }: IWatchResponse) => {
        const told = events.map(eventOf).filter((event) => event.revision >= next);
        if (told.length === 0) return;
        next = told.at(-1)!.revision + 1;
        watch.onEvents(told);
      });
      watcher.on('error', (error) => {
        end();
        if (/invalid auth token/.test(error.message)) {
          // A server that started anew knows no token of before; the next client gets one.
          watch.onState?.(this.#explain(error).message);
          timer = setTimeout(begin, WATCH_RETRY_MS);
          return;
        }
        this.#watches.delete(stop);
        watch.onEnd(this.#endOf(error, next));
      });
    };
    const stop = () => {
      this.#watches.delete(stop);
      clearTimeout(timer);
      end();
    };
    begin();
    this.#watches.add(stop);
    return stop;
  }

  async lease(ttl: number): Promise<Lease> {
    const lease = this.#client.lease(ttl);
    const callbacks: (() => void)[] = [];
    lease.on('lost', () => {
      this.#leases.delete(lease);
      for (const callback of callbacks) callback();
    });
    const id = await this.#call(() => lease.grant(), 1);
    this.#leases.add(lease);
    return {
      id,
      onLost: (callback) => void callbacks.push(callback),
      revoke: async () => {
        this.#leases.delete(lease);
        await this.#call(() => lease.revoke(), 1);
      },
    };
  }

  async close(): Promise<void> {
    for (const stop of this.#watches) stop();
    for (const lease of this.#leases) lease.release();
    this.#client.close();
  }

  #range(request: IRangeRequest): Promise<IRangeResponse> {
    return this.#call(() => this.#client.kv.range(request), this.#tries);
  }

  /** A change if the key is at a revision (null: not there; undefined: in any case). */
  async #write(key: string, revision: number | null | undefined, request: Operation) {
    const compare =
      revision === undefined
        ? []
        : [
            {
              key: Buffer.from(key),
              target: 'Mod' as const,
              result: 'Equal' as const,
              mod_revision: String(revision ?? 0),
            },
          ];
    const response = await this.#call(
      () => this.#client.kv.txn({ compare, success: [request], failure: [] }),
      1,
    );
    if (response.succeeded) return response;
    const wanted = revision === null ? 'new' : `at revision ${revision}`;
    throw new TortieError('STORE_CONFLICT', `${key} is not ${wanted}; read it again`);
  }

  /** Call; what surely did not reach a server is tried again, and so is what only reads. */
  async #call<T>(action: () => Promise<T>, tries: number): Promise<T> {
    for (let tried = 1; ; tried++) {
      try {
        return await action();
      } catch (failure) {
        // Where all endpoints are shunned, it counts why they are.
        const error = isBrokenCircuitError(failure) ? (this.#lastFailure ?? failure) : failure;
        this.#lastFailure = error;
        const { message } = error as Error;
        const isUnsent = NOT_SENT.test(message) && tried < this.#tries;
        // Where there is no other endpoint, who was slow is not asked again.
        const isSlow = /DEADLINE_EXCEEDED/.test(message) && this.#tries === 2;
        if (isSlow || (!isUnsent && tried >= tries)) throw this.#explain(error);
      }
    }
  }

  /** Why a watch is over that was to go on from a revision. */
  #endOf(error: Error, next: number): TortieError {
    if (!/compacted|Watcher canceled: $/.test(error.message)) return this.#explain(error);
    const message = `${this.description}: changes from revision ${next} on are no longer known`;
    return new TortieError('STORE_COMPACTED', message);
  }

  /** What went wrong, in the words of kv.ts. */
  #explain(error: unknown): TortieError {
    if (error instanceof TortieError) return error;
    const { message } = error as Error;
    const text = `${this.description}: ${plain(message)}`;
    if (
      error instanceof EtcdPermissionDeniedError ||
      /authent|authoriz|auth token|permission|user name is empty|password|certificate/i.test(message)
    ) {
      return new TortieError(
        'STORE_DENIED',
        `${text}; see username, password and certificates in the settings`,
      );
    }
    if (error instanceof EtcdLeaseInvalidError || /requested lease not found/.test(message)) {
      return new TortieError('STORE_CONFLICT', `${text}; its holder was away for too long`);
    }
    if (/database space exceeded|mvcc: database space/.test(message)) {
      return new TortieError(
        'STORE_FULL',
        `${text}; compact and defragment etcd, then: etcdctl alarm disarm`,
      );
    }
    const advice = /DEADLINE_EXCEEDED/.test(message)
      ? 'is it overloaded, or without a majority of its members?'
      : 'does it run, and are datastore.endpoints right?';
    return new TortieError('STORE_UNAVAILABLE', `${text}; ${advice}`, 1, { cause: error });
  }
}

type Operation = NonNullable<Parameters<Etcd3['kv']['txn']>[0]['success']>[number];

/** What the client says, without its own words around it. */
const plain = (message: string): string =>
  /DEADLINE_EXCEEDED/.test(message)
    ? `no answer within ${CALL_MS / 1000} s`
    : message
        .replace(/^(\d+ [A-Z_]+|Watcher canceled): /, '')
        .replace(/^rpc error: code = \w+ desc = /, '')
        .replace(/^No connection established\. Last error: (Error: )?/, '')
        .replace(/\.? ?Resolution note: ?$/, '');

/** What the client says when no server got the request. */
const NOT_SENT = /No connection established|Failed to connect|ECONNREFUSED/;

function optionsOf({
  endpoints,
  caFile,
  certFile,
  keyFile,
  username,
  password,
}: Omit<EtcdSettings, 'kind'>): IOptions {
  const ca = caFile !== undefined && fileOf(caFile);
  return {
    hosts: [...endpoints],
    ...(ca && {
      credentials: {
        rootCertificate: ca,
        ...(keyFile !== undefined && { privateKey: fileOf(keyFile) }),
        ...(certFile !== undefined && { certChain: fileOf(certFile) }),
      },
    }),
    ...(username !== undefined && { auth: { username, password: password ?? '' } }),
    faultHandling: {
      global: noop,
      host: () => (endpoints.length > 1 ? shunning() : noop),
      watchBackoff: new ConstantBackoff(WATCH_RETRY_MS).next(),
    },
    defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + CALL_MS }),
    grpcOptions: {
      'grpc.max_receive_message_length': -1,
      'grpc.keepalive_time_ms': KEEPALIVE_MS,
      'grpc.keepalive_timeout_ms': KEEPALIVE_MS,
      // A server that comes back is found at once.
      'grpc.initial_reconnect_backoff_ms': WATCH_RETRY_MS,
      'grpc.max_reconnect_backoff_ms': 2 * WATCH_RETRY_MS,
    },
  };
}

/** Have the client take another endpoint when one has failed. */
const shunning = () =>
  circuitBreaker(handleWhen(isRecoverableError), {
    halfOpenAfter: SHUN_MS,
    breaker: new ConsecutiveBreaker(1),
  });

function fileOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new TortieError('STORE_DENIED', `cannot read ${path}: ${code}; see datastore in the settings`);
  }
}

/** The first key behind all that begin so. */
function endOf(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  end[end.length - 1]!++;
  return end;
}

const entryOf = ({ key, value, mod_revision }: IKeyValue): Entry => ({
  key: key.toString(),
  value: value.toString(),
  revision: Number(mod_revision),
});

function eventOf({ type, kv }: IWatchResponse['events'][number]): KeyEvent {
  const entry = entryOf(kv);
  return { key: entry.key, entry: type === 'Put' ? entry : null, revision: entry.revision };
}
