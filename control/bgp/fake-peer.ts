/** A peer for tests that sends what it is told, right or wrong, and keeps what it hears. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { parseAddress4 } from '../address.ts';
import { AS_TRANS } from './attributes.ts';
import { type Offering, ourCapabilities } from './capabilities.ts';
import { FAMILIES } from './family.ts';
import { Framer } from './framing.ts';
import {
  decodeNotification,
  encodeOpen,
  frame,
  MAX_EXTENDED_MESSAGE,
  NOTIFICATION,
  OPEN,
} from './message.ts';
import { until } from './until.ts';

export const openOf = (asn: number, routerId: string, holdTime = 90, offering: Partial<Offering> = {}) =>
  encodeOpen({
    as2: asn > 0xffff ? AS_TRANS : asn,
    holdTime,
    routerId: parseAddress4(routerId),
    capabilities: ourCapabilities({
      asn,
      families: FAMILIES,
      restartTime: 0,
      restarting: false,
      longLivedTime: 0,
      addPathReceive: false,
      addPathSend: false,
      role: null,
      ...offering,
    }),
  });

export class FakePeer {
  readonly socket: Socket;
  /** Whole messages heard so far. */
  readonly heard: Uint8Array[] = [];
  closed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    const framer = new Framer();
    framer.limit = MAX_EXTENDED_MESSAGE;
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
    socket.on('data', (chunk: Uint8Array) => {
      framer.push(chunk);
      for (let next = framer.next(); next; next = framer.next()) {
        this.heard.push(frame(next.type, next.bytes.slice(next.offset, next.end)));
      }
    });
  }

  static async dial(from: string, to: string, port: number): Promise<FakePeer> {
    const socket = connect({ host: to, port, localAddress: from });
    await once(socket, 'connect');
    return new FakePeer(socket);
  }

  send(...messages: Uint8Array[]): void {
    for (const message of messages) this.socket.write(message);
  }

  /** The first message of a type. */
  hear(type: number): Promise<Uint8Array> {
    return until(`a message of type ${type}`, () => this.heard.find((message) => message[18] === type));
  }

  /** The NOTIFICATION that ends it all, as "code/subcode data". */
  async notification(): Promise<string> {
    const message = await this.hear(NOTIFICATION);
    const { code, subcode, data } = decodeNotification(message, 19, message.length);
    return `${code}/${subcode} ${Buffer.from(data).toString('hex')}`.trim();
  }

  opened(): boolean {
    return this.heard.some((message) => message[18] === OPEN);
  }
}

/** Where a speaker may dial: every connection becomes a FakePeer. */
export class FakeListener {
  readonly peers: FakePeer[] = [];
  readonly server: Server = createServer((socket) => this.peers.push(new FakePeer(socket)));

  async listen(address: string): Promise<number> {
    this.server.listen(0, address);
    await once(this.server, 'listening');
    return (this.server.address() as { port: number }).port;
  }

  async close(): Promise<void> {
    for (const { socket } of this.peers) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }
}
