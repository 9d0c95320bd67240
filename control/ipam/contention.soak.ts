import { describeContention } from './contention-suite.ts';

// Ten thousand in all.
describeContention(2500);
