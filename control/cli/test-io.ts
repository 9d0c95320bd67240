/** A command line without a process, for tests. */
import type { Actions, Io } from './io.ts';
import { run } from './program.ts';

const unexpected = () => Promise.reject(new Error('not expected'));

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function runCli(
  args: readonly string[],
  world: Partial<Omit<Io, 'actions'>> & { readonly actions?: Partial<Actions> } = {},
): Promise<Outcome> {
  let out = '';
  let err = '';
  const code = await run(args, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    env: {},
    runFolder: '/nonexistent',
    configFile: '/nonexistent/agent.yaml',
    input: () => '',
    now: () => new Date('2026-01-01T12:00:00Z'),
    interrupted: new AbortController().signal,
    exitCode: 0,
    ...world,
    actions: {
      runAgent: unexpected,
      runReplay: unexpected,
      traceReplay: unexpected,
      purge: unexpected,
      installCni: unexpected,
      checkSystem: unexpected,
      loadMrt: unexpected,
      collectDiags: unexpected,
      ...world.actions,
    },
  });
  return { code, out, err };
}
