/*
 * Bursts: many frames in one crossing from JavaScript. A burst is an arena of bytes and a row of sixteen int32
 * a frame (dataplane/memory/burst.ts). Every offset and length is checked against the arena before use.
 */
#include "tortie.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Cells of a row; the same numbers as in memory/burst.ts. */
enum { OFFSET, LENGTH, PORT, ADDRESS, UDP_PORT, TOS, STATUS, SEGMENT, ROW = 16 };
/* Largest frame of any port, MAX_FRAME in memory/layout.ts; and messages a recvmmsg or sendmmsg. */
enum { MAX_FRAME = 65536 + 64, BATCH = 64, LINE = 64 };

struct burst {
  struct bytes arena;
  struct cells rows;
  size_t count; /* frames wanted, or to send */
  size_t start, headroom;
};

static size_t align(size_t offset) {
  return (offset + LINE - 1) & ~(size_t)(LINE - 1);
}

static napi_value throw_fd(napi_env env, const char *call, int fd) {
  struct failure failure;
  fail(&failure, call, "descriptor %d", fd);
  return throw_failure(env, &failure);
}

/* (fd, arena, rows, max, start, headroom) */
static bool receive_args(napi_env env, napi_callback_info info, const char *call, int *fd,
                         struct burst *burst) {
  napi_value args[6];
  int64_t max, start, headroom;
  if (!get_args(env, info, call, 6, args) || !get_fd(env, args[0], fd) ||
      !get_bytes(env, args[1], "arena", &burst->arena) || !get_cells(env, args[2], "rows", &burst->rows) ||
      !get_int(env, args[3], "max", 1, (int64_t)(burst->rows.length / ROW), &max) ||
      !get_int(env, args[4], "start", 0, (int64_t)burst->arena.length, &start) ||
      !get_int(env, args[5], "headroom", 0, (int64_t)burst->arena.length, &headroom))
    return false;
  burst->count = (size_t)max;
  burst->start = align((size_t)start);
  burst->headroom = (size_t)headroom;
  if (burst->start + burst->headroom + MAX_FRAME <= burst->arena.length) return true;
  throw_range(env, "%s: no room for a frame of %d bytes behind offset %zu of %zu", call, MAX_FRAME,
              burst->start + burst->headroom, burst->arena.length);
  return false;
}

/* arena, rows, count */
static bool send_args(napi_env env, const napi_value *args, const char *call, struct burst *burst) {
  int64_t count;
  if (!get_bytes(env, args[0], "arena", &burst->arena) || !get_cells(env, args[1], "rows", &burst->rows) ||
      !get_int(env, args[2], "count", 0, (int64_t)(burst->rows.length / ROW), &count))
    return false;
  burst->count = (size_t)count;
  for (size_t i = 0; i < burst->count; i++) {
    const int32_t *row = burst->rows.data + i * ROW;
    int64_t offset = row[OFFSET], length = row[LENGTH];
    if (offset >= 0 && length >= 0 && offset + length <= (int64_t)burst->arena.length) continue;
    throw_range(env, "%s: row %zu (%lld bytes at %lld) is not within the arena of %zu", call, i,
                (long long)length, (long long)offset, burst->arena.length);
    return false;
  }
  return true;
}

static void fill_row(int32_t *row, size_t offset, size_t length) {
  memset(row, 0, ROW * sizeof *row);
  row[OFFSET] = (int32_t)offset;
  row[LENGTH] = (int32_t)length;
}

/* ---- TAP: one frame a system call, read one behind the other ------------------------------------- */

napi_value tap_read(napi_env env, napi_callback_info info) {
  int fd;
  struct burst burst;
  if (!receive_args(env, info, "tapRead", &fd, &burst)) return NULL;
  size_t count = 0, start = burst.start;
  while (count < burst.count && start + burst.headroom + MAX_FRAME <= burst.arena.length) {
    size_t offset = start + burst.headroom;
    ssize_t length = read(fd, burst.arena.data + offset, MAX_FRAME);
    if (length < 0) {
      if (errno == EINTR) continue;
      /* An error after some frames shows again at the next read. */
      if (errno == EAGAIN || count > 0) break;
      return throw_fd(env, "read", fd);
    }
    fill_row(burst.rows.data + count * ROW, offset, (size_t)length);
    count++;
    start = align(offset + (size_t)length);
  }
  return from_int(env, (int64_t)count);
}

