/* The Internet checksum (RFC 1071), eight bytes at a time: the sum may be taken in any width and order. */
#include "tortie.h"

#include <arpa/inet.h>
#include <string.h>

static uint16_t fold(uint64_t sum) {
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)sum;
}

/* The sum of big-endian 16-bit words, folded. An odd last byte counts as a word's first. */
static uint16_t sum_words(const uint8_t *bytes, size_t length) {
  uint64_t sum = 0;
  while (length >= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    sum += word & 0xffffffff;
    sum += word >> 32;
    bytes += 8;
    length -= 8;
  }
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
  return ntohs(fold(sum)); /* byte order independent: section 2 (B) */
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
  return from_int(env, fold((uint64_t)seed + sum_words(bytes.data + offset, (size_t)length)));
}
