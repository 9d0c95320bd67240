/*
 * Bursts: many frames in one crossing from JavaScript. A burst is an arena of bytes and a row of sixteen
 * int32 a frame (dataplane/memory/burst.ts). Every offset and length is checked against the arena before use.
 */
#include "tortie.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Cells of a row, and bits of OFFLOAD; the same numbers as in memory/burst.ts. */
enum {
  OFFSET,
  LENGTH,
  PORT,
  ADDRESS,
  UDP_PORT,
  TOS,
  STATUS,
  SEGMENT,
  OFFLOAD,
  CHECKSUM_START,
  CHECKSUM_FIELD,
  PIECES,
  PIECE,
  HEADERS_END,
  OUTER_TRANSPORT,
  INNER_NETWORK,
  ROW,
  BODY_OFFSET = OUTER_TRANSPORT,
  BODY_LENGTH = INNER_NETWORK
};
enum {
  SUPER_MASK = 0xff,
  SUPER_UDP = 5,
  SUPER_ECN = 0x100,
  PARTIAL_CHECKSUM = 0x200,
  CHECKED = 0x400,
  TIGHT = 0x1000
};
/* Largest frame of any port, MAX_FRAME in memory/layout.ts; messages a recvmmsg or sendmmsg; bytes after
 * which a burst of reads ends. */