napi_value tap_write(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int fd;
  struct burst burst;
  if (!get_args(env, info, "tapWrite", 4, args) || !get_fd(env, args[0], &fd) ||
      !send_args(env, args + 1, "tapWrite", &burst))
    return NULL;
  int64_t sent = 0;
  for (size_t i = 0; i < burst.count; i++) {
    int32_t *row = burst.rows.data + i * ROW;
    ssize_t written;
    do
      written = write(fd, burst.arena.data + row[OFFSET], (size_t)row[LENGTH]);
    while (written < 0 && errno == EINTR);
    row[STATUS] = written < 0 ? errno : 0;
    sent += written >= 0;
  }
  return from_int(env, sent);
}

/* ---- Sockets ------------------------------------------------------------------------------------- */

/* Room for one control message of an int: IP_TOS. */
union control {
  char bytes[CMSG_SPACE(sizeof(int))];
  struct cmsghdr align;
};

static int32_t tos_of(struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) return *CMSG_DATA(c);
  return 0;
}

/*
 * The kernel fills all messages of one recvmmsg before we learn their lengths, so each has a slot for the
 * largest. Slots are an odd number of cache lines apart: were it a power of two, the first lines of all slots
 * would compete for the same few sets of the cache.
 */
static napi_value receive(napi_env env, napi_callback_info info, const char *call) {
  int fd;
  struct burst burst;
  if (!receive_args(env, info, call, &fd, &burst)) return NULL;
  size_t stride = align(burst.headroom + MAX_FRAME) | LINE;
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  struct sockaddr_in sources[BATCH];
  union control controls[BATCH];
  size_t slots = 0;
  for (size_t start = burst.start; slots < BATCH && slots < burst.count; slots++, start += stride) {
    if (start + burst.headroom + MAX_FRAME > burst.arena.length) break;
    pieces[slots] = (struct iovec){burst.arena.data + start + burst.headroom, MAX_FRAME};
    messages[slots].msg_hdr = (struct msghdr){.msg_name = &sources[slots],
                                              .msg_namelen = sizeof sources[slots],
                                              .msg_iov = &pieces[slots],
                                              .msg_iovlen = 1,
                                              .msg_control = &controls[slots],
                                              .msg_controllen = sizeof controls[slots]};
  }
  int count;
  do
    count = recvmmsg(fd, messages, (unsigned)slots, MSG_DONTWAIT, NULL);
  while (count < 0 && errno == EINTR);
  if (count < 0) return errno == EAGAIN ? from_int(env, 0) : throw_fd(env, "recvmmsg", fd);
  for (int i = 0; i < count; i++) {
    int32_t *row = burst.rows.data + (size_t)i * ROW;
    fill_row(row, (size_t)((uint8_t *)pieces[i].iov_base - burst.arena.data), messages[i].msg_len);
    row[ADDRESS] = (int32_t)ntohl(sources[i].sin_addr.s_addr);
    row[UDP_PORT] = ntohs(sources[i].sin_port);
    row[TOS] = tos_of(&messages[i].msg_hdr);
  }
  return from_int(env, count);
}

napi_value udp_receive(napi_env env, napi_callback_info info) {
  return receive(env, info, "udpReceive");
}
napi_value raw_receive(napi_env env, napi_callback_info info) {
  return receive(env, info, "rawReceive");
}

struct batch {
  size_t count;
  int32_t *rows[BATCH];
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  struct sockaddr_in targets[BATCH];
  union control controls[BATCH];
};

