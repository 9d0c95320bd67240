/** Both sides, asked about the same cases. */
import { type Comparison, compare, type Difference, differences } from './compare.ts';
import type { Case } from './corpus.ts';
import { LISTED, type Listed } from './differences.ts';
import { Kernel } from './kernel.ts';
import { Tortie } from './tortie.ts';

export interface Verdict {
  readonly cases: number;
  readonly differences: number;
  /** Those that no row claims. */
  readonly unlisted: readonly Difference[];
  /** Rows that claimed one. */
  readonly needed: ReadonlySet<Listed>;
}

export class Oracle {
  #kernel: Kernel;
  readonly #tortie: Tortie;

  private constructor(kernel: Kernel, tortie: Tortie) {
    this.#kernel = kernel;
    this.#tortie = tortie;
  }

  /** Another router: one remembers, and does not answer for ever when much waits for neighbours that never come. */
  async renew(): Promise<void> {
    await this.#kernel.close();
    this.#kernel = await Kernel.create(this.#tortie.hostMac);
  }

  /** Inside scripts/lab/enter. */
  static async create(): Promise<Oracle> {
    const tortie = new Tortie();
    return new Oracle(await Kernel.create(tortie.hostMac), tortie);
  }

  async ask(cases: readonly Case[]): Promise<Comparison[]> {
    const theirs = await this.#kernel.outcomes(cases.map(({ frames }) => frames));
    return cases.map((one, index) => compare(one, theirs[index]!, this.#tortie.outcome(one.frames)));
  }

  async judge(cases: readonly Case[]): Promise<Verdict> {
    const found = (await this.ask(cases)).flatMap(differences);
    const needed = new Set<Listed>();
    const unlisted = found.filter((difference) => {
      const claims = LISTED.filter((row) => row.claims(difference));
      for (const row of claims) needed.add(row);
      return claims.length === 0;
    });
    return { cases: cases.length, differences: found.length, unlisted, needed };
  }

  close(): Promise<void> {
    return this.#kernel.close();
  }
}

const MOST_SHOWN = 160;
const short = (text: string): string => (text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}...` : text);

/** A difference for people, with what to type to see it again. */
export function describe({ of, field, port, kernel, tortie }: Difference): string {
  return [
    `${of.case.name}${port === null ? '' : `, on ${port}`}: ${field}`,
    `  kernel: ${short(kernel)}`,
    `  tortie: ${short(tortie)}${of.drops.length > 0 ? ` (${of.drops.join(', ')})` : ''}`,
    `  npm run test:oracle -- ${of.case.again}`,
  ].join('\n');
}