enum { MAX_FRAME = 65536 + 64, BATCH = 64, LINE = 64, BURST_BYTES = 128 * 1024, FEELER = 4 };

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
static bool receive_args(napi_env env, const napi_value *args, const char *call, int *fd,
                         struct burst *burst) {
  int64_t max, start, headroom;
  if (!get_fd(env, args[0], fd) || !get_bytes(env, args[1], "arena", &burst->arena) ||
      !get_cells(env, args[2], "rows", &burst->rows) ||
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

/* Whether a row's bytes, its body if it is a piece, and a checksum to complete lie within the arena. */
static bool is_within(const struct burst *burst, const int32_t *row, bool piece) {
  int64_t size = (int64_t)burst->arena.length, offset = row[OFFSET], length = row[LENGTH];
  if (offset < 0 || length < 0 || offset + length > size) return false;
  if (piece &&
      (row[BODY_OFFSET] < 0 || row[BODY_LENGTH] < 0 || (int64_t)row[BODY_OFFSET] + row[BODY_LENGTH] > size))
    return false;
  if (!(row[OFFLOAD] & PARTIAL_CHECKSUM)) return true;
  return row[CHECKSUM_START] >= offset && row[CHECKSUM_FIELD] >= row[CHECKSUM_START] &&
         row[CHECKSUM_FIELD] + 2 <= offset + length;
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
    if (!is_within(burst, row, false)) {
      throw_range(env, "%s: row %zu (%d bytes at %d) is not within the arena of %zu", call, i, row[LENGTH],
                  row[OFFSET], burst->arena.length);
      return false;
    }
    if (row[PIECES] == 0) continue;
    bool good = row[PIECES] > 0 && row[PIECE] >= 0 &&
                (size_t)row[PIECE] + (size_t)row[PIECES] <= burst->rows.length / ROW;
    for (int32_t p = 0; good && p < row[PIECES]; p++)
      good = is_within(burst, burst->rows.data + (size_t)(row[PIECE] + p) * ROW, true);
    if (good) continue;
    throw_range(env, "%s: the pieces of row %zu (%d from row %d) are not within rows or arena", call, i,
                row[PIECES], row[PIECE]);
    return false;
  }
  return true;
}

/*
 * Complete a checksum that was left partial: the field holds the sum of the pseudo header, the checksummed
 * bytes end with the row's, or with its body. 0 is written as 0xffff, which UDP needs and nobody minds (so
 * does the kernel's skb_checksum_help), but not in the segments of a TCP super-frame, where the kernel's own
 * segmentation leaves it.
 */
static void complete_checksum(const struct burst *burst, const int32_t *row, size_t body_length) {
  uint8_t *arena = burst->arena.data;
  size_t length = (size_t)(row[OFFSET] + row[LENGTH] - row[CHECKSUM_START]);
  uint16_t sum = sum_words(arena + row[CHECKSUM_START], length, 0);
  if (body_length > 0) {
    uint16_t body = sum_words(arena + row[BODY_OFFSET], body_length, 0);
    /* Behind an odd number of bytes high and low halves of words change places. */
    sum = fold_sum((uint64_t)sum + (length & 1 ? (uint16_t)(body << 8 | body >> 8) : body));
  }
  uint16_t checksum = (uint16_t)~sum;
  int kind = row[OFFLOAD] & SUPER_MASK;
  if (checksum == 0 && (kind == 0 || kind == SUPER_UDP)) checksum = 0xffff;
  arena[row[CHECKSUM_FIELD]] = (uint8_t)(checksum >> 8);
  arena[row[CHECKSUM_FIELD] + 1] = (uint8_t)checksum;
}

static void fill_row(int32_t *row, size_t offset, size_t length) {
  memset(row, 0, ROW * sizeof *row);
  row[OFFSET] = (int32_t)offset;
  row[LENGTH] = (int32_t)length;
}

/* ---- TAP: one frame a system call, read one behind the other ------------------------------------- */

/*
 * What a device with IFF_VNET_HDR puts before each frame: struct virtio_net_hdr (virtio 1.2, 5.1.6) in the
 * machine's byte order, and with 24 bytes virtio_net_hdr_v1_hash_tunnel. Debian 12's headers lack the latter.
 */
struct vnet {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset;
  uint16_t num_buffers;
  uint32_t hash_value;
  uint16_t hash_report, padding;
  uint16_t outer_th_offset, inner_nh_offset;
} __attribute__((packed));
enum { VNET_PLAIN = 10, VNET_TUNNEL = sizeof(struct vnet) };
enum { NEEDS_CSUM = 1, DATA_VALID = 2, UDP_TUNNEL_CSUM = 8 };
enum { GSO_UDP_TUNNEL_IPV4 = 0x20, GSO_ECN = 0x80 };

static bool get_vnet(napi_env env, napi_value value, size_t *header) {
  int64_t size;
  if (!get_int(env, value, "vnetHeader", 0, VNET_TUNNEL, &size)) return false;
  *header = (size_t)size;
  if (size == 0 || size == VNET_PLAIN || size == VNET_TUNNEL) return true;
  throw_range(env, "vnetHeader must be 0, %d or %d", VNET_PLAIN, VNET_TUNNEL);
  return false;
}

/* What the header says, into the row. Whether it is true of the frame is for the reader of the row to judge.
 */
static void from_vnet(int32_t *row, const uint8_t *header) {
  struct vnet vnet;
  memcpy(&vnet, header, VNET_PLAIN);
  int kind = vnet.gso_type & ~GSO_ECN;
  if (kind != 0) {
    row[SEGMENT] = vnet.gso_size;
    row[OFFLOAD] = kind | (vnet.gso_type & GSO_ECN ? SUPER_ECN : 0);
    row[HEADERS_END] = row[OFFSET] + vnet.hdr_len;
  }
  if (vnet.flags & NEEDS_CSUM) {
    row[OFFLOAD] |= PARTIAL_CHECKSUM;
    row[CHECKSUM_START] = row[OFFSET] + vnet.csum_start;
    row[CHECKSUM_FIELD] = row[CHECKSUM_START] + vnet.csum_offset;
  } else if (vnet.flags & DATA_VALID) {
    row[OFFLOAD] |= CHECKED;
  }
}

static void to_vnet(struct vnet *vnet, const int32_t *row) {
  memset(vnet, 0, sizeof *vnet);
  int offload = row[OFFLOAD], offset = row[OFFSET];
  if (offload & SUPER_MASK) {
    vnet->gso_type = (uint8_t)((offload & SUPER_MASK) | (offload & SUPER_ECN ? GSO_ECN : 0));
    vnet->gso_size = (uint16_t)row[SEGMENT];
    if (row[HEADERS_END] > offset) vnet->hdr_len = (uint16_t)(row[HEADERS_END] - offset);
  }
  if (offload & PARTIAL_CHECKSUM) {
    vnet->flags = NEEDS_CSUM;
    vnet->csum_start = (uint16_t)(row[CHECKSUM_START] - offset);
    vnet->csum_offset = (uint16_t)(row[CHECKSUM_FIELD] - row[CHECKSUM_START]);
  } else if (offload & CHECKED) {
    vnet->flags = DATA_VALID;
  }
  if (row[OUTER_TRANSPORT] == 0) return;
  vnet->flags |= UDP_TUNNEL_CSUM;
  vnet->gso_type |= GSO_UDP_TUNNEL_IPV4;
  vnet->outer_th_offset = (uint16_t)(row[OUTER_TRANSPORT] - offset);
  vnet->inner_nh_offset = (uint16_t)(row[INNER_NETWORK] - offset);
}

napi_value tap_read(napi_env env, napi_callback_info info) {
  napi_value args[7];
  int fd;
  size_t header;
  struct burst burst;
  if (!get_args(env, info, "tapRead", 7, args) || !receive_args(env, args, "tapRead", &fd, &burst) ||
      !get_vnet(env, args[6], &header))
    return NULL;
  if (burst.headroom < header)
    return throw_range(env, "tapRead: a headroom of %zu has no room for a header of %zu", burst.headroom,
                       header);
  size_t count = 0, start = burst.start;
  while (count < burst.count && start + burst.headroom + MAX_FRAME <= burst.arena.length) {
    size_t offset = start + burst.headroom;
    ssize_t length = read(fd, burst.arena.data + offset - header, MAX_FRAME + header);
    if (length < 0) {
      if (errno == EINTR) continue;
      /* An error after some frames shows again at the next read. */
      if (errno == EAGAIN || count > 0) break;
      return throw_fd(env, "read", fd);
    }
    if ((size_t)length < header) break; /* no frame at all: nothing that the driver does */
    length -= (ssize_t)header;
    int32_t *row = burst.rows.data + count * ROW;
    fill_row(row, offset, (size_t)length);
    if (header) from_vnet(row, burst.arena.data + offset - header);
    count++;
    start = align(offset + (size_t)length);
    /* Much is in hand: send it while it is in the cache. */
    if (start - burst.start > BURST_BYTES) break;
  }
  return from_int(env, (int64_t)count);
}

/* Pieces that a frame may have: each one is a segment, and 64 KiB hold no more of those that are worth it. */
enum { MAX_PIECES = 256 };

/* A frame of one piece, its header written into the free bytes in front of it: one range costs the kernel
 * less. */
static ssize_t write_whole(int fd, const struct burst *burst, const int32_t *row, size_t header) {
  uint8_t *start = burst->arena.data + row[OFFSET] - header;
  if (header) {
    struct vnet vnet;
    to_vnet(&vnet, row);
    memcpy(start, &vnet, header);
  }
  return write(fd, start, (size_t)row[LENGTH] + header);
}

static ssize_t write_pieces(int fd, const struct burst *burst, const int32_t *row, size_t header) {
  struct vnet vnet;
  struct iovec parts[2 + MAX_PIECES];
  size_t count = 0;
  to_vnet(&vnet, row);
  parts[count++] = (struct iovec){&vnet, header};
  parts[count++] = (struct iovec){burst->arena.data + row[OFFSET], (size_t)row[LENGTH]};
  for (int32_t p = 0; p < row[PIECES]; p++) {
    const int32_t *piece = burst->rows.data + (size_t)(row[PIECE] + p) * ROW;
    parts[count++] = (struct iovec){burst->arena.data + piece[OFFSET], (size_t)piece[LENGTH]};
  }
  return writev(fd, parts, (int)count);
}

static ssize_t write_frame(int fd, const struct burst *burst, const int32_t *row, size_t header) {
  bool is_whole = row[PIECES] == 0 && !(row[OFFLOAD] & TIGHT) && (size_t)row[OFFSET] >= header;
  if (row[PIECES] > MAX_PIECES || (header == 0 && row[OFFLOAD] & SUPER_MASK)) {
    errno = EMSGSIZE; /* more than a call takes, or a device that takes no super-frames */
    return -1;
  }
  if (header == 0 && row[OFFLOAD] & PARTIAL_CHECKSUM) complete_checksum(burst, row, 0);
  ssize_t written;
  do
    written = is_whole ? write_whole(fd, burst, row, header) : write_pieces(fd, burst, row, header);
  while (written < 0 && errno == EINTR);
  return written;
}

napi_value tap_write(napi_env env, napi_callback_info info) {
  napi_value args[5];
  int fd;
  size_t header;
  struct burst burst;
  if (!get_args(env, info, "tapWrite", 5, args) || !get_fd(env, args[0], &fd) ||
      !send_args(env, args + 1, "tapWrite", &burst) || !get_vnet(env, args[4], &header))
    return NULL;
  int64_t sent = 0;
  for (size_t i = 0; i < burst.count; i++) {
    int32_t *row = burst.rows.data + i * ROW;
    ssize_t written = write_frame(fd, &burst, row, header);
    row[STATUS] = written < 0 ? errno : 0;
    sent += written >= 0;
  }
  return from_int(env, sent);
}

/* ---- Sockets ------------------------------------------------------------------------------------- */

/* Room for two control messages of an int: IP_TOS or IPV6_TCLASS, and UDP_GRO or UDP_SEGMENT. */
union control {
  char bytes[2 * CMSG_SPACE(sizeof(int))];
  struct cmsghdr align;
};

/* An address of either family. */
union place {
  struct sockaddr any;
  struct sockaddr_in four;
  struct sockaddr_in6 six;
};

/* Where the outer headers of a datagram that is sent over IPv6 stand, counted back from it: the pipeline
 * wrote them, and the kernel writes all of them anew but for the destination and the flow label, which it
 * takes from here. */
enum { OUTER6 = 48, DESTINATION6 = 24, ADDRESS6 = 16, FLOW_LABEL = 0xfffff };

/* Whence a datagram came. An IPv6 address does not fit a row: it is put in front of the datagram, where there
 * is room. */
static void from_place(const union place *place, const struct burst *burst, int32_t *row) {
  if (place->any.sa_family != AF_INET6) {
    row[ADDRESS] = (int32_t)ntohl(place->four.sin_addr.s_addr);
    row[UDP_PORT] = ntohs(place->four.sin_port);
    return;
  }
  row[UDP_PORT] = ntohs(place->six.sin6_port);
  if (burst->headroom < ADDRESS6) return;
  memcpy(burst->arena.data + row[OFFSET] - ADDRESS6, &place->six.sin6_addr, ADDRESS6);
}

/* The outer TOS, and the size of each datagram but the last when the kernel joined several (UDP_GRO). */
static void from_control(struct msghdr *message, int32_t *row) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) row[TOS] = *CMSG_DATA(c);
    if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
      int class;
      memcpy(&class, CMSG_DATA(c), sizeof class);
      row[TOS] = class;
    }
    if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
      int size;
      memcpy(&size, CMSG_DATA(c), sizeof size);
      row[SEGMENT] = size;
    }
  }
}

