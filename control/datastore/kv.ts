/**
 * The store beneath resources and IPAM: keys with text values, each change at a revision of its own. Embedded for one
 * machine (embedded.ts), etcd for many (etcd.ts); one suite of tests holds both to what is said here. Keys are laid
 * out as Calico's (keys.ts).
 *
 * Errors are TortieErrors: STORE_CONFLICT (somebody was faster: read again), STORE_UNAVAILABLE (nobody answers; nothing
 * is known of the request's fate), STORE_COMPACTED (a watch from too long ago: list again), STORE_FULL, STORE_CORRUPT,
 * STORE_DENIED, STORE_READ_ONLY.
 */
export interface Entry {
  readonly key: string;
  readonly value: string;
  /** Of the store at the last change of this key. */
  readonly revision: number;
}

export interface KeyEvent {
  readonly key: string;
  /** Null: the key was deleted. */
  readonly entry: Entry | null;
  readonly revision: number;
}

export interface Listing {
  readonly entries: readonly Entry[];
  /** Of the store when it was listed: watch from the next one on, and nothing is missed. */
  readonly revision: number;
}

export interface ListOptions {
  /** Values are empty. */
  readonly keysOnly?: boolean;
  /** Entries of other keys are left out as they come: of a great many few are wanted. */
  readonly wants?: (key: string) => boolean;
}

export interface KeyWatch {
  /** Changes of one or several revisions, in order; a revision is never torn. */
  readonly onEvents: (events: readonly KeyEvent[]) => void;
  /**
   * The watch is over. STORE_COMPACTED: list again and watch from there. A connection that is lost and found again is
   * no end: the watch goes on where it was.
   */
  readonly onEnd: (error: Error) => void;
  /** The connection was lost (why) or is back (null). */
  readonly onState?: (problem: string | null) => void;
}

export interface PutOptions {
  /** Write only if the key is at this revision; null: only if it is not there. Left out: in any case. */
  readonly revision?: number | null;
  /** The key goes with this lease. */
  readonly lease?: Lease;
}

/** Kept alive by its holder until it is revoked or the holder is gone for longer than its time to live. */
export interface Lease {
  readonly id: string;
  /** Calls back once if the lease is lost: its keys are gone. */
  onLost(callback: () => void): void;
  revoke(): Promise<void>;
}

export interface KeyValueStore {
  /** What this store is, for people: "etcd http://192.0.2.9:2379". */
  readonly description: string;
  get(key: string): Promise<Entry | null>;
  /** All entries whose keys begin so, by key, as of one revision. */
  list(prefix: string, options?: ListOptions): Promise<Listing>;
  /** Resolves when the change would survive a power cut. */
  put(key: string, value: string, options?: PutOptions): Promise<Entry>;
  /** False if the key is not there. `revision`: as in `put`. */
  delete(key: string, revision?: number): Promise<boolean>;
  /** Changes under a prefix from a revision on, until the returned function is called. */
  watch(prefix: string, fromRevision: number, watch: KeyWatch): () => void;
  /** `ttl`: seconds. */
  lease(ttl: number): Promise<Lease>;
  close(): Promise<void>;
}
