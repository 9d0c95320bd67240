/** What the agent and the BFD process say to each other over a Unix socket: JSON, a message a line. */
import type { Discard } from './packet.ts';
import type { Timers } from './session.ts';

/** Of another number: not ours to speak with. */
export const PROTOCOL = 1;
/** Sessions at most: each has a socket of its own. */
export const MAX_SESSIONS = 4096;
/** Bytes of a message at most: as many sessions as there can be. */
export const MAX_MESSAGE = 4 * 1024 * 1024;

/** A session that is to be. One a peer. */
export interface SessionSpec extends Timers {
  /** IPv4 or IPv6. */
  readonly peer: string;
  /** Our own, of the same family. */
  readonly local: string;
  /** The peer may be more than a hop away (RFC 5883). */
  readonly multihop: boolean;
}

export interface SessionReport {
  readonly spec: SessionSpec;
  /** Ours and the peer's: 0 AdminDown, 1 Down, 2 Init, 3 Up. */
  readonly state: number;
  readonly diagnostic: number;
  readonly remoteState: number;
  readonly remoteDiagnostic: number;
  /** The peer's BFD lives apart from its control plane (the C bit). */
  readonly remoteIndependent: boolean;
  /** Unsigned; the peer's is 0 while it is unknown. */
  readonly discriminator: number;
  readonly remoteDiscriminator: number;
  /** Milliseconds between our packets, as negotiated, and of silence until the peer is gone; 0: not known yet. */
  readonly txMs: number;
  readonly detectionMs: number;
  /** Since when it is in its state: milliseconds since 1970. */
  readonly since: number;
  /** How often the path was to be taken for broken (session.ts). Who misses a message still sees that it has grown. */
  readonly failures: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
  /** Packets that the kernel did not take. */
  readonly sendErrors: number;
  /** Why there is no session at all, or null. */
  readonly problem: string | null;
}

export interface Statistics {
  /** Packets that were not well-formed or for no session, by reason. */
  readonly discards: Readonly<Record<Discard, number>>;
  /** Datagrams that the kernel did not pass on: from too far away (RFC 5881 section 5), or no room. */
  readonly refused: number;
  /** The process's priority: -20 to 19, lower is better. */
  readonly priority: number;
}

export type ToProcess =
  | {
      /** These and no others, from now on. */
      readonly op: 'configure';
      readonly sessions: readonly SessionSpec[];
    }
  /** Take leave of all peers, then end. */
  | { readonly op: 'stop' };

export type FromProcess =
  /** Said first. `netns`: inode of the network namespace. */
  | { readonly op: 'hello'; readonly protocol: number; readonly netns: number; readonly pid: number }
  /** All sessions, after each `configure` and now and then. */
  | { readonly op: 'report'; readonly sessions: readonly SessionReport[]; readonly statistics: Statistics }
  /** A session is in another state. */
  | { readonly op: 'changed'; readonly session: SessionReport }
  /** The process's last words. */
  | { readonly op: 'fatal'; readonly text: string };

export const line = (message: ToProcess | FromProcess): string => `${JSON.stringify(message)}\n`;

/** Cuts a stream of text into messages. Throws on what is none. */
export class Lines<Message> {
  #rest = '';

  *push(text: string): Generator<Message> {
    const parts = (this.#rest + text).split('\n');
    this.#rest = parts.pop()!;
    if (this.#rest.length > MAX_MESSAGE) throw new Error(`a message of more than ${MAX_MESSAGE} bytes`);
    for (const part of parts) yield JSON.parse(part) as Message;
  }
}