/*
 * The kernel fills all messages of one recvmmsg before we learn their lengths, so each has a slot for the
 * largest. Slots are an odd number of cache lines apart: were it a power of two, the first lines of all slots
 * would compete for the same few sets of the cache.
 */
static napi_value receive(napi_env env, napi_callback_info info, const char *call) {
  napi_value args[6];
  int fd;
  struct burst burst;
  if (!get_args(env, info, call, 6, args) || !receive_args(env, args, call, &fd, &burst)) return NULL;
  size_t stride = align(burst.headroom + MAX_FRAME) | LINE;
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  union place sources[BATCH];
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
  /* A few first: when they are super-packets the burst ends there, when they are not the rest is fetched. */
  size_t count = 0, bytes = 0, wanted = slots < FEELER ? slots : FEELER;
  while (count < wanted) {
    int got = recvmmsg(fd, messages + count, (unsigned)(wanted - count), MSG_DONTWAIT, NULL);
    if (got < 0) {
      if (errno == EINTR) continue;
      /* An error after some datagrams shows again at the next receive. */
      if (errno == EAGAIN || count > 0) break;
      return throw_fd(env, "recvmmsg", fd);
    }
    for (size_t i = count; i < count + (size_t)got; i++)
      bytes += messages[i].msg_len;
    count += (size_t)got;
    if (count < wanted || bytes > BURST_BYTES) break;
    wanted = slots;
  }
  for (size_t i = 0; i < count; i++) {
    int32_t *row = burst.rows.data + i * ROW;
    fill_row(row, (size_t)((uint8_t *)pieces[i].iov_base - burst.arena.data), messages[i].msg_len);
    from_place(&sources[i], &burst, row);
    from_control(&messages[i].msg_hdr, row);
  }
  return from_int(env, (int64_t)count);
}

