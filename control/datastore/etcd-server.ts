/** An etcd of a test's own: a folder, ports of loopback, and an end with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../bgp/until.ts';

/** Whatever becomes of the test: the server ends by then, seconds. */
const LIFETIME = '300';

export class EtcdServer {
  readonly endpoint: string;
  readonly #peer: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'tortie-etcd-'));
  #child: ChildProcess | null = null;

  private constructor(client: number, peer: number) {
    this.endpoint = `http://127.0.0.1:${client}`;
    this.#peer = `http://127.0.0.1:${peer}`;
  }

  static async start(): Promise<EtcdServer> {
    const server = new EtcdServer(await freePort(), await freePort());
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const urls = ['--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint];
    const peers = ['--listen-peer-urls', this.#peer, '--initial-advertise-peer-urls', this.#peer];
    const cluster = ['--initial-cluster', `default=${this.#peer}`, '--data-dir', this.#folder];
    const args = ['-s', 'KILL', LIFETIME, 'etcd', ...urls, ...peers, ...cluster, '--log-level', 'error'];
    this.#child = spawn('timeout', args, {
      stdio: 'ignore',
      env: { ...process.env, ETCD_UNSUPPORTED_ARCH: '' },
    });
    await until('etcd answers', async () => {
      if (this.#child?.exitCode !== null)
        throw new Error('etcd ended at once: is the Debian package etcd-server here?');
      const response = await fetch(`${this.endpoint}/health`).catch(() => null);
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

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Call etcd's own JSON gateway. */
  async call(path: string, body: unknown): Promise<void> {
    const response = await fetch(`${this.endpoint}/v3/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`etcd: ${path}: ${await response.text()}`);
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
