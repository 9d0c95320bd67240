/** Passwords (RFC 2385), TTL security (RFC 5082) and source addresses, against BIRD a hop away and two. */
import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Lab, type Service } from '../../bench/lab.ts';
import type { PeerConfig, SpeakerConfig } from '../../control/bgp/config.ts';
import { ACCEPT_ALL } from '../../control/bgp/policy.ts';
import { readCounters } from '../../control/bgp/refusals.ts';
import { Speaker } from '../../control/bgp/speaker.ts';
import { until } from '../../control/bgp/until.ts';
import { noLab } from './in-lab.ts';
import { wire } from './traffic.ts';

const run = promisify(execFile);
const noBird = !existsSync('/usr/sbin/bird') || !existsSync('/usr/sbin/birdc');
if (noBird) console.log('skipped: BGP transport against BIRD (it is not installed; apt-get install bird2)');

/** We are in the lab's own namespace, on one link with `near`, which is the router to `far`. */
const PLACES = {
  IPv4: { ours: '192.0.2.1', other: '192.0.2.9', near: '192.0.2.2', far: '198.51.100.2' },
  IPv6: { ours: '2001:db8:1::1', other: '2001:db8:1::9', near: '2001:db8:1::2', far: '2001:db8:2::2' },
} as const;
const AS = 64512;
const BIRD_AS = 64600;
const TIMERS = { connectMs: 1500, retryMinMs: 200, retryMaxMs: 500 };

