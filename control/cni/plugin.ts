/** From a request to an answer: who does it, in whose turn, and how an error looks. */
import type { Logger } from 'pino';
import { add } from './add.ts';
import { check, status } from './check.ts';
import { addressesOf, type CniContext } from './context.ts';
import { del, gc } from './del.ts';
import { addressesIn } from './endpoint.ts';
import { asCniError, CniError, CODE } from './error.ts';
import { identify } from './namespaces.ts';
import { parseRequest, type Request, versionAsked } from './request.ts';
import { formatResult } from './result.ts';
import type { Handler } from './server.ts';
import { Turns } from './turns.ts';
import type { Answer, Header } from './wire.ts';

/** Calico's words and their abbreviations for pino's. */
const LEVELS: Record<string, string> = { warning: 'warn', fatal: 'error', panic: 'error' };
const PINO_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'];

export function cniHandler(context: CniContext): Handler {
  const turns = new Turns();
  return async (header, text, netns) => {
    const started = performance.now();
    let log = context.log;
    try {
      const request = parseRequest(header, text);
      log = logOf(context.log, request);
      const output = await carryOut({ ...context, log }, request, header, netns, turns);
      const ms = Math.round(performance.now() - started);
      const level = request.command === 'ADD' || request.command === 'DEL' ? 'info' : 'debug';
      log[level]({ ...subjectOf(request), ms }, `${request.command} done`);
      return { exit: 0, output };
    } catch (error) {
      const failure = asCniError(error);
      if (failure.cni === CODE.internal) log.error({ err: error }, 'a CNI request failed');
      const { CNI_COMMAND: command, CNI_CONTAINERID: container } = header.env;
      log.warn({ command, container, code: failure.cni }, failure.message);
      return refusal(failure, text);
    }
  };
}

function carryOut(
  context: CniContext,
  request: Request,
  { netnsError }: Header,
  netns: number | null,
  turns: Turns,
): Promise<string> {
  const { command, config, version } = request;
  demandNode(context, config.nodename);
  const silent = async (work: Promise<void>) => {
    await work;
    return '';
  };
  if (command === 'STATUS') return silent(status(context, request));
  if (command === 'GC') {
    const work = request.isIpam ? collectAddresses : gc;
    return turns.runAlone(() => silent(work(context, request)));
  }
  return turns.run(turnOf(request), async () => {
    if (request.isIpam) return ipam(context, request);
    const namespace = () => identify(request.netns, netns, netnsError);
    if (command === 'DEL') return silent(del(context, request));
    demandReady(context);
    if (command === 'CHECK') return silent(check(context, request, namespace()));
    return formatResult(await add(context, request, namespace()), version);
  });
}

/** A pod whose sandbox is made anew has a new container while the old one goes: both are about one endpoint. */
const turnOf = ({ pod, containerId, ifname }: Request): string =>
  pod.name === undefined ? containerId : `${pod.namespace}/${pod.name}/${ifname}`;

/** As the delegated plugin: addresses alone. */
async function ipam(context: CniContext, request: Request): Promise<string> {
  const addresses = addressesOf(context, {
    ...request,
    config: { ...request.config, ipam: ownType(request) },
  });
  if (request.command === 'DEL') {
    await addresses.del(request);
    return '';
  }
  if (request.command === 'ADD') return formatResult(await addresses.add(request), request.version, true);
  const { prevResult } = request;
  if (!prevResult) throw new CniError(CODE.config, 'CHECK needs prevResult, the result of ADD');
  await addresses.check(request, addressesIn(prevResult));
  return '';
}

const ownType = ({ config }: Request) => ({ ...config.ipam, type: 'tortie-ipam' });

function collectAddresses(context: CniContext, request: Request): Promise<void> {
  const listed = request.config['cni.dev/valid-attachments'] ?? [];
  const valid = listed.map(({ containerID, ifname }) => ({ containerId: containerID, ifname }));
  const own = { ...request, config: { ...request.config, ipam: ownType(request) } };
  return addressesOf(context, own).gc(own, valid);
}

/** Calico's conflist names its node; the socket that was found may be another's. */
function demandNode({ nodeName }: CniContext, wanted: string | undefined): void {
  if (wanted === undefined || wanted === '' || wanted === nodeName) return;
  throw new CniError(
    CODE.config,
    `nodename ${wanted}, but this is the agent of node ${nodeName}`,
    'correct "nodename", or leave it out',
  );
}

function demandReady(context: CniContext): void {
  const reason = context.unready();
  if (reason !== null) throw new CniError(CODE.tryAgain, reason);
}

/** "log_level" of a conflist is for its own requests. */
function logOf(log: Logger, { config }: Request): Logger {
  const name = config.log_level?.toLowerCase() ?? '';
  const level = LEVELS[name] ?? name;
  return PINO_LEVELS.includes(level) ? log.child({}, { level }) : log;
}

const subjectOf = ({ containerId, ifname, pod, config }: Request) => ({
  network: config.name,
  ...(containerId !== '' && { container: containerId, interface: ifname }),
  ...(pod.name !== undefined && { pod: `${pod.namespace}/${pod.name}` }),
});

function refusal({ cni, message, details }: CniError, text: string): Answer {
  const error = { cniVersion: versionAsked(text), code: cni, msg: message, ...(details && { details }) };
  return { exit: 1, output: `${JSON.stringify(error)}\n` };
}
