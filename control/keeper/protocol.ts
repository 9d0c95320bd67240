/**
 * What agent and keeper say to each other: messages of a letter and a text, each answered by one. A descriptor
 * comes with `keep` and with `descriptor`.
 */
export const OP = {
  /** NAME: keep the descriptor; one of that name is replaced. */
  keep: 'k',
  /** NAME: close it. */
  forget: 'f',
  /** INDEX: the descriptor at this place; answered by `descriptor` or `end`. It stays kept. */
  get: 'g',
  done: 'd',
  /** NAME. */
  descriptor: 'n',
  end: 'e',
  /** Why. */
  refused: 'r',
} as const;

export const MAX_MESSAGE = 512;
/** Prefix of the abstract address; `@` is how /proc/net/unix shows it. */
export const KEEPER_PREFIX = 'tortie-keeper:';

/** Where a node's keeper listens: an abstract address of the node's own network namespace. */
export const keeperAddress = (node: string): string => `@${KEEPER_PREFIX}${node}`;

export const encode = (op: string, text = ''): Uint8Array => new TextEncoder().encode(op + text);

export function decode(bytes: Uint8Array): { op: string; text: string } {
  const whole = new TextDecoder().decode(bytes);
  return { op: whole.slice(0, 1), text: whole.slice(1) };
}
