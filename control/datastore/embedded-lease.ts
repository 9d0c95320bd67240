/** Leases of an embedded store: rows that their holders renew, and that whoever notices it takes away when they are over. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { TortieError } from '../error.ts';
import type { Lease } from './kv.ts';

/** A lease is renewed so many times while it lives. */
const RENEWALS = 3;

export interface LeaseRow {
  /** By a clock that nobody sets, and which boot's: its leases end with it. */
  readonly ends: number;
  readonly boot: string;
}

export class EmbeddedLease implements Lease {
  readonly id = randomUUID();
  readonly #ttl: number;
  readonly #store: { renew(): Promise<boolean>; revoke(): Promise<void>; lost(): void };
  readonly #callbacks: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(ttl: number, store: { renew(): Promise<boolean>; revoke(): Promise<void>; lost(): void }) {
    this.#ttl = ttl;
    this.#store = store;
  }

  onLost(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  keep(): void {
    this.#timer = setInterval(() => void this.#renew(), (this.#ttl * 1000) / RENEWALS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  revoke(): Promise<void> {
    this.stop();
    return this.#store.revoke();
  }

  async #renew(): Promise<void> {
    // A write that fails is tried again at the next turn; the store says when it was too late.
    if (await this.#store.renew().catch(() => true)) return;
    this.stop();
    this.#store.lost();
    for (const callback of this.#callbacks) callback();
  }
}

const BOOT = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
/** Seconds of CLOCK_MONOTONIC, which all processes of a boot share. */
const now = (): number => Number(process.hrtime.bigint()) / 1e9;
export const endOf = (ttl: number): LeaseRow => ({ ends: now() + ttl, boot: BOOT });
export const isOver = ({ ends, boot }: LeaseRow): boolean => boot !== BOOT || ends < now();

export const leaseLost = (id: string) =>
  new TortieError('STORE_CONFLICT', `lease ${id} is over; its holder was away for too long`);
