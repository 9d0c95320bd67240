/** Prefixes on the command line. */
import { InvalidArgumentError } from 'commander';
import {
  formatPrefix4,
  mask4,
  tryAddress4,
  tryAddress6,
  tryInterface4,
  tryInterface6,
  tryPrefix4,
  tryPrefix6,
} from '../address.ts';
import { formatPrefix, IPV6, maskWords } from '../bgp/family.ts';

/** For commander: an address or a prefix of either family, or a usage error. */
export function prefixArgument(text: string): string {
  const isGood = tryAddress4(text) ?? tryPrefix4(text) ?? tryAddress6(text) ?? tryPrefix6(text);
  if (isGood !== null) return text;
  const prefix = prefixOf(text);
  const advice =
    prefix === null
      ? 'It is no prefix such as 10.65.1.0/26 or fd65::/64, and no address.'
      : `It has bits behind its length. The prefix is ${prefix}.`;
  throw new InvalidArgumentError(advice);
}

/** That of an address with a length; null: it is none. */
function prefixOf(text: string): string | null {
  const four = tryInterface4(text);
  if (four) return formatPrefix4(four.address & mask4(four.length), four.length);
  const six = tryInterface6(text);
  return six && formatPrefix({ family: IPV6, words: maskWords(six.words, six.length), length: six.length });
}