napi_value udp_receive(napi_env env, napi_callback_info info) {
  return receive(env, info, "udpReceive");
}
napi_value raw_receive(napi_env env, napi_callback_info info) {
  return receive(env, info, "rawReceive");
}

/*
 * Messages for one socket: a frame, a run of the packets that a frame was cut into, or a run of frames that
 * stand one behind another in the burst and are as long.
 */
enum { MAX_PARTS = 1024, MAX_SEGMENTS = 64, MAX_DATAGRAMS = 65000 };
struct batch {
  int fd;
  size_t count, parts_used;
  /* Of each message its first row, how many rows it has, and whether it may get another. */
  int32_t *rows[BATCH];
  size_t lengths[BATCH];
  bool open;
  struct mmsghdr messages[BATCH];
  struct iovec parts[MAX_PARTS];
  bool is_six;
  const uint8_t *arena;
  union place targets[BATCH];
  union control controls[BATCH];
};

/* Send all. sendmmsg stops at the first message that fails and tells why only when that one comes first: note
 * it, go on behind it. A full socket stays full: spare the calls. */
static void batch_send(struct batch *batch) {
  size_t at = 0;
  while (at < batch->count) {
    int done = sendmmsg(batch->fd, batch->messages + at, (unsigned)(batch->count - at), MSG_DONTWAIT);
    if (done >= 0) {
      at += (size_t)done;
      continue;
    }
    if (errno == EINTR) continue;
    int error = errno;
    do {
      for (size_t i = 0; i < batch->lengths[at]; i++) {
        int32_t *status = batch->rows[at] + i * ROW + STATUS;
        if (*status == 0) *status = error;
      }
      at++;
    } while (error == EAGAIN && at < batch->count);
  }
  batch->count = 0;
  batch->parts_used = 0;
  batch->open = false;
}

