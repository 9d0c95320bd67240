/*
 * DPDK's tables: the same routes and keys as ours. rte_lpm and rte_lpm6 are asked one key at a time, rte_fib
 * (DIR24_8) and rte_fib6 (TRIE) 64 at a time, each with next hops of 2 bytes where there is a choice.
 *
 *   dpdk-fib rte_fib|rte_lpm|rte_fib6|rte_lpm6 ROUTES [CACHE]
 *
 * ROUTES: 20 bytes each: address (IPv4: 4 bytes in host order, the rest zero; IPv6: 16 in network order),
 * length (1), zero (1), next hop (2, host order). Prints "ready BUILD_SECONDS BYTES", BYTES being what the process
 * grew by. Then, for each line "KEYS PASSES" on standard input, "MILLIONS_A_SECOND CHECKSUM": the median of the
 * passes over the file KEYS (4 bytes or 16 a key), and the sum of all next hops of a pass, 0 for no route.
 *
 * rte_lpm takes minutes to add a full table, since it looks for the rule first, one by one. CACHE keeps the
 * tables that it made, bytes as they are; they are read back the next time.
 */
#define _GNU_SOURCE
#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BULK = 64, MAX_PASSES = 99, FIRST_GROUPS = 256, MAX_GROUPS = 1 << 20 };

struct route {
  uint8_t address[16];
  uint8_t length, zero;
  uint16_t hop;
};
_Static_assert(sizeof(struct route) == 20, "as the file has it");

static struct rte_fib *fib;
static struct rte_fib6 *fib6;
static struct rte_lpm *lpm;
static struct rte_lpm6 *lpm6;

static _Noreturn void die(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *read_all(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END) != 0) die(path);
  *size = (size_t)ftell(file);
  rewind(file);
  void *data = malloc(*size + 1);
  if (!data || fread(data, 1, *size, file) != *size) die(path);
  fclose(file);
  return data;
}

