/** Prefixes on the command line. */
import { InvalidArgumentError } from 'commander';
import {
  tryAddress4,
  tryAddress6,
  tryInterface4,
  tryInterface6,
  tryPrefix4,
  tryPrefix6,
} from '../address.ts';

/** For commander: an address or a prefix of either family, or a usage error. */
export function prefixArgument(text: string): string {
  const isGood = tryAddress4(text) ?? tryPrefix4(text) ?? tryAddress6(text) ?? tryPrefix6(text);
  if (isGood !== null) return text;
  const advice =
    tryInterface4(text) || tryInterface6(text)
      ? 'It has bits behind its length.'
      : 'It is no prefix such as 10.65.1.0/26 or fd65::/64, and no address.';
  throw new InvalidArgumentError(advice);
}
