/**
 * `tortie agent`: the daemon's life from its settings to its end.
 *
 *   exit  when
 *   0     SIGTERM or SIGINT: peers were told, TAPs, addresses and routes stay for the next agent
 *   69    another agent runs in this network namespace (EX_UNAVAILABLE)
 *   70    packet threads died one after another, or the end took too long; start again, the next agent adopts
 *         what is there (EX_SOFTWARE)
 *   78    settings or resources are wrong (EX_CONFIG)
 *   1     anything else that kept it from starting
 */
import pino, { type Logger } from 'pino';
import pretty from 'pino-pretty';
import { sdNotify } from '../dataplane/native/systemd.ts';
import { Cluster } from './agent/cluster.ts';
import { NodeAgent } from './agent/node.ts';
import { dropPrivileges } from './agent/privileges.ts';
import { Pulse } from './agent/pulse.ts';
import { AgentView } from './agent/view.ts';
import { Health, type HealthServer, serveHealth } from './api/health.ts';
import { type MetricsServer, serveMetrics } from './api/metrics.ts';
import { type ApiServer, serveApi } from './api/server.ts';
import { startCni } from './cni/cni.ts';
import { PodNamespaces } from './cni/namespaces.ts';
import type { CniServer } from './cni/server.ts';
import { type AgentConfig, loadConfig } from './config/config.ts';
import { type OpenStore, openStore } from './datastore/open.ts';
import { StaticDatastore } from './datastore/static.ts';
import { TortieError } from './error.ts';
import { lockNamespace } from './kernel/lock.ts';
import { VERSION } from './version.ts';

const EX_SOFTWARE = 70;
/** The end is promised within five seconds. */
const STOP_TIMEOUT_MS = 4000;

/** Run the agent until a signal ends it. Resolves with the exit code; rejects if it cannot start. */
export async function runAgent(configFile: string): Promise<number> {
  const config = loadConfig(configFile);
  // Before there are other threads: those that are made from now on have no more.
  dropPrivileges();
  const store = openStore(config.datastore);
  const log = openLog(config);
  const end = new Ending();
  const namespaces = new PodNamespaces(config.nodeName, () => agent.store);
  const lock = await lockNamespace(config.nodeName);
  const cluster = new Cluster(store, config, () => agent.changed(), log);
  const agent = new NodeAgent({
    config,
    log,
    resources: async () => namespaces.overlay(cluster.resources()),
    storeProblem: () => cluster.storeProblem(),
    problems: () => cluster.problems(),
    onGiveUp: (error) => {
      log.fatal({ err: error }, 'packet threads die one after another');
      end.resolve(EX_SOFTWARE);
    },
  });
  const reload = () => reloadAll(config, store, agent, log);
  process.on('SIGHUP', reload);
  let server: ApiServer | undefined;
  let metrics: MetricsServer | undefined;
  let cni: CniServer | undefined;
  let probes: HealthServer | undefined;
  const health = new Health();
  const pulse = new Pulse(agent, cluster, health, log);
  let code: number;
  try {
    // First the socket: it refuses if another agent of this node serves it from elsewhere.
    const view = new AgentView(agent);
    server = await serveApi(config.sockets.api, view, (error) => log.error({ err: error }, 'control socket'));
    if (config.metrics.enabled) {
      metrics = await serveMetrics(config.metrics, view, (error) => log.error({ err: error }, 'metrics'));
    }
    if (config.health.enabled) {
      probes = await serveHealth(config.health, health, (error) => log.error({ err: error }, 'health'));
    }
    pulse.start();
    const runs = async () => {
      await cluster.start();
      await agent.start();
      if (end.isOver) return end.promise;
      cni = startCni(config.sockets.cni, agent, store, namespaces, log);
      await pulse.beat();
      sdNotify('READY=1');
      log.info({ pid: process.pid, version: VERSION, socket: config.sockets.api }, 'agent runs');
      return end.promise;
    };
    // The store may be away for long: a signal ends the wait.
    code = await Promise.race([runs(), end.promise]);
    sdNotify('STOPPING=1');
  } finally {
    process.off('SIGHUP', reload);
    cni?.close();
    pulse.stop();
    const left = cluster.stop().then(() => store.close());
    const servers = [server, metrics, probes].map((one) => one?.close());
    const ended = Promise.all([...servers, agent.stop(), left]);
    if (!(await inTime(ended))) {
      log.error('the end takes too long; leaving as it is');
      process.exit(EX_SOFTWARE);
    }
    lock.close();
    end.release();
  }
  log.info({ code }, 'agent ends; devices, addresses and routes stay');
  return code;
}

/** On standard error: an object a line, or for people. */
function openLog({ log, nodeName }: AgentConfig): Logger {
  const options = { level: log.level, base: { node: nodeName } };
  const isText = log.format === 'text' || (log.format === 'auto' && process.stderr.isTTY);
  if (!isText) return pino(options, pino.destination({ fd: 2, sync: true }));
  const colorize = process.stderr.isTTY && !process.env.NO_COLOR;
  return pino(
    options,
    pretty({
      destination: 2,
      sync: true,
      colorize,
      ignore: 'node',
      translateTime: 'SYS:HH:MM:ss.l',
      singleLine: true,
    }),
  );
}

/** The agent's end: by the first of SIGTERM, SIGINT, and what `resolve` is told. */
class Ending {
  readonly promise: Promise<number>;
  resolve!: (code: number) => void;
  isOver = false;
  readonly #onSignal = () => this.resolve(0);

  constructor() {
    this.promise = new Promise((resolve) => {
      this.resolve = (code) => {
        this.isOver = true;
        resolve(code);
      };
    });
    process.on('SIGTERM', this.#onSignal);
    process.on('SIGINT', this.#onSignal);
  }

  release(): void {
    process.off('SIGTERM', this.#onSignal);
    process.off('SIGINT', this.#onSignal);
  }
}

/** SIGHUP: read settings and resources again. What is wrong is logged and changes nothing. */
function reloadAll(config: AgentConfig, store: OpenStore, agent: NodeAgent, log: Logger): void {
  try {
    const ignored = agent.reconfigure(loadConfig(config.file));
    for (const name of ignored) log.warn(`"${name}" has changed; that takes a restart`);
    log.level = agent.config.log.level;
    const { resources } = store;
    const changes = resources instanceof StaticDatastore ? resources.reload() : [];
    log.info({ changes: changes.length }, 'reloaded');
    agent.changed(true);
  } catch (error) {
    if (!(error instanceof TortieError)) throw error;
    log.error({ code: error.code }, `reload refused, nothing is changed: ${error.message}`);
  }
}

/** Whether the work is done before the time for it is over. */
async function inTime(work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), STOP_TIMEOUT_MS);
  });
  const isDone = await Promise.race([work.then(() => true), late]);
  clearTimeout(timer);
  return isDone;
}
