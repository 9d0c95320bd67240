import { Frr } from './frr.ts';
import { matrix } from './matrix.ts';

matrix(new Frr(), 2);
