import { matrix } from './matrix.ts';
import { Openbgpd } from './openbgpd.ts';

matrix(new Openbgpd(), 4);
