/** An etcd of a test's own: a folder, ports of loopback, and an end with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../bgp/until.ts';

/** Whatever becomes of the test: the server ends by then, seconds. */
const LIFETIME = '300';

/** Paths of PEM files; clients must have a certificate of the authority, too. */
export interface EtcdTls {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

export class EtcdServer {
  readonly endpoint: string;
  readonly #peer: string;
  /** Always in the clear, unlike the endpoint. */
  readonly #health: string;
  readonly #tls: EtcdTls | undefined;
  readonly #folder = mkdtempSync(join(tmpdir(), 'tortie-etcd-'));
  #child: ChildProcess | null = null;

  private constructor([client, peer, health]: readonly number[], tls: EtcdTls | undefined) {
    this.endpoint = `${tls ? 'https' : 'http'}://127.0.0.1:${client}`;
    this.#peer = `http://127.0.0.1:${peer}`;
    this.#health = `http://127.0.0.1:${health}`;
    this.#tls = tls;
  }

  static async start(tls?: EtcdTls): Promise<EtcdServer> {
    const server = new EtcdServer([await freePort(), await freePort(), await freePort()], tls);
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const urls = ['--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint];
    const peers = ['--listen-peer-urls', this.#peer, '--initial-advertise-peer-urls', this.#peer];
    const cluster = ['--initial-cluster', `default=${this.#peer}`, '--data-dir', this.#folder];
    const other = ['--listen-metrics-urls', this.#health, '--log-level', 'error'];
    const tls = this.#tls
      ? ['--client-cert-auth', '--trusted-ca-file', this.#tls.caFile].concat(
          ['--cert-file', this.#tls.certFile],
          ['--key-file', this.#tls.keyFile],
        )
      : [];
    const args = ['-s', 'KILL', LIFETIME, 'etcd', ...urls, ...peers, ...cluster, ...other, ...tls];
    this.#child = spawn('timeout', args, {
      stdio: 'ignore',
      env: { ...process.env, ETCD_UNSUPPORTED_ARCH: '' },
    });
    await until('etcd answers', async () => {
      if (this.#child?.exitCode !== null)
        throw new Error('etcd ended at once: is the Debian package etcd-server here?');
      const response = await fetch(`${this.#health}/health`).catch(() => null);
      return response?.ok ?? false;
    });
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }

  /** Have the server stand still, with all its connections, until `resume`. Its threads stop one by one. */
  async pause(): Promise<void> {
    const pid = this.#pid;
    process.kill(pid, 'SIGSTOP');
    const isStopped = (task: string) =>
      / T /.test(readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8').replace(/^.*\)/, ''));
    await until('etcd stands still', () => readdirSync(`/proc/${pid}/task`).every(isStopped));
  }

  resume(): void {
    process.kill(this.#pid, 'SIGCONT');
  }

  /** Of etcd, which is the child of our child. */
  get #pid(): number {
    const { pid } = this.#child!;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'));
  }

  async close(): Promise<void> {
    if (this.#child) this.resume();
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Call etcd's own JSON gateway. */
  async call(path: string, body: unknown): Promise<unknown> {
    const response = await fetch(`${this.endpoint}/v3/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`etcd: ${path}: ${await response.text()}`);
    return response.json();
  }
}

/** A way to a server that can be cut and mended. */
export class CuttableWay {
  readonly endpoint: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;

  private constructor(server: Server, port: number, to: string) {
    this.endpoint = `http://127.0.0.1:${port}`;
    this.#server = server;
    server.on('connection', (near) => {
      if (this.#isCut) return void near.destroy();
      const far = connect(Number(new URL(to).port), '127.0.0.1');
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
  }

  static async to(endpoint: string): Promise<CuttableWay> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new CuttableWay(server, (server.address() as { port: number }).port, endpoint);
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  close(): void {
    this.cut();
    this.#server.close();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
