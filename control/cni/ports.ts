/** Pods' ports as CNI waits for them: a WorkloadEndpoint is written, and the agent does the rest. */
import { isDeepStrictEqual } from 'node:util';
import { formatAddress4, formatAddress6 } from '../address.ts';
import type { NodeAgent } from '../agent/node.ts';
import { TortieError } from '../error.ts';
import type { WorkloadEndpoint } from '../resources/schema.ts';
import type { PodPort, PodPorts } from './context.ts';
import { CniError, CODE } from './error.ts';

/** How long a port may take to come up, and to go. */
const UP_MS = 20_000;
const GONE_MS = 5000;
/** A port that has failed so often will not come up by waiting. */
const MAX_FAILURES = 3;

export class AgentPorts implements PodPorts {
  readonly #agent: Pick<NodeAgent, 'ports' | 'reconciled'>;

  constructor(agent: Pick<NodeAgent, 'ports' | 'reconciled'>) {
    this.#agent = agent;
  }

  problem({ spec }: WorkloadEndpoint, inode: number): string | null {
    const name = spec.interfaceName;
    const port = this.#agent.ports.get(name);
    if (!port) return 'the agent has not made it yet';
    if (port.failure !== null) return port.failure;
    if (this.#agent.ports.idOf(name) === null) return 'no worker has it yet';
    const { addresses, addresses6 } = port.desired;
    const has = [...addresses.map(formatAddress4), ...addresses6.map((words) => formatAddress6(words))];
    const wants = spec.ipNetworks.map((network) => network.split('/')[0]!);
    if (!isDeepStrictEqual(has.sort(), wants.sort())) return `it has addresses ${has.join(', ')}`;
    return port.inode === inode ? null : 'it is in another namespace';
  }

  async up(endpoint: WorkloadEndpoint, inode: number): Promise<PodPort> {
    const name = endpoint.spec.interfaceName;
    const deadline = performance.now() + UP_MS;
    for (let failures = 0; ; ) {
      await this.#agent.reconciled();
      const problem = this.problem(endpoint, inode);
      const port = this.#agent.ports.get(name);
      if (problem === null && port) return { mtu: port.desired.mtu };
      if (port && port.failure !== null) failures++;
      if (failures === MAX_FAILURES || performance.now() > deadline) {
        throw new CniError(CODE.port, `port ${name} does not come up: ${problem}`);
      }
    }
  }

  async gone(name: string): Promise<void> {
    const deadline = performance.now() + GONE_MS;
    do await this.#agent.reconciled();
    while (this.#agent.ports.get(name) && performance.now() < deadline);
    if (!this.#agent.ports.get(name)) return;
    throw new TortieError('PORT_STAYS', `port ${name} is still there ${GONE_MS / 1000} s after its end`);
  }
}
