/** The sockets of BFD: RFC 5881 (one hop) and RFC 5883 (several), IPv4 and IPv6. */
import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { native } from '../../dataplane/native/index.ts';

const SINGLE_HOP_PORT = 3784;
const MULTIHOP_PORT = 4784;
/** RFC 5881 section 4. */
const FIRST_SOURCE_PORT = 49_152;
const LAST_SOURCE_PORT = 65_535;
/** Source ports that are tried until one is free. */
const PORT_ATTEMPTS = 64;
const TTL = 255;
/** Network control (RFC 4594 section 3.1): not behind the traffic whose path is judged. */
const CLASS_SELECTOR_6 = 0xc0;
/** Some thousand packets, for when we are kept from reading. */
const BUFFER_BYTES = 1 << 20;

const kindOf = (address: string): 'udp4' | 'udp6' => (address.includes(':') ? 'udp6' : 'udp4');
/** An address is one: there is nothing to look up. */
const lookup = (address: string, _: unknown, done: (error: null, address: string, family: 4 | 6) => void) =>
  done(null, address, address.includes(':') ? 6 : 4);

function adopt(address: string, fd: number): Socket {
  const socket = createSocket({ type: kindOf(address), lookup: lookup as never });
  socket.bind({ fd });
  return socket;
}

/** Where packets for one of our addresses arrive. */
export class Receiver {
  readonly #socket: Socket;
  readonly #fd: number;

  /** Throws the addon's error if the address cannot be had. */
  constructor(local: string, multihop: boolean, onPacket: (packet: Buffer, from: string) => void) {
    this.#fd = native().datagramOpen({
      address: local,
      port: multihop ? MULTIHOP_PORT : SINGLE_HOP_PORT,
      // Whoever is further away than one hop cannot send with it (RFC 5881 section 5).
      leastTtl: multihop ? 0 : TTL,
      bufferBytes: BUFFER_BYTES,
    });
    this.#socket = adopt(local, this.#fd);
    this.#socket.on('message', (packet, { address }) => onPacket(packet, address));
    // Errors of datagrams sent are told to their senders; here, the next datagram is another.
    this.#socket.on('error', () => {});
  }

  /** Datagrams that the kernel kept from us. */
  get refused(): number {
    return native().socketDrops(this.#fd);
  }

  close(): void {
    this.#socket.close();
  }
}

/** From where one session sends: its source port stays, and is no other session's (RFC 5881 section 4). */
export class Sender {
  readonly #socket: Socket;
  readonly #peer: string;
  readonly #port: number;

  /** Throws the addon's error if the address cannot be had. */
  constructor(local: string, peer: string, multihop: boolean) {
    this.#peer = peer;
    this.#port = multihop ? MULTIHOP_PORT : SINGLE_HOP_PORT;
    this.#socket = adopt(local, openSource(local));
    this.#socket.on('error', () => {});
  }

  /** `onError`: the kernel did not take it. */
  send(packet: Buffer, onError: () => void): void {
    this.#socket.send(packet, this.#port, this.#peer, (error) => error && onError());
  }

  close(): void {
    this.#socket.close();
  }
}

function openSource(local: string): number {
  for (let attempt = 1; ; attempt++) {
    try {
      return native().datagramOpen({
        address: local,
        port: randomInt(FIRST_SOURCE_PORT, LAST_SOURCE_PORT + 1),
        ttl: TTL,
        trafficClass: CLASS_SELECTOR_6,
        sendOnly: true,
      });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}
