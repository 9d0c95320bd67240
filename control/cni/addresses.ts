/** Where a pod's addresses come from: our own IPAM, or a plugin that the configuration delegates to. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { CniError, CODE } from './error.ts';
import type { Request } from './request.ts';
import { parseResult, type Result } from './result.ts';

/** Of an attachment; everything throws a CniError or TortieError. */
export interface Addresses {
  /** Addresses without interfaces. What the attachment had is given again. */
  add(request: Request): Promise<Result>;
  /** Whether the attachment still has these addresses ("10.65.0.2"). */
  check(request: Request, addresses: readonly string[]): Promise<void>;
  /** An attachment that has none is no error. */
  del(request: Request): Promise<void>;
  status(request: Request): Promise<void>;
  /** Free what attachments of the network have that are none of these. */
  gc(request: Request, valid: readonly Attachment[]): Promise<void>;
}

export interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
}

/** Calico's name for ours is as good. */
const OWN = ['tortie-ipam', 'calico-ipam'];
export const isOwnIpam = (type: string | undefined): boolean => type === undefined || OWN.includes(type);

const TIMEOUT_MS = 30_000;

/** A plugin of CNI_PATH, executed as the specification says ("Plugin Delegation"): same environment, same configuration. */
export class DelegatedAddresses implements Addresses {
  readonly #type: string;

  constructor(type: string) {
    this.#type = type;
  }

  async add(request: Request): Promise<Result> {
    const output = await this.#exec(request, 'ADD');
    let value: unknown;
    try {
      value = JSON.parse(output);
    } catch (error) {
      throw new CniError(CODE.decode, `${this.#type} answers ADD with no JSON: ${(error as Error).message}`);
    }
    const result = parseResult(value, `the result of ${this.#type}`);
    if (result.ips.length > 0) return result;
    await this.del(request);
    throw new CniError(CODE.noAddress, `${this.#type} gives no address`);
  }

  async check(request: Request): Promise<void> {
    await this.#exec(request, 'CHECK');
  }

  async del(request: Request): Promise<void> {
    await this.#exec(request, 'DEL');
  }

  async status(request: Request): Promise<void> {
    await this.#exec(request, 'STATUS');
  }

  async gc(request: Request): Promise<void> {
    await this.#exec(request, 'GC');
  }

  #exec(request: Request, command: string): Promise<string> {
    const program = this.#find(request.path);
    const env = { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', ...request.env };
    return new Promise((resolve, reject) => {
      const child = spawn(program, [], {
        env: { ...env, CNI_COMMAND: command },
        stdio: ['pipe', 'pipe', 'ignore'],
        timeout: TIMEOUT_MS,
        killSignal: 'SIGKILL',
      });
      let output = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
      child.on('error', (error) =>
        reject(new CniError(CODE.ipam, `cannot run ${program}: ${error.message}`)),
      );
      child.on('close', (status) => {
        if (status === 0) resolve(output);
        else reject(this.#failure(command, status, output));
      });
      // A plugin that ends early says so by its exit status.
      child.stdin.on('error', () => undefined);
      child.stdin.end(request.text);
    });
  }

  #find(folders: readonly string[]): string {
    // A name alone, as in CNI_PATH's folders: what stands elsewhere is no plugin.
    const names = /^[\w.-]+$/.test(this.#type) ? folders.map((folder) => join(folder, this.#type)) : [];
    const program = names.find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
    if (program !== undefined) return program;
    throw new CniError(
      CODE.config,
      `ipam.type ${this.#type}: no such plugin in CNI_PATH ${folders.join(':') || '(empty)'}`,
      'tortie-ipam needs none',
    );
  }

  /** What the plugin said, or that it said nothing. */
  #failure(command: string, status: number | null, output: string): CniError {
    try {
      const { code, msg, details } = JSON.parse(output) as { code?: number; msg?: string; details?: string };
      if (typeof code === 'number') return new CniError(code, `${this.#type} ${command}: ${msg}`, details);
    } catch {
      // Then its exit status is all there is.
    }
    return new CniError(CODE.ipam, `${this.#type} ${command} ended with ${status ?? 'a signal'}`);
  }
}