static uint64_t resident(void) {
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%*s %lu", &pages) != 1) die("/proc/self/statm");
  fclose(file);
  return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint32_t address4(const struct route *route) {
  uint32_t address;
  memcpy(&address, route->address, sizeof address);
  return address;
}

/* Groups of 256 for what is longer than /24: each /24 that has such a route takes one. */
static uint32_t groups4(const struct route *routes, size_t count) {
  uint8_t *seen = calloc(1 << 21, 1);
  uint32_t groups = 1;
  if (!seen) die("calloc");
  for (size_t i = 0; i < count; i++) {
    uint32_t block = address4(&routes[i]) >> 8;
    if (routes[i].length <= 24 || (seen[block >> 3] >> (block & 7) & 1)) continue;
    seen[block >> 3] |= (uint8_t)(1 << (block & 7));
    groups++;
  }
  free(seen);
  return groups;
}

static bool build_fib(const struct route *routes, size_t count) {
  struct rte_fib_conf conf = {.type = RTE_FIB_DIR24_8, .default_nh = 0, .max_routes = (int)count + 1};
  conf.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
  conf.dir24_8.num_tbl8 = groups4(routes, count) + 1;
  fib = rte_fib_create("fib", SOCKET_ID_ANY, &conf);
  for (size_t i = 0; fib && i < count; i++)
    if (rte_fib_add(fib, address4(&routes[i]), routes[i].length, routes[i].hop) < 0) return false;
  return fib != NULL;
}

static bool build_lpm(const struct route *routes, size_t count, const char *cache) {
  uint32_t groups = groups4(routes, count) + 1;
  FILE *file = cache ? fopen(cache, "rb") : NULL;
  struct rte_lpm_config conf = {.max_rules = (uint32_t)count + 1, .number_tbl8s = groups};
  lpm = rte_lpm_create("lpm", SOCKET_ID_ANY, &conf);
  if (!lpm) return false;
  size_t cells = (size_t)groups * RTE_LPM_TBL8_GROUP_NUM_ENTRIES;
  if (file) {
    bool read = fread(lpm->tbl24, sizeof lpm->tbl24, 1, file) == 1 &&
                fread(lpm->tbl8, sizeof *lpm->tbl8, cells, file) == cells;
    fclose(file);
    return read;
  }
  for (size_t i = 0; i < count; i++)
    if (rte_lpm_add(lpm, address4(&routes[i]), routes[i].length, routes[i].hop) < 0) return false;
  if (!cache) return true;
  /* Under its name only once it is whole. */
  char part[4096];
  snprintf(part, sizeof part, "%s.part", cache);
  file = fopen(part, "wb");
  if (!file || fwrite(lpm->tbl24, sizeof lpm->tbl24, 1, file) != 1 ||
      fwrite(lpm->tbl8, sizeof *lpm->tbl8, cells, file) != cells || fclose(file) != 0 || rename(part, cache) != 0)
    die(part);
  return true;
}

/* How many groups IPv6 takes depends on the routes: double until they fit. */
static bool build_fib6(const struct route *routes, size_t count) {
  for (uint32_t groups = FIRST_GROUPS; groups <= MAX_GROUPS; groups *= 2) {
    struct rte_fib6_conf conf = {.type = RTE_FIB6_TRIE, .default_nh = 0, .max_routes = (int)count + 1};
    conf.trie.nh_sz = RTE_FIB6_TRIE_2B;
    conf.trie.num_tbl8 = groups < 32767 ? groups : 32767;
    /* Two bytes name no more groups than that. */
    if (groups > 32767) {
      conf.trie.nh_sz = RTE_FIB6_TRIE_4B;
      conf.trie.num_tbl8 = groups;
    }
    fib6 = rte_fib6_create("fib6", SOCKET_ID_ANY, &conf);
    if (!fib6) return false;
    size_t i = 0;
    while (i < count && rte_fib6_add(fib6, routes[i].address, routes[i].length, routes[i].hop) == 0) i++;
    if (i == count) return true;
    rte_fib6_free(fib6);
  }
  return false;
}

static bool build_lpm6(const struct route *routes, size_t count) {
  for (uint32_t groups = FIRST_GROUPS; groups <= MAX_GROUPS; groups *= 2) {
    struct rte_lpm6_config conf = {.max_rules = (uint32_t)count + 1, .number_tbl8s = groups};
    lpm6 = rte_lpm6_create("lpm6", SOCKET_ID_ANY, &conf);
    if (!lpm6) return false;
    size_t i = 0;
    while (i < count && rte_lpm6_add(lpm6, routes[i].address, routes[i].length, routes[i].hop) == 0) i++;
    if (i == count) return true;
    rte_lpm6_free(lpm6);
  }
  return false;
}

/* One pass over all keys; the sum of what they found. */
static uint64_t pass(const uint8_t *bytes, size_t size) {
  uint64_t sum = 0, hops[BULK];
  uint32_t hop;
  if (lpm || fib) {
    uint32_t *keys = (uint32_t *)bytes;
    size_t count = size / sizeof *keys;
    if (lpm)
      for (size_t i = 0; i < count; i++) sum += rte_lpm_lookup(lpm, keys[i], &hop) == 0 ? hop : 0;
    for (size_t i = 0; fib && i + BULK <= count; i += BULK) {
      rte_fib_lookup_bulk(fib, keys + i, hops, BULK);
      for (int k = 0; k < BULK; k++) sum += hops[k];
    }
    return sum;
  }
  uint8_t(*keys)[16] = (void *)bytes;
  size_t count = size / sizeof *keys;
  if (lpm6)
    for (size_t i = 0; i < count; i++) sum += rte_lpm6_lookup(lpm6, keys[i], &hop) == 0 ? hop : 0;
  for (size_t i = 0; fib6 && i + BULK <= count; i += BULK) {
    rte_fib6_lookup_bulk(fib6, keys + i, hops, BULK);
    for (int k = 0; k < BULK; k++) sum += hops[k];
  }
  return sum;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: dpdk-fib rte_fib|rte_lpm|rte_fib6|rte_lpm6 ROUTES [CACHE]\n");
    return 2;
  }
  /* Ordinary pages, no devices, no files shared with other processes; the scheduler may move us as it may move all. */
  char *eal[] = {"dpdk-fib", "--no-huge", "-m", "3072", "--no-pci", "--no-shconf", "--no-telemetry", "--log-level", "4"};
  cpu_set_t cpus;
  sched_getaffinity(0, sizeof cpus, &cpus);
  if (rte_eal_init(sizeof eal / sizeof *eal, eal) < 0) return 1;
  sched_setaffinity(0, sizeof cpus, &cpus);

  size_t size;
  struct route *routes = read_all(argv[2], &size);
  size_t count = size / sizeof *routes;
  uint64_t before = resident();
  double start = now();
  bool built = false;
  if (!strcmp(argv[1], "rte_fib")) built = build_fib(routes, count);
  if (!strcmp(argv[1], "rte_lpm")) built = build_lpm(routes, count, argv[3]);
  if (!strcmp(argv[1], "rte_fib6")) built = build_fib6(routes, count);
  if (!strcmp(argv[1], "rte_lpm6")) built = build_lpm6(routes, count);
  if (!built) {
    fprintf(stderr, "%s does not take these %zu routes\n", argv[1], count);
    return 1;
  }
  printf("ready %.3f %llu\n", now() - start, (unsigned long long)(resident() - before));
  fflush(stdout);

  char path[4096];
  int passes;
  while (scanf("%4095s %d", path, &passes) == 2 && passes > 0 && passes <= MAX_PASSES) {
    uint8_t *keys = read_all(path, &size);
    size_t asked = size / (fib6 || lpm6 ? 16 : 4);
    uint64_t sum = pass(keys, size);
    double speeds[MAX_PASSES];
    for (int i = 0; i < passes; i++) {
      start = now();
      if (pass(keys, size) != sum) return 1;
      speeds[i] = (double)asked / (now() - start) / 1e6;
    }
    qsort(speeds, (size_t)passes, sizeof *speeds, compare);
    printf("%.3f %llu\n", speeds[passes / 2], (unsigned long long)sum);
    fflush(stdout);
    free(keys);
  }
  return 0;
}
