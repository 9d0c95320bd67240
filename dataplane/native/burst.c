/*
 * Bursts: many frames in one crossing of the language border. Nothing here knows a protocol; rows say where
 * a frame lies and whom it is for.
 */
#include "addon.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * Slots of a socket burst lie this far apart: the largest frame and its headroom, and not a multiple of the
 * page size, or all frames of a burst would fall into the same sets of the cache.
 */
enum { SLOT = 65536 + 640 };

static size_t align64(size_t value) {
  return (value + 63) & ~(size_t)63;
}

struct receive {
  int32_t fd;
  struct bytes arena;
  struct ints rows;
  uint32_t max;
  uint32_t start;
  uint32_t headroom;
};

static bool receive_args(napi_env env, napi_callback_info info, struct receive *r) {
  napi_value args[6];
  if (!args_get(env, info, 6, args) || !arg_int(env, args[0], "fd", &r->fd) ||
      !arg_bytes(env, args[1], "arena", &r->arena) || !arg_ints(env, args[2], "rows", &r->rows) ||
      !arg_uint(env, args[3], "max", &r->max) || !arg_uint(env, args[4], "start", &r->start) ||
      !arg_uint(env, args[5], "headroom", &r->headroom)) {
    return false;
  }
  if (r->max > MAX_BURST || (size_t)r->max * ROW > r->rows.length) {
    throw_range(env, "max is more than a burst or than the rows hold");
    return false;
  }
  return true;
}

static napi_value throw_fd(napi_env env, int error, const char *call, int fd) {
  char subject[32];
  snprintf(subject, sizeof subject, "descriptor %d", fd);
  return throw_errno(env, error, call, subject, NULL);
}

static bool is_empty(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

napi_value tap_read(napi_env env, napi_callback_info info) {
  struct receive r;
  if (!receive_args(env, info, &r)) return NULL;
  uint32_t count = 0;
  size_t at = r.start;
  /* Frames lie one behind another, so that small ones share the cache; each read must have room for the
   * largest. */
  for (; count < r.max && at + r.headroom + MAX_FRAME <= r.arena.length; count++) {
    ssize_t got = read(r.fd, r.arena.data + at + r.headroom, MAX_FRAME);
    if (got < 0) {
      if (is_empty(errno) || count > 0) break;
      return throw_fd(env, errno, "read", r.fd);
    }
    int32_t *row = r.rows.data + count * ROW;
    row[OFFSET] = (int32_t)(at + r.headroom);
    row[LENGTH] = (int32_t)got;
    at = align64(at + r.headroom + (size_t)got);
  }
  return make_int(env, count);
}

static int32_t tos_of(struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) return *(uint8_t *)CMSG_DATA(c);
  }
  return 0;
}

/* Receive from a socket, UDP or raw: rows get length, source and TOS. */
static napi_value socket_receive(napi_env env, napi_callback_info info) {
  struct receive r;
  if (!receive_args(env, info, &r)) return NULL;
  struct mmsghdr messages[MAX_BURST];
  struct iovec pieces[MAX_BURST];
  struct sockaddr_in sources[MAX_BURST];
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control[MAX_BURST];
  size_t stride = align64(r.headroom) + SLOT;
  uint32_t slots = 0;
  for (; slots < r.max && r.start + (slots + 1) * stride <= r.arena.length; slots++) {
    pieces[slots].iov_base = r.arena.data + r.start + slots * stride + r.headroom;
    pieces[slots].iov_len = MAX_FRAME;
    messages[slots].msg_hdr = (struct msghdr){.msg_name = &sources[slots],
                                              .msg_namelen = sizeof sources[slots],
                                              .msg_iov = &pieces[slots],
                                              .msg_iovlen = 1,
                                              .msg_control = control[slots].bytes,
                                              .msg_controllen = sizeof control[slots].bytes};
  }
  if (slots == 0) return throw_range(env, "the arena has no room for one frame");
  int got = recvmmsg(r.fd, messages, slots, MSG_DONTWAIT, NULL);
  if (got < 0) {
    if (is_empty(errno)) return make_int(env, 0);
    return throw_fd(env, errno, "recvmmsg", r.fd);
  }
  for (int i = 0; i < got; i++) {
    int32_t *row = r.rows.data + i * ROW;
    row[OFFSET] = (int32_t)(r.start + (size_t)i * stride + r.headroom);
    row[LENGTH] = (int32_t)messages[i].msg_len;
    row[ADDRESS] = (int32_t)ntohl(sources[i].sin_addr.s_addr);
    row[UDP_PORT] = ntohs(sources[i].sin_port);
    row[TOS] = tos_of(&messages[i].msg_hdr);
  }
  return make_int(env, got);
}

