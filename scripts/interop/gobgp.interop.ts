import { Gobgp } from './gobgp.ts';
import { matrix } from './matrix.ts';

matrix(new Gobgp(), 3);
