/**
 * What the plugin's program (native/tortie-cni.c) and the agent say to each other over a SOCK_SEQPACKET socket. The program
 * begins: one message of NAME=VALUE texts, each ended by a NUL, with the descriptor of the pod's namespace if there is
 * one; then `length` bytes of the configuration, in as many messages as it takes. The agent answers with "EXIT LENGTH",
 * then as many bytes for the program's standard output, and closes.
 */
export const PROTOCOL = '1';

/** Bytes: of a message, and of a configuration (a GC lists every attachment of its network). */
export const MAX_MESSAGE = 64 * 1024;
export const MAX_CONFIG = 4 * 1024 * 1024;

/** What the program says first. */
export interface Header {
  /** The name that it was started by. */
  readonly plugin: string;
  /** Bytes of configuration to come. */
  readonly length: number;
  /** Why it could not open the namespace at CNI_NETNS. */
  readonly netnsError: string | undefined;
  /** The CNI_ variables. */
  readonly env: Readonly<Record<string, string>>;
}

/** Null if nobody of ours speaks so. */
export function parseHeader(bytes: Uint8Array): Header | null {
  const values = new Map<string, string>();
  for (const text of new TextDecoder().decode(bytes).split('\0')) {
    const at = text.indexOf('=');
    if (at > 0) values.set(text.slice(0, at), text.slice(at + 1));
  }
  const length = Number(values.get('length'));
  if (values.get('protocol') !== PROTOCOL || !Number.isInteger(length)) return null;
  return {
    plugin: values.get('plugin') ?? '',
    length,
    netnsError: values.get('netns_error'),
    env: Object.fromEntries([...values].filter(([name]) => name.startsWith('CNI_'))),
  };
}

/** What the program is to write out and to end with. */
export interface Answer {
  readonly exit: number;
  readonly output: string;
}

/** An answer as messages. */
export function encodeAnswer({ exit, output }: Answer): Uint8Array[] {
  const body = Buffer.from(output);
  const messages: Uint8Array[] = [Buffer.from(`${exit} ${body.length}`)];
  for (let at = 0; at < body.length; at += MAX_MESSAGE) messages.push(body.subarray(at, at + MAX_MESSAGE));
  return messages;
}