/* Add a row. `port` 0 (raw sockets): the TOS stands in the frame's own header. */
static void batch_add(struct batch *batch, const struct burst *burst, int32_t *row, uint16_t port) {
  size_t i = batch->count++;
  batch->rows[i] = row;
  batch->pieces[i] = (struct iovec){burst->arena.data + row[OFFSET], (size_t)row[LENGTH]};
  batch->targets[i] = (struct sockaddr_in){
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl((uint32_t)row[ADDRESS])};
  struct msghdr *message = &batch->messages[i].msg_hdr;
  *message = (struct msghdr){.msg_name = &batch->targets[i],
                             .msg_namelen = sizeof batch->targets[i],
                             .msg_iov = &batch->pieces[i],
                             .msg_iovlen = 1};
  if (port == 0) return;
  message->msg_control = &batch->controls[i];
  message->msg_controllen = sizeof batch->controls[i];
  struct cmsghdr *control = CMSG_FIRSTHDR(message);
  control->cmsg_level = IPPROTO_IP;
  control->cmsg_type = IP_TOS;
  control->cmsg_len = CMSG_LEN(sizeof(int));
  int tos = row[TOS] & 0xff;
  memcpy(CMSG_DATA(control), &tos, sizeof tos);
}

/* Send all rows of the batch by one socket. sendmmsg stops at the first that fails and tells why only when
 * that one comes first: note it, go on behind it. A full socket stays full: spare the calls. */
static int64_t batch_send(struct batch *batch, int fd) {
  int64_t sent = 0;
  size_t at = 0;
  while (at < batch->count) {
    int done = sendmmsg(fd, batch->messages + at, (unsigned)(batch->count - at), MSG_DONTWAIT);
    if (done < 0) {
      if (errno == EINTR) continue;
      int error = errno;
      do
        batch->rows[at++][STATUS] = error;
      while (error == EAGAIN && at < batch->count);
      continue;
    }
    for (int i = 0; i < done; i++)
      batch->rows[at++][STATUS] = 0;
    sent += done;
  }
  batch->count = 0;
  return sent;
}

/* Rows keep their order within a socket, so within a flow. */
napi_value udp_send(napi_env env, napi_callback_info info) {
  napi_value args[5];
  struct cells pool;
  int64_t port;
  struct burst burst;
  if (!get_args(env, info, "udpSend", 5, args) || !get_cells(env, args[0], "pool", &pool) ||
      !send_args(env, args + 1, "udpSend", &burst) || !get_int(env, args[4], "port", 1, 65535, &port))
    return NULL;
  if (pool.length == 0 || (pool.length & (pool.length - 1)) != 0)
    return throw_range(env, "pool must have a power of two of sockets, not %zu", pool.length);
  int64_t sent = 0;
  struct batch batch;
  batch.count = 0;
  for (size_t first = 0; first < burst.count; first += BATCH) {
    size_t size = burst.count - first < BATCH ? burst.count - first : BATCH;
    uint64_t waiting = size == 64 ? UINT64_MAX : ((uint64_t)1 << size) - 1;
    while (waiting) {
      size_t leader = (size_t)__builtin_ctzll(waiting);
      size_t socket = (size_t)burst.rows.data[(first + leader) * ROW + UDP_PORT] & (pool.length - 1);
      for (size_t i = leader; i < size; i++) {
        int32_t *row = burst.rows.data + (first + i) * ROW;
        if (!(waiting >> i & 1) || ((size_t)row[UDP_PORT] & (pool.length - 1)) != socket) continue;
        waiting &= ~((uint64_t)1 << i);
        batch_add(&batch, &burst, row, (uint16_t)port);
      }
      sent += batch_send(&batch, pool.data[socket]);
    }
  }
  return from_int(env, sent);
}

napi_value raw_send(napi_env env, napi_callback_info info) {
  napi_value args[4];
  int fd;
  struct burst burst;
  if (!get_args(env, info, "rawSend", 4, args) || !get_fd(env, args[0], &fd) ||
      !send_args(env, args + 1, "rawSend", &burst))
    return NULL;
  int64_t sent = 0;
  struct batch batch;
  batch.count = 0;
  for (size_t i = 0; i < burst.count; i++) {
    batch_add(&batch, &burst, burst.rows.data + i * ROW, 0);
    if (batch.count == BATCH) sent += batch_send(&batch, fd);
  }
  sent += batch_send(&batch, fd);
  return from_int(env, sent);
}
