import { Bird } from './bird.ts';
import { matrix } from './matrix.ts';

matrix(new Bird(), 1);
