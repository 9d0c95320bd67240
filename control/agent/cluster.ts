/** The cluster as this node's agent sees it, and the node's own place in it. */
import type { Logger } from 'pino';
import type { AgentConfig } from '../config/config.ts';
import type { OpenStore } from '../datastore/open.ts';
import { openIpam } from '../ipam/open.ts';
import type { Resource } from '../resources/schema.ts';
import { Picture } from './picture.ts';
import { Registration } from './registration.ts';

export class Cluster {
  readonly #picture: Picture;
  /** Null: nodes stand in files. */
  readonly #registration: Registration | null;
  readonly #onChange: () => void;
  #problems: readonly string[] = [];
  #started = false;

  /** `onChange` is called after every change of what `resources` and `problems` answer, once started. */
  constructor(store: OpenStore, config: AgentConfig, onChange: () => void, log: Logger) {
    const { keys, resources } = store;
    this.#onChange = () => {
      if (this.#started) onChange();
    };
    this.#picture = new Picture(store, config.nodeName, () => this.#changed(), log);
    this.#registration = keys && new Registration({ keys, resources }, openIpam(store), config, log);
  }

  /** Resolves with the node registered and a whole picture; waits for a store that is away. */
  async start(): Promise<void> {
    await this.#registration?.begin();
    await this.#picture.start();
    await this.#settle();
    this.#started = true;
  }

  resources(): Resource[] {
    return this.#picture.resources();
  }

  /** For people: why the store, or our place in it, is not as it should be. */
  problems(): string[] {
    const { problem } = this.#picture;
    return problem === null ? [...this.#problems] : [problem, ...this.#problems];
  }

  /** Why the store is out of reach, or null. */
  storeProblem(): string | null {
    return this.#picture.problem;
  }

  async stop(): Promise<void> {
    this.#picture.stop();
    await this.#registration?.stop();
  }

  #changed(): void {
    this.#onChange();
    if (this.#started) void this.#settle();
  }

  async #settle(): Promise<void> {
    const problems = (await this.#registration?.tunnels(this.resources())) ?? [];
    const differ = problems.join('\n') !== this.#problems.join('\n');
    this.#problems = problems;
    if (differ) this.#onChange();
  }
}