napi_value udp_receive(napi_env env, napi_callback_info info) {
  return socket_receive(env, info);
}

napi_value raw_receive(napi_env env, napi_callback_info info) {
  return socket_receive(env, info);
}

/* Whether `count` rows are there and every frame lies inside the arena. */
static bool rows_are_sound(napi_env env, const struct bytes *arena, const struct ints *rows, uint32_t count) {
  if ((size_t)count * ROW > rows->length) {
    throw_range(env, "count is more than the rows hold");
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    const int32_t *row = rows->data + i * ROW;
    if (row[OFFSET] < 0 || row[LENGTH] < 0 || (size_t)row[OFFSET] + (size_t)row[LENGTH] > arena->length) {
      throw_range(env, "a row points outside the arena");
      return false;
    }
  }
  return true;
}

napi_value tap_write(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int32_t fd;
  struct bytes arena;
  struct ints rows;
  uint32_t count;
  if (!args_get(env, info, 4, args) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_bytes(env, args[1], "arena", &arena) || !arg_ints(env, args[2], "rows", &rows) ||
      !arg_uint(env, args[3], "count", &count) || !rows_are_sound(env, &arena, &rows, count)) {
    return NULL;
  }
  uint32_t sent = 0;
  for (uint32_t i = 0; i < count; i++) {
    int32_t *row = rows.data + i * ROW;
    ssize_t put = write(fd, arena.data + row[OFFSET], (size_t)row[LENGTH]);
    row[STATUS] = put < 0 ? errno : 0;
    if (put >= 0) sent++;
  }
  return make_int(env, sent);
}

/* Up to a burst of messages for one socket, and the rows that they came from. */
struct batch {
  struct mmsghdr messages[MAX_BURST];
  struct iovec pieces[MAX_BURST];
  struct sockaddr_in to[MAX_BURST];
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control[MAX_BURST];
  int32_t *rows[MAX_BURST];
  uint32_t count;
};

static void batch_add(struct batch *b, const struct bytes *arena, int32_t *row, uint16_t port,
                      bool with_tos) {
  uint32_t i = b->count++;
  b->rows[i] = row;
  b->pieces[i] = (struct iovec){arena->data + row[OFFSET], (size_t)row[LENGTH]};
  b->to[i] = (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl((uint32_t)row[ADDRESS])};
  struct msghdr *message = &b->messages[i].msg_hdr;
  *message = (struct msghdr){
      .msg_name = &b->to[i], .msg_namelen = sizeof b->to[i], .msg_iov = &b->pieces[i], .msg_iovlen = 1};
  if (!with_tos || row[TOS] == 0) return;
  message->msg_control = b->control[i].bytes;
  message->msg_controllen = sizeof b->control[i].bytes;
  struct cmsghdr *c = CMSG_FIRSTHDR(message);
  c->cmsg_level = IPPROTO_IP;
  c->cmsg_type = IP_TOS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  int tos = row[TOS] & 0xff;
  memcpy(CMSG_DATA(c), &tos, sizeof tos);
}

