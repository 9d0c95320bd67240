import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{dataplane,control,bench,fixtures}/**/*.test.ts'],
          // Some wait more than they compute: on two cores one at a time, which is the default there, leaves one idle.
          maxWorkers: Math.max(2, availableParallelism() - 1),
          testTimeout: 60_000,
        },
      },
      {
        // Long runs, by scripts/test-soak.
        test: {
          name: 'soak',
          include: ['{dataplane,control,scripts}/**/*.soak.ts'],
          fileParallelism: false,
          testTimeout: 1_800_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Other BGP daemons, by scripts/interop/run: a cell waits more than it computes, so two daemons at a time.
        test: {
          name: 'interop',
          include: ['scripts/interop/*.interop.ts'],
          maxWorkers: 2,
          testTimeout: 120_000,
          hookTimeout: 60_000,
        },
      },
      {
        // TCP over paths of many MTUs, by scripts/mtu/run.
        test: {
          name: 'mtu',
          include: ['scripts/mtu/*.mtu.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Real namespaces, BIRD, iperf3: one lab at a time, so that two cores serve one transfer.
        test: {
          name: 'e2e',
          include: ['scripts/**/*.e2e.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
