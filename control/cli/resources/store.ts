/** The datastore that resource verbs work on: opened by the command itself, no agent needed. */
import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { ApiClient } from '../../api/client.ts';
import { loadConfig } from '../../config/config.ts';
import type { OpenStore } from '../../datastore/open.ts';
import { EX_CONFIG, TortieError } from '../../error.ts';
import { socketsIn } from '../daemon.ts';
import type { Io } from '../io.ts';

export interface StoreOptions {
  readonly config?: string;
}

/** Add what every verb has that works on the datastore. */
export const usesStore = (command: Command): Command =>
  command
    .option(
      '-c, --config <file>',
      'settings that name the datastore; else $TORTIE_CONFIG, those of the only agent that runs here, or /etc/tortie/agent.yaml',
    )
    // Scripts that were written for calicoctl say so; here is one version.
    .addOption(new Option('--allow-version-mismatch').hideHelp());

/** Do something with the datastore that is meant, and close it. Throws STORE_UNKNOWN if none is named. */
export async function withStore<T>(
  io: Io,
  options: StoreOptions,
  work: (store: OpenStore) => Promise<T>,
): Promise<T> {
  const { datastore } = loadConfig(await configFile(io, options));
  // Loaded only now: a store brings native code along.
  const { openStore } = await import('../../datastore/open.ts');
  const store = openStore(datastore);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** The settings that are meant. */
export async function configFile(io: Io, { config }: StoreOptions): Promise<string> {
  const named = config ?? io.env.TORTIE_CONFIG;
  if (named) return named;
  const running = await configOfAgent(io);
  if (running !== null) return running;
  if (existsSync(io.configFile)) return io.configFile;
  throw new TortieError(
    'STORE_UNKNOWN',
    `which datastore? No agent runs here and there is no ${io.configFile}; give --config FILE, or set TORTIE_CONFIG`,
    EX_CONFIG,
  );
}

/** The file that the only agent here was started with; null if there is none, or it does not answer. */
async function configOfAgent(io: Io): Promise<string | null> {
  const [socket, ...others] = socketsIn(io.runFolder);
  if (socket === undefined || others.length > 0) return null;
  try {
    const { settings } = (await new ApiClient(socket).config()) as { settings?: { file?: unknown } };
    return typeof settings?.file === 'string' ? settings.file : null;
  } catch {
    return null;
  }
}