static void *put_control(struct msghdr *message, union control *room, int level, int type, size_t size) {
  struct cmsghdr *control = (struct cmsghdr *)(room->bytes + message->msg_controllen);
  message->msg_control = room;
  message->msg_controllen += CMSG_SPACE(size);
  control->cmsg_level = level;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(size);
  return CMSG_DATA(control);
}

static uint32_t flow_label(const struct batch *batch, const int32_t *row) {
  uint32_t word;
  memcpy(&word, batch->arena + row[OFFSET] - OUTER6, sizeof word);
  return ntohl(word) & FLOW_LABEL;
}

/* Begin a message of at most `parts` parts. `port` 0 (raw sockets): the TOS stands in the frame's own header.
 */
static struct msghdr *batch_add(struct batch *batch, int32_t *row, uint16_t port, size_t parts) {
  if (batch->count == BATCH || batch->parts_used + parts > MAX_PARTS) batch_send(batch);
  size_t i = batch->count++;
  batch->rows[i] = row;
  batch->lengths[i] = 1;
  batch->open = false;
  struct msghdr *message = &batch->messages[i].msg_hdr;
  *message = (struct msghdr){.msg_name = &batch->targets[i], .msg_iov = &batch->parts[batch->parts_used]};
  if (batch->is_six) {
    struct sockaddr_in6 *six = &batch->targets[i].six;
    *six = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_flowinfo = htonl(flow_label(batch, row))};
    memcpy(&six->sin6_addr, batch->arena + row[OFFSET] - DESTINATION6, ADDRESS6);
    message->msg_namelen = sizeof *six;
  } else {
    batch->targets[i].four = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl((uint32_t)row[ADDRESS])};
    message->msg_namelen = sizeof batch->targets[i].four;
  }
  if (port == 0) return message;
  int tos = row[TOS] & 0xff, level = batch->is_six ? IPPROTO_IPV6 : IPPROTO_IP;
  int type = batch->is_six ? IPV6_TCLASS : IP_TOS;
  memcpy(put_control(message, &batch->controls[i], level, type, sizeof tos), &tos, sizeof tos);
  return message;
}

