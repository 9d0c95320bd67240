/** What a session tells of one family: a member of an update group, with the marks of its connection (RFC 4724, 7313). */
import type { PathSource } from '../rib/decision.ts';
import type { Connection } from './connection.ts';
import type { Family } from './family.ts';
import { encodeRouteRefresh, REFRESH_BEGIN, REFRESH_END } from './message.ts';
import { endOfRib } from './update.ts';
import type { Member, UpdateGroup } from './update-group.ts';

export class Outgoing implements Member {
  readonly family: Family;
  readonly source: PathSource;
  readonly #connection: Connection;
  readonly #isMarked: boolean;
  group: UpdateGroup;
  endOfRibSent = false;
  /** Marks of RFC 7313 are open. */
  #isRefreshing = false;
  #full = false;

  constructor(
    family: Family,
    source: PathSource,
    connection: Connection,
    isMarked: boolean,
    group: UpdateGroup,
  ) {
    this.family = family;
    this.source = source;
    this.#connection = connection;
    this.#isMarked = isMarked;
    this.group = group;
  }

  send(messages: Uint8Array): boolean {
    const hasRoom = this.#connection.send(messages);
    this.#full = !hasRoom;
    return hasRoom;
  }

  synchronised(): void {
    const { afi, safi } = this.family;
    if (this.#isRefreshing) this.#connection.send(encodeRouteRefresh({ afi, safi, subtype: REFRESH_END }));
    this.#isRefreshing = false;
    if (!this.endOfRibSent) this.#connection.send(endOfRib(this.family));
    this.endOfRibSent = true;
  }

  /** The peer asks for everything again. */
  refresh(): void {
    const { afi, safi } = this.family;
    if (this.#isMarked && !this.#isRefreshing && this.endOfRibSent) {
      this.#isRefreshing = true;
      this.#connection.send(encodeRouteRefresh({ afi, safi, subtype: REFRESH_BEGIN }));
    }
    this.group.refresh(this);
  }

  drained(): void {
    if (!this.#full) return;
    this.#full = false;
    this.group.drained(this);
  }
}