/* Send a batch; one message's failure does not stop the next. Returns how many went. */
static uint32_t batch_send(struct batch *b, int fd) {
  uint32_t sent = 0, at = 0;
  while (at < b->count) {
    int went = sendmmsg(fd, b->messages + at, b->count - at, MSG_DONTWAIT);
    if (went < 0 && errno == EINTR) continue;
    if (went <= 0) {
      b->rows[at++][STATUS] = went < 0 ? errno : EIO;
      continue;
    }
    for (int i = 0; i < went; i++)
      b->rows[at++][STATUS] = 0;
    sent += (uint32_t)went;
  }
  b->count = 0;
  return sent;
}

napi_value udp_send(napi_env env, napi_callback_info info) {
  napi_value args[5];
  struct ints pool, rows;
  struct bytes arena;
  uint32_t count, port;
  if (!args_get(env, info, 5, args) || !arg_ints(env, args[0], "pool", &pool) ||
      !arg_bytes(env, args[1], "arena", &arena) || !arg_ints(env, args[2], "rows", &rows) ||
      !arg_uint(env, args[3], "count", &count) || !arg_uint(env, args[4], "port", &port) ||
      !rows_are_sound(env, &arena, &rows, count)) {
    return NULL;
  }
  if (pool.length == 0 || (pool.length & (pool.length - 1)) != 0) {
    return throw_range(env, "the pool's length must be a power of two");
  }
  struct batch batch = {.count = 0};
  uint32_t sent = 0;
  /* One pass a socket keeps a flow's frames in order and sends each socket's in one call. */
  for (size_t socket = 0; socket < pool.length; socket++) {
    for (uint32_t i = 0; i < count; i++) {
      int32_t *row = rows.data + i * ROW;
      if (((size_t)row[UDP_PORT] & (pool.length - 1)) != socket) continue;
      batch_add(&batch, &arena, row, (uint16_t)port, true);
      if (batch.count == MAX_BURST) sent += batch_send(&batch, pool.data[socket]);
    }
    if (batch.count) sent += batch_send(&batch, pool.data[socket]);
  }
  return make_int(env, sent);
}

napi_value raw_send(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int32_t fd;
  struct bytes arena;
  struct ints rows;
  uint32_t count;
  if (!args_get(env, info, 4, args) || !arg_int(env, args[0], "fd", &fd) ||
      !arg_bytes(env, args[1], "arena", &arena) || !arg_ints(env, args[2], "rows", &rows) ||
      !arg_uint(env, args[3], "count", &count) || !rows_are_sound(env, &arena, &rows, count)) {
    return NULL;
  }
  struct batch batch = {.count = 0};
  uint32_t sent = 0;
  for (uint32_t i = 0; i < count; i++) {
    batch_add(&batch, &arena, rows.data + i * ROW, 0, false);
    if (batch.count == MAX_BURST) sent += batch_send(&batch, fd);
  }
  if (batch.count) sent += batch_send(&batch, fd);
  return make_int(env, sent);
}

napi_value checksum(napi_env env, napi_callback_info info) {
  napi_value args[4];
  struct bytes bytes;
  uint32_t offset, length, seed;
  if (!args_get(env, info, 4, args) || !arg_bytes(env, args[0], "bytes", &bytes) ||
      !arg_uint(env, args[1], "offset", &offset) || !arg_uint(env, args[2], "length", &length) ||
      !arg_uint(env, args[3], "seed", &seed)) {
    return NULL;
  }
  if ((size_t)offset + length > bytes.length) return throw_range(env, "the range lies outside the bytes");
  /* RFC 1071 section 2: the sum does not care about byte order, so add native words and swap once. */
  const uint8_t *at = bytes.data + offset;
  uint64_t sum = 0;
  for (; length >= 4; at += 4, length -= 4) {
    uint32_t word;
    memcpy(&word, at, 4);
    sum += word;
  }
  uint8_t rest[4] = {0};
  memcpy(rest, at, length);
  uint32_t word;
  memcpy(&word, rest, 4);
  sum += word;
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  uint32_t folded = ntohs((uint16_t)sum) + seed;
  while (folded >> 16)
    folded = (folded & 0xffff) + (folded >> 16);
  return make_int(env, folded);
}