static void add_part(struct batch *batch, struct msghdr *message, const struct burst *burst, int32_t offset,
                     int32_t length) {
  if (length == 0) return;
  batch->parts[batch->parts_used++] = (struct iovec){burst->arena.data + offset, (size_t)length};
  message->msg_iovlen++;
}

static void add_piece(struct batch *batch, struct msghdr *message, const struct burst *burst,
                      const int32_t *piece) {
  if (piece[OFFLOAD] & PARTIAL_CHECKSUM) complete_checksum(burst, piece, (size_t)piece[BODY_LENGTH]);
  add_part(batch, message, burst, piece[OFFSET], piece[LENGTH]);
  add_part(batch, message, burst, piece[BODY_OFFSET], piece[BODY_LENGTH]);
}

static void put_segment(struct batch *batch, size_t size) {
  size_t i = batch->count - 1;
  uint16_t segment = (uint16_t)size;
  memcpy(put_control(&batch->messages[i].msg_hdr, &batch->controls[i], SOL_UDP, UDP_SEGMENT, sizeof segment),
         &segment, sizeof segment);
}

/*
 * Whether the frame went into the message before it, as one more datagram of its run: the kernel takes a
 * run's way once. All but the last are of one size.
 */
static bool join_run(struct batch *batch, const struct burst *burst, const int32_t *row) {
  if (!batch->open || batch->parts_used == MAX_PARTS) return false;
  size_t i = batch->count - 1, length = batch->lengths[i];
  const int32_t *first = batch->rows[i];
  if (row != first + length * ROW || row[ADDRESS] != first[ADDRESS] || row[TOS] != first[TOS] ||
      row[LENGTH] > first[LENGTH] || length == MAX_SEGMENTS ||
      (length + 1) * (size_t)first[LENGTH] > MAX_DATAGRAMS)
    return false;
  if (batch->is_six && flow_label(batch, row) != flow_label(batch, first)) return false;
  if (length == 1) put_segment(batch, (size_t)first[LENGTH]);
  add_part(batch, &batch->messages[i].msg_hdr, burst, row[OFFSET], row[LENGTH]);
  batch->lengths[i]++;
  batch->open = row[LENGTH] == first[LENGTH];
  return true;
}

/* Add a frame that is one packet, or was cut into pieces. `runs`: it may join a run. */
static void add_row(struct batch *batch, const struct burst *burst, int32_t *row, uint16_t port, bool runs) {
  row[STATUS] = 0;
  if (row[PIECES] == 0) {
    if (row[OFFLOAD] & SUPER_MASK) {
      row[STATUS] = E2BIG; /* could not be cut */
      return;
    }
    if (row[OFFLOAD] & PARTIAL_CHECKSUM) complete_checksum(burst, row, 0);
    if (join_run(batch, burst, row)) return;
    add_part(batch, batch_add(batch, row, port, 1), burst, row[OFFSET], row[LENGTH]);
    batch->open = runs;
    return;
  }
  size_t segment = (size_t)row[SEGMENT];
  size_t most = segment == 0 ? 1 : MAX_DATAGRAMS / segment;
  if (most > MAX_SEGMENTS) most = MAX_SEGMENTS;
  if (most == 0) most = 1;
  for (size_t at = 0, all = (size_t)row[PIECES]; at < all;) {
    size_t end = at + most < all ? at + most : all;
    struct msghdr *message = batch_add(batch, row, port, 2 * (end - at));
    if (end - at > 1) put_segment(batch, segment);
    for (; at < end; at++)
      add_piece(batch, message, burst, burst->rows.data + ((size_t)row[PIECE] + at) * ROW);
  }
}