describe.skipIf(noLab || noBird)('BGP over', () => {
  let lab: Lab;
  const closers: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    lab = new Lab();
    for (const name of ['near', 'far']) await lab.netns(name);
    await run('ip', 'link add near type veth peer name us netns near'.split(' '));
    for (const address of ['192.0.2.1/24', '192.0.2.9/24', '2001:db8:1::1/64', '2001:db8:1::9/64'])
      await run('ip', [
        'address',
        'add',
        address,
        'dev',
        'near',
        ...(address.includes(':') ? ['nodad'] : []),
      ]);
    await run('ip', ['link', 'set', 'near', 'up']);
    await lab.veth('near', 'far', 'far', 'near');
    await lab.ip(
      'near',
      'link set us up',
      'address add 192.0.2.2/24 dev us',
      'address add 2001:db8:1::2/64 dev us nodad',
      'address add 198.51.100.1/24 dev far',
      'address add 2001:db8:2::1/64 dev far nodad',
    );
    await lab.ip(
      'far',
      'address add 198.51.100.2/24 dev near',
      'address add 2001:db8:2::2/64 dev near nodad',
      'route add default via 198.51.100.1',
      '-6 route add default via 2001:db8:2::1',
    );
    await lab.sysctl('near', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    await run('ip', ['route', 'add', '198.51.100.0/24', 'via', '192.0.2.2']);
    await run('ip', ['-6', 'route', 'add', '2001:db8:2::/64', 'via', '2001:db8:1::2']);
    for (const { near, far } of Object.values(PLACES)) {
      for (const address of [near, far]) {
        await until(`${address} answers`, () =>
          run('ping', ['-c1', '-W1', address]).then(
            () => true,
            () => false,
          ),
        );
      }
    }
  });
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
  afterAll(async () => {
    await lab?.close();
    await run('ip', ['link', 'delete', 'near']).catch(() => {});
  });

  interface BirdSide {
    at: 'near' | 'far';
    address: string;
    /** Ours, as BIRD knows it. */
    neighbour: string;
    options: string;
  }

  /** Start BIRD in a namespace; how it sees the session, in its words. */
  async function bird({ at, address, neighbour, options }: BirdSide): Promise<() => Promise<string>> {
    const file = join(lab.folder, `${at}.conf`);
    const socket = join(lab.folder, `${at}.ctl`);
    const family = address.includes(':') ? 'ipv6' : 'ipv4';
    writeFileSync(
      file,
      `router id 10.0.0.2;
       protocol device {}
       protocol bgp ours {
         local ${address} as ${BIRD_AS};
         neighbor ${neighbour} as ${AS};
         ${options}
         connect delay time 1; connect retry time 1; error wait time 1, 2;
         ${family} { import all; export all; };
       }`,
    );
    const service: Service = lab.spawn(at, 'timeout', [
      '100',
      '/usr/sbin/bird',
      '-f',
      '-c',
      file,
      '-s',
      socket,
    ]);
    closers.push(() => service.stop());
    const status = async () =>
      (await run('/usr/sbin/birdc', ['-s', socket, 'show', 'protocols', 'all', 'ours'])).stdout;
    await until('BIRD answers', () => status().catch(() => null));
    return status;
  }

  const config = (ours: string, peer: PeerConfig): SpeakerConfig => ({
    asn: AS,
    routerId: '10.0.0.1',
    listen: { addresses: [ours], port: 179 },
    originate: [],
    timers: TIMERS,
    peers: [peer],
  });

  const logged: string[] = [];
  async function speaker(ours: string, peer: PeerConfig): Promise<Speaker> {
    logged.length = 0;
    const made = new Speaker({
      ...config(ours, peer),
      log: (level, message, fields) => logged.push(`${level} ${message} ${JSON.stringify(fields)}`),
    });
    closers.push(() => made.stop());
    await made.start();
    return made;
  }

  const established = (s: Speaker) =>
    until('the session', () => s.peers()[0]!.state === 'Established').catch((error) => {
      throw new Error(`${error.message}; ${s.peers()[0]!.lastError}; ${logged.join('\n')}`);
    });
  const says = (s: Speaker, words: RegExp) =>
    until(`"${words}" is said`, () => words.test(s.peers()[0]!.lastError ?? '')).catch((error) => {
      throw new Error(`${error.message}; ${s.peers()[0]!.lastError}; ${logged.join('\n')}`);
    });
  const peerOf = (address: string, more: Partial<PeerConfig>): PeerConfig => ({
    address,
    asn: BIRD_AS,
    label: 'global',
    importPolicy: ACCEPT_ALL,
    exportPolicy: ACCEPT_ALL,
    ...more,
  });

  describe.each(Object.entries(PLACES))('%s', (_family, { ours, other, near, far }) => {
    it.each(['we dial', 'BIRD dials'])('has a password and TTL security where %s', async (who) => {
      const passive = who === 'BIRD dials';
      const options = `direct; ttl security on; password "of both"; ${passive ? '' : 'passive;'}`;
      const status = await bird({ at: 'near', address: near, neighbour: ours, options });
      const s = await speaker(ours, peerOf(near, { password: 'of both', ttlSecurity: 1, passive }));
      await established(s);
      expect(await status()).toMatch(/Established/);
      // The key is the connection's own.
      const { stdout } = await run('ss', ['-Htni', 'dst', `[${near}]`]);
      expect(stdout).toContain(`md5keys:${near}`);
    });

    it('signs every segment that it sends, and sends it with 255', async () => {
      // The signature is the first option: two NOPs, kind 19, 18 bytes.
      const SIGNED = '0x01011312';
      const [ttl, option] = ours.includes(':') ? ['ip6[7]', 'ip6[60:4]'] : ['ip[8]', 'tcp[20:4]'];
      const sent = `src host ${ours} and tcp`;
      const session = async () => {
        const close = closers.length;
        const options = 'direct; ttl security on; password "of both";';
        await bird({ at: 'near', address: near, neighbour: ours, options });
        const s = await speaker(ours, peerOf(near, { password: 'of both', ttlSecurity: 1 }));
        await established(s);
        for (const end of closers.splice(close).reverse()) await end();
      };
      const other = `${sent} and (${ttl} != 255 or ${option} != ${SIGNED})`;
      expect(await wire(lab, 'near', 'us', other, session)).toBeNull();
      const as = `${sent} and ${ttl} = 255 and ${option} = ${SIGNED}`;
      expect(await wire(lab, 'near', 'us', as, session)).not.toBeNull();
    });

    it('lets a peer whose key the kernel does not take neither dial nor connect', async ({ skip }) => {
      const set = (bytes: string) => run('sysctl', ['-qw', `net.core.optmem_max=${bytes}`]);
      const before = (await run('sysctl', ['-n', 'net.core.optmem_max'])).stdout.trim();
      const mayNot = await set('64').then(
        () => null,
        (error: Error) => `net.core.optmem_max cannot be set here: ${error.message}`,
      );
      if (mayNot) console.log(`skipped: ${mayNot}`);
      skip(mayNot !== null);
      closers.push(() => set(before));
      await bird({ at: 'near', address: near, neighbour: ours, options: 'direct;' });
      const s = await speaker(ours, peerOf(near, { password: 'x', passive: true }));
      await says(s, /^setsockopt TCP_MD5SIG for .*: ENOMEM, too many keys .*: raise net.core.optmem_max/);
      await until('BIRD is refused', () => /connection of .* refused: setsockopt/.test(logged.join()));
      await s.reconfigure(config(ours, peerOf(near, { password: 'x' })));
      await says(s, /^cannot connect: setsockopt TCP_MD5SIG for .*: ENOMEM/);
      await s.reconfigure(config(ours, peerOf(near, { ttlSecurity: 1, passive: true })));
      await says(s, /^setsockopt SO_ATTACH_FILTER .*: ENOMEM/);
      await set(before);
      await s.reconfigure(config(ours, peerOf(near, {})));
      await established(s);
    });

    it('takes no key from another session: a peer without one beside it', async () => {
      await bird({ at: 'near', address: near, neighbour: ours, options: 'direct;' });
      const s = await speaker(ours, peerOf(near, {}));
      await s.reconfigure({
        ...config(ours, peerOf(near, {})),
        peers: [peerOf(near, {}), peerOf(far, { password: 'x', ttlSecurity: 1, passive: true })],
      });
      await established(s);
    });

    it('does not come up with a wrong password, and says why', async () => {
      await bird({ at: 'near', address: near, neighbour: ours, options: 'direct; password "theirs";' });
      const s = await speaker(ours, peerOf(near, { password: 'ours', passive: true }));
      await says(s, /^the kernel refused \d+ segments? with a wrong MD5 signature \(TCPMD5Failure\)/);
      expect(s.peers()[0]!.state).toBe('Active');
      expect(logged.join()).toContain('the peer cannot connect');
    });

    it('says what it can where it dials with a wrong password', async () => {
      const options = 'direct; passive; password "theirs";';
      await bird({ at: 'near', address: near, neighbour: ours, options });
      const s = await speaker(ours, peerOf(near, { password: 'ours' }));
      await says(s, /no answer in 1.5 s; so it is with a peer that has another password or none/);
      expect(s.peers()[0]!.counters.established).toBe(0);
    });

    it('does not come up where one side alone has a password', async () => {
      await bird({ at: 'near', address: near, neighbour: ours, options: 'direct; password "theirs";' });
      const s = await speaker(ours, peerOf(near, {}));
      await says(s, /with an MD5 signature from where none is configured \(TCPMD5Unexpected\)/);
      expect(s.peers()[0]!.counters.established).toBe(0);
    });

    it('does not come up with a peer that does not sign', async () => {
      await bird({ at: 'near', address: near, neighbour: ours, options: 'direct;' });
      const s = await speaker(ours, peerOf(near, { password: 'ours' }));
      await says(s, /without the MD5 signature that they need \(TCPMD5NotFound\)/);
      expect(s.peers()[0]!.counters.established).toBe(0);
    });

    it.each(['we dial', 'BIRD dials'])('takes another password, where %s', async (who) => {
      const passive = who === 'BIRD dials';
      const options = `direct; password "second"; ${passive ? '' : 'passive;'}`;
      await bird({ at: 'near', address: near, neighbour: ours, options });
      const s = await speaker(ours, peerOf(near, { password: 'first', passive }));
      await says(s, passive ? /TCPMD5Failure/ : /no answer/);
      await s.reconfigure(config(ours, peerOf(near, { password: 'second', passive })));
      await established(s);
      // None any more: the session ends, and BIRD, which signs, is not let in.
      await s.reconfigure(config(ours, peerOf(near, { passive })));
      await says(s, /TCPMD5Unexpected|no answer/);
      expect(s.peers()[0]!.state).not.toBe('Established');
    });

    it.each(['we dial', 'BIRD dials'])('counts hops where %s', async (who) => {
      const passive = who === 'BIRD dials';
      const options = `multihop 2; ttl security on; ${passive ? '' : 'passive;'}`;
      const status = await bird({ at: 'far', address: far, neighbour: ours, options });
      const s = await speaker(ours, peerOf(far, { ttlSecurity: 1, passive }));
      await says(
        s,
        passive
          ? /^the kernel refused \d+ segments? where we listen, as it does from further away than/
          : /from further away than TTL security allows \(TCPMinTTLDrop\)/,
      );
      // Its SYN goes no further than the socket that listens.
      if (passive) expect(await status()).toMatch(/BGP state: +Connect/);
      expect(s.peers()[0]!.counters.established).toBe(0);
      await s.reconfigure(config(ours, peerOf(far, { ttlSecurity: 2, passive })));
      await established(s);
    });

    it('says why no OPEN comes of a neighbour that has no TTL security', async () => {
      // What accepts connections in BIRD answers with 255, and each of them sends with 1.
      await bird({ at: 'near', address: near, neighbour: ours, options: 'direct; passive;' });
      const s = await speaker(ours, peerOf(near, { ttlSecurity: 1 }));
      await says(s, /^no OPEN comes: the kernel refused .* from further away than TTL security allows/);
      expect(s.peers()[0]!.state).toBe('OpenSent');
    });

    it('sends with 255, and a peer that wants that of a neighbour knows one from a router', async () => {
      const dropped = async () => {
        const file = join(lab.folder, 'netstat');
        writeFileSync(file, await lab.run('far', 'cat', ['/proc/self/net/netstat']));
        return readCounters(file).TCPMinTTLDrop;
      };
      const before = await dropped();
      const options = 'multihop 1; ttl security on;';
      await bird({ at: 'far', address: far, neighbour: ours, options });
      const s = await speaker(ours, peerOf(far, { ttlSecurity: 2, passive: true }));
      await until('BIRD refuses 254', async () => (await dropped()) > before);
      expect(s.peers()[0]!.counters.established).toBe(0);
    });

    it('dials from the address that is configured', async () => {
      const options = 'direct; passive; password "of both";';
      await bird({ at: 'near', address: near, neighbour: other, options });
      const s = await speaker(ours, peerOf(near, { password: 'of both', localAddress: other }));
      await established(s);
      expect(s.peers()[0]!.localAddress).toBe(other);
    });

    it('says which source address there is none of', async () => {
      const s = await speaker(ours, peerOf(near, { localAddress: far }));
      await says(s, /^cannot connect: bind TCP .* port 0: EADDRNOTAVAIL, no interface here has that address/);
    });
  });
});
