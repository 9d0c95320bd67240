/* The Internet checksum (RFC 1071), eight bytes at a time: the sum may be taken in any width and order. */
#include "tortie.h"

#include <arpa/inet.h>
#include <string.h>

uint16_t fold_sum(uint64_t sum) {
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)sum;
}

uint16_t sum_words(const uint8_t *bytes, size_t length, uint32_t seed) {
  /* Two accumulators of 32-bit halves: 2^32 words fit before either can overflow. */
  uint64_t low = 0, high = 0;
  while (length >= 32) {
    uint64_t words[4];
    memcpy(words, bytes, sizeof words);
    for (int i = 0; i < 4; i++) {
      low += words[i] & 0xffffffff;
      high += words[i] >> 32;
    }
    bytes += 32;
    length -= 32;
  }
  uint64_t sum = fold_sum(low) + (uint64_t)fold_sum(high);
  while (length >= 2) {
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
