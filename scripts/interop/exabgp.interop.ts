import { Exabgp } from './exabgp.ts';
import { matrix } from './matrix.ts';

matrix(new Exabgp(), 5);
