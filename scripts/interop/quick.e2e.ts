/** The matrix's short form: with each daemon that is installed, routes of both families and communities. */
import { Bird } from './bird.ts';
import { Exabgp } from './exabgp.ts';
import { Frr } from './frr.ts';
import { Gobgp } from './gobgp.ts';
import { matrix } from './matrix.ts';
import { Openbgpd } from './openbgpd.ts';

for (const [index, driver] of [new Bird(), new Frr(), new Gobgp(), new Openbgpd(), new Exabgp()].entries()) {
  matrix(driver, 11 + index, { quick: true });
}
