/** What two routers made of the same frames, field by field. */
import type { Case } from './corpus.ts';
import { decode, type Fields, normalise, summary } from './decode.ts';
import { PORTS, type PortName } from './frames.ts';
import type { Frames } from './kernel.ts';
import type { Outcome } from './tortie.ts';

export interface Left {
  readonly port: PortName;
  readonly fields: Fields;
}

/** One difference: a field of a frame that both sent, or (field `outcome`) that they sent different frames. */
export interface Difference {
  readonly of: Comparison;
  readonly port: PortName | null;
  readonly field: string;
  readonly kernel: string;
  readonly tortie: string;
  /** All fields of the two frames that are compared; of the outcome, none. */
  readonly fields?: { readonly kernel: Fields; readonly tortie: Fields };
}

export interface Comparison {
  readonly case: Case;
  /** The last frame of the case as it went in. */
  readonly input: Left;
  readonly kernel: readonly Left[];
  readonly tortie: readonly Left[];
  /** Why tortie dropped something, if it did. */
  readonly drops: readonly string[];
}

const ETHERNET = 14;
const MLD2_REPORT = 143;

/** What leaves the kernel unasked: reports of the groups that its devices are in. */
function isChatter(frame: Uint8Array): boolean {
  const bytes = Buffer.from(frame);
  return bytes.readUInt16BE(12) === 0x86dd && bytes[20] === 0 && bytes[62] === MLD2_REPORT;
}

const packetOf = (port: PortName, frame: Uint8Array): Uint8Array =>
  port === 'underlay' ? frame.subarray(ETHERNET) : frame;

function leftBy(frames: Frames): Left[] {
  const left = frames.map(([port, bytes]) => ({ port, fields: normalise(decode(port, bytes)) }));
  // Between ports there is no order.
  return left.sort((a, b) => PORTS.indexOf(a.port) - PORTS.indexOf(b.port));
}

export function compare(of: Case, kernel: Frames, tortie: Outcome): Comparison {
  const [port, frame] = of.frames.at(-1)!;
  return {
    case: of,
    input: { port, fields: decode(port, packetOf(port, frame)) },
    kernel: leftBy(
      kernel
        .filter(([, bytes]) => !isChatter(bytes))
        .map(([from, bytes]) => [from, packetOf(from, bytes)] as const),
    ),
    tortie: leftBy(tortie.frames),
    drops: tortie.drops,
  };
}

const outcomeOf = (left: readonly Left[]): string =>
  left.map(({ port, fields }) => summary(port, fields)).join(', ') || 'silence';

export function differences(of: Comparison): Difference[] {
  const { kernel, tortie } = of;
  const [theirs, ours] = [outcomeOf(kernel), outcomeOf(tortie)];
  if (theirs !== ours) return [{ of, port: null, field: 'outcome', kernel: theirs, tortie: ours }];
  return kernel.flatMap(({ port, fields: theirFields }, index) => {
    const ourFields = tortie[index]!.fields;
    const names = new Set([...Object.keys(theirFields), ...Object.keys(ourFields)]);
    return [...names]
      .filter((name) => theirFields[name] !== ourFields[name])
      .map((field) => ({
        of,
        port,
        field,
        kernel: theirFields[field] ?? 'absent',
        tortie: ourFields[field] ?? 'absent',
        fields: { kernel: theirFields, tortie: ourFields },
      }));
  });
}