static napi_value count_sent(napi_env env, const struct burst *burst) {
  int64_t sent = 0;
  for (size_t i = 0; i < burst->count; i++)
    sent += burst->rows.data[i * ROW + STATUS] == 0;
  return from_int(env, sent);
}

/* Whether the outer headers of all rows lie within the arena. */
static bool have_outer6(napi_env env, const char *call, const struct burst *burst) {
  for (size_t i = 0; i < burst->count; i++) {
    int32_t offset = burst->rows.data[i * ROW + OFFSET];
    if (offset >= OUTER6) continue;
    throw_range(env, "%s: row %zu at %d has no outer headers before it", call, i, offset);
    return false;
  }
  return true;
}

/* Rows keep their order within a socket, so within a flow. */
static napi_value send_datagrams(napi_env env, napi_callback_info info, const char *call, bool is_six) {
  napi_value args[6];
  struct cells pool;
  int64_t port, runs;
  struct burst burst;
  if (!get_args(env, info, call, 6, args) || !get_cells(env, args[0], "pool", &pool) ||
      !send_args(env, args + 1, call, &burst) || (is_six && !have_outer6(env, call, &burst)) ||
      !get_int(env, args[4], "port", 1, 65535, &port) || !get_int(env, args[5], "runs", 0, 1, &runs))
    return NULL;
  if (pool.length == 0 || (pool.length & (pool.length - 1)) != 0)
    return throw_range(env, "pool must have a power of two of sockets, not %zu", pool.length);
  struct batch batch;
  batch.is_six = is_six;
  batch.arena = burst.arena.data;
  batch.count = batch.parts_used = 0;
  batch.open = false;
  for (size_t first = 0; first < burst.count; first += BATCH) {
    size_t size = burst.count - first < BATCH ? burst.count - first : BATCH;
    uint64_t waiting = size == 64 ? UINT64_MAX : ((uint64_t)1 << size) - 1;
    while (waiting) {
      size_t leader = (size_t)__builtin_ctzll(waiting);
      size_t socket = (size_t)burst.rows.data[(first + leader) * ROW + UDP_PORT] & (pool.length - 1);
      batch.fd = pool.data[socket];
      for (size_t i = leader; i < size; i++) {
        int32_t *row = burst.rows.data + (first + i) * ROW;
        if (!(waiting >> i & 1) || ((size_t)row[UDP_PORT] & (pool.length - 1)) != socket) continue;
        waiting &= ~((uint64_t)1 << i);
        add_row(&batch, &burst, row, (uint16_t)port, runs != 0);
      }
      batch_send(&batch);
    }
  }
  return count_sent(env, &burst);
}

napi_value udp_send(napi_env env, napi_callback_info info) {
  return send_datagrams(env, info, "udpSend", false);
}
napi_value udp6_send(napi_env env, napi_callback_info info) {
  return send_datagrams(env, info, "udp6Send", true);
}

napi_value raw_send(napi_env env, napi_callback_info info) {
  napi_value args[4];
  struct burst burst;
  struct batch batch;
  if (!get_args(env, info, "rawSend", 4, args) || !get_fd(env, args[0], &batch.fd) ||
      !send_args(env, args + 1, "rawSend", &burst))
    return NULL;
  batch.is_six = false;
  batch.count = batch.parts_used = 0;
  batch.open = false;
  for (size_t i = 0; i < burst.count; i++)
    add_row(&batch, &burst, burst.rows.data + i * ROW, 0, false);
  batch_send(&batch);
  return count_sent(env, &burst);
}
