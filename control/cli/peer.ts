/** BGP peers on the command line. */
import { InvalidArgumentError } from 'commander';

/** For commander: an address or a name, which the agent knows, or a usage error. */
export function peerArgument(text: string): string {
  if (text === '') throw new InvalidArgumentError('It is empty; an address or a name is wanted.');
  return text;
}
