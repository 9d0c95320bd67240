import { describeContention } from './contention-suite.ts';

describeContention(40);
