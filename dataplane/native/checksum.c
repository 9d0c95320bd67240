/* The Internet checksum (RFC 1071), many bytes at a time: the sum may be taken in any width and order. */
#include "tortie.h"

#include <arpa/inet.h>
#include <string.h>

uint16_t fold_sum(uint64_t sum) {
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)sum;
}

/* Where the linker can choose at load time, wider registers make it twice as fast. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

enum { LANES = 32, STRIDE = 2 * LANES };
typedef uint64_t lanes __attribute__((vector_size(LANES)));

/* The sum of the 32-bit words of a multiple of STRIDE bytes, in four pairs of lanes that 2^32 words cannot
 * overflow. */
WIDE static uint64_t sum_strides(const uint8_t *bytes, size_t length) {
  lanes low = {0}, high = {0}, low2 = {0}, high2 = {0};
  for (; length >= STRIDE; bytes += STRIDE, length -= STRIDE) {
    lanes one, two;
    memcpy(&one, bytes, LANES);
    memcpy(&two, bytes + LANES, LANES);
    low += one & 0xffffffff;
    high += one >> 32;
    low2 += two & 0xffffffff;
    high2 += two >> 32;
  }
  low += high + low2 + high2;
  return low[0] + low[1] + low[2] + low[3];
}

uint16_t sum_words(const uint8_t *bytes, size_t length, uint32_t seed) {
  size_t strides = length & ~(size_t)(STRIDE - 1);
  uint64_t sum = fold_sum(sum_strides(bytes, strides));
  bytes += strides;
  length -= strides;
  while (length >= 4) {
    uint32_t word;
    memcpy(&word, bytes, 4);
    sum += word;
    bytes += 4;
    length -= 4;
  }
  if (length >= 2) {
    uint16_t word;
    memcpy(&word, bytes, 2);
    sum += word;
    bytes += 2;
    length -= 2;
  }
  if (length) {
    uint16_t word = 0;
    memcpy(&word, bytes, 1);
    sum += word;
  }
  /* Summed in the machine's byte order and turned at the end: section 2 (B). */
  return fold_sum((uint64_t)seed + ntohs(fold_sum(sum)));
}

napi_value checksum(napi_env env, napi_callback_info info) {
  napi_value args[4];
  struct bytes bytes;
  int64_t offset, length, seed;
  if (!get_args(env, info, "checksum", 4, args) || !get_bytes(env, args[0], "bytes", &bytes) ||
      !get_int(env, args[1], "offset", 0, (int64_t)bytes.length, &offset) ||
      !get_int(env, args[2], "length", 0, (int64_t)bytes.length - offset, &length) ||
      !get_int(env, args[3], "seed", 0, UINT32_MAX, &seed))
    return NULL;
  return from_int(env, sum_words(bytes.data + offset, (size_t)length, (uint32_t)seed));
}

/* (bytes, jobs, count): many sums in one crossing; a job is offset, length, seed, and the sum as the answer.
 */
napi_value checksums(napi_env env, napi_callback_info info) {
  enum { JOB = 4 };
  napi_value args[3];
  struct bytes bytes;
  struct cells jobs;
  int64_t count;
  if (!get_args(env, info, "checksums", 3, args) || !get_bytes(env, args[0], "bytes", &bytes) ||
      !get_cells(env, args[1], "jobs", &jobs) ||
      !get_int(env, args[2], "count", 0, (int64_t)(jobs.length / JOB), &count))
    return NULL;
  for (int64_t i = 0; i < count; i++) {
    int32_t *job = jobs.data + i * JOB;
    if (job[0] < 0 || job[1] < 0 || (size_t)job[0] + (size_t)job[1] > bytes.length)
      return throw_range(env, "checksums: job %lld (%d bytes at %d) is not within %zu bytes", (long long)i,
                         job[1], job[0], bytes.length);
    job[3] = sum_words(bytes.data + job[0], (size_t)job[1], (uint32_t)job[2]);
  }
  return NULL;
}
