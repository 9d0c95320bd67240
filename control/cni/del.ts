/** DEL and GC: what attachments have is given back, whatever of it is missing. */
import type { WorkloadEndpoint } from '../resources/schema.ts';
import {
  addressesOf,
  type CniContext,
  deleteEndpoint,
  findOwn,
  isOf,
  NETWORK,
  type StoredEndpoint,
} from './context.ts';
import { asCniError, type CniError, CniError as Failure } from './error.ts';
import type { Request } from './request.ts';

/** First the port, then the addresses: nobody is to have them while the pod still does. */
export async function del(context: CniContext, request: Request): Promise<void> {
  const stored = await findOwn(context, request);
  if (stored) await remove(context, stored, (endpoint) => isOf(endpoint, request));
  await addressesOf(context, request).del(request);
}

async function remove(
  context: CniContext,
  stored: StoredEndpoint,
  mayDelete: (endpoint: WorkloadEndpoint) => boolean,
): Promise<void> {
  const { interfaceName } = stored.resource.spec;
  if (!(await deleteEndpoint(context, stored, mayDelete))) return;
  await context.ports.gone(interfaceName);
  context.namespaces.release(interfaceName);
  context.claims.delete(interfaceName);
}

/** Delete what is of this network and not in the list; goes on past failures, and reports them at the end. */
export async function gc(context: CniContext, request: Request): Promise<void> {
  const listed = request.config['cni.dev/valid-attachments'] ?? [];
  const valid = listed.map(({ containerID, ifname }) => ({ containerId: containerID, ifname }));
  const isValid = ({ spec }: WorkloadEndpoint) =>
    valid.some(({ containerId, ifname }) => spec.containerID === containerId && spec.endpoint === ifname);
  const failures: CniError[] = [];
  const attempt = (work: Promise<unknown>) =>
    work.catch((error: unknown) => void failures.push(asCniError(error)));

  const all = await context.store.list('WorkloadEndpoint', { node: context.nodeName });
  const stale = (all as StoredEndpoint[]).filter(({ resource }) => {
    const { metadata, spec } = resource;
    const isOurs = spec.node === context.nodeName && metadata.annotations?.[NETWORK] === request.config.name;
    return isOurs && !isValid(resource);
  });
  for (const stored of stale) {
    const { containerID } = stored.resource.spec;
    context.log.info({ container: containerID, network: request.config.name }, 'GC removes an attachment');
    await attempt(remove(context, stored, (endpoint) => endpoint.spec.containerID === containerID));
  }
  await attempt(addressesOf(context, request).gc(request, valid));
  const [first] = failures;
  if (first) throw new Failure(first.cni, failures.map(({ message }) => message).join('; '), first.details);
}
