/** The store that settings name. */
import type { AgentConfig } from '../config/config.ts';
import type { Datastore } from './datastore.ts';
import { EmbeddedStore } from './embedded.ts';
import { EtcdStore } from './etcd.ts';
import type { KeyValueStore } from './kv.ts';
import { ResourceStore } from './resource-store.ts';
import { StaticDatastore } from './static.ts';

export interface OpenStore {
  readonly resources: Datastore;
  /** What is beneath the resources, for IPAM; null: resources are files, and addresses stand in them. */
  readonly keys: KeyValueStore | null;
  close(): Promise<void>;
}

/** Throws a TortieError: what is wrong with the files, or with the store. */
export function openStore(settings: AgentConfig['datastore']): OpenStore {
  if (settings.kind === 'static') {
    const resources = new StaticDatastore(settings.path);
    return { resources, keys: null, close: () => resources.close() };
  }
  const keys = settings.kind === 'etcd' ? new EtcdStore(settings) : new EmbeddedStore(settings.path);
  const resources = new ResourceStore(keys);
  return {
    resources,
    keys,
    close: async () => {
      await resources.close();
      await keys.close();
    },
  };
}
