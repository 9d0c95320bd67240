/*
 * The FIB's look-up in C: same table, same keys, same algorithm as dataplane/fib/fib4.ts.
 * Usage: fib-twin TABLE KEYS ROUNDS; prints million look-ups a second of each round.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { HEADER_BYTES = 64, BASE_CELLS = 1 << 24 };

static void *read_all(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  void *data = malloc(*size);
  if (!data || fread(data, 1, *size, file) != *size) {
    perror(path);
    exit(1);
  }
  fclose(file);
  return data;
}

static uint32_t lookup(const int32_t *header, const uint16_t *base, const uint16_t *groups, uint32_t address) {
  uint32_t cell = base[address >> 8];
  uint32_t found = cell < 0x8000 ? cell : groups[(cell & 0x7fff) << 8 | (address & 0xff)];
  return found ? found : (uint32_t)header[0];
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  size_t table_size, keys_size;
  const uint8_t *table = read_all(argv[1], &table_size);
  const uint32_t *keys = read_all(argv[2], &keys_size);
  size_t count = keys_size / sizeof *keys;
  const int32_t *header = (const int32_t *)table;
  const uint16_t *base = (const uint16_t *)(table + HEADER_BYTES);
  const uint16_t *groups = base + BASE_CELLS;
  uint64_t sum = 0;
  for (int round = 0; round < atoi(argv[3]); round++) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (size_t i = 0; i < count; i++) sum += lookup(header, base, groups, keys[i]);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    printf("%.3f\n", (double)count / seconds / 1e6);
  }
  fprintf(stderr, "%llu\n", (unsigned long long)sum);
  return 0;
}
