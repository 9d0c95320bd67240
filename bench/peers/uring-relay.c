/*
 * c-relay with io_uring in place of read(2) and write(2): up to 64 reads in one submission, then the writes
 * in one. The packet code is c-relay's own.
 *
 *   uring-relay [--registered | --multishot] [c-relay's arguments]
 *
 * --registered: files and the arena are registered with the ring. --multishot: one armed read a TAP, whose
 * completions bring buffers of a ring (Linux >= 6.7), in place of reads that may find nothing. What came of it:
 * docs/ARCHITECTURE.md, io_uring.
 */
#define main c_relay_main
#include "c-relay.c"
#undef main
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

enum { ENTRIES = 128, BUFFERS = 128, READ_MULTISHOT = 49, FIRST_READS = 4 };

static struct {
  int fd;
  unsigned *sq_tail, *sq_array, sq_mask;
  unsigned *cq_head, *cq_tail, cq_mask;
  struct io_uring_sqe *sqes;
  struct io_uring_cqe *cqes;
  unsigned pending;
} ring;
static bool registered, multishot;
static uint8_t slots[BUFFERS * SLOT];
static struct io_uring_buf_ring *groups[2];

static void open_ring(void) {
  struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                                            (multishot ? IORING_SETUP_DEFER_TASKRUN : 0),
                                   .cq_entries = 4 * ENTRIES};
  ring.fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &params);
  if (ring.fd < 0) die("io_uring_setup");
  size_t size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
  ring.sqes = mmap(NULL, params.sq_entries * sizeof *ring.sqes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
  if (base == MAP_FAILED || ring.sqes == MAP_FAILED) die("mmap io_uring");
  ring.sq_tail = (unsigned *)(base + params.sq_off.tail);
  ring.sq_array = (unsigned *)(base + params.sq_off.array);
  ring.sq_mask = *(unsigned *)(base + params.sq_off.ring_mask);
  ring.cq_head = (unsigned *)(base + params.cq_off.head);
  ring.cq_tail = (unsigned *)(base + params.cq_off.tail);
  ring.cq_mask = *(unsigned *)(base + params.cq_off.ring_mask);
  ring.cqes = (struct io_uring_cqe *)(base + params.cq_off.cqes);
}

static struct io_uring_sqe *queue(int operation, int file, void *bytes, uint32_t length, uint64_t tag) {
  unsigned tail = *ring.sq_tail, at = tail & ring.sq_mask;
  struct io_uring_sqe *sqe = &ring.sqes[at];
  *sqe = (struct io_uring_sqe){.opcode = (uint8_t)operation, .fd = file, .addr = (uintptr_t)bytes,
                               .len = length, .user_data = tag};
  if (registered) sqe->flags = IOSQE_FIXED_FILE;
  ring.sq_array[at] = at;
  atomic_store_explicit((_Atomic unsigned *)ring.sq_tail, tail + 1, memory_order_release);
  ring.pending++;
  return sqe;
}

static void enter(unsigned wait) {
  unsigned submit = ring.pending;
  ring.pending = 0;
  long done = syscall(SYS_io_uring_enter, ring.fd, submit, wait, IORING_ENTER_GETEVENTS, NULL, 0);
  if (done < 0 && errno != EINTR) die("io_uring_enter");
}

static const struct io_uring_cqe *next_completion(void) {
  unsigned head = *ring.cq_head;
  if (head == atomic_load_explicit((_Atomic unsigned *)ring.cq_tail, memory_order_acquire)) return NULL;
  return &ring.cqes[head & ring.cq_mask];
}
static void consumed(void) {
  atomic_store_explicit((_Atomic unsigned *)ring.cq_head, *ring.cq_head + 1, memory_order_release);
}

/* Where the frame goes to: 0 or 1, or -1. */
static int route(const struct pod *pods, unsigned from, uint8_t *start, uint32_t length) {
  if (length < header + 14) return -1;
  uint8_t *frame = start + header;
  length -= header;
  bool super = header != 0 && ((struct virtio_net_hdr *)start)->gso_type != VIRTIO_NET_HDR_GSO_NONE;
  uint16_t type = get16(frame + 12);
  if (type == 0x0806 && answer_arp(&pods[from], frame, length)) return (int)from;
  if (type == 0x0800 && forward(&pods[from], &pods[1 - from], frame, length, super)) return 1 - (int)from;
  return -1;
}

static int file_of(const struct pod *pods, int pod) { return registered ? pod : pods[pod].fd; }

/* One burst. `*reads` follows what there was, so that few reads find nothing. */
static void serve_by_ring(const struct pod *pods, unsigned from, unsigned *reads) {
  for (unsigned i = 0; i < *reads; i++)
    /* RWF_NOWAIT: the ring would wait for more where read(2) on a non-blocking file says EAGAIN. */
    queue(registered ? IORING_OP_READ_FIXED : IORING_OP_READ, file_of(pods, (int)from), slots + i * SLOT, MAX_FRAME, i)
        ->rw_flags = RWF_NOWAIT;
  enter(*reads);
  unsigned count = 0, writes = 0, lengths_of[BURST] = {0};
  for (const struct io_uring_cqe *cqe; (cqe = next_completion()); consumed())
    if (cqe->res > 0) {
      lengths_of[cqe->user_data] = (unsigned)cqe->res;
      count++;
    }
  for (unsigned i = 0; i < *reads; i++) {
    uint8_t *start = slots + i * SLOT;
    int to = lengths_of[i] ? route(pods, from, start, lengths_of[i]) : -1;
    if (to < 0) continue;
    queue(registered ? IORING_OP_WRITE_FIXED : IORING_OP_WRITE, file_of(pods, to), start, lengths_of[i], i);
    writes++;
  }
  if (writes > 0) enter(writes);
  while (next_completion()) consumed();
  *reads = count == *reads ? 2 * count : count + 2;
  if (*reads > BURST) *reads = BURST;
  if (*reads < FIRST_READS) *reads = FIRST_READS;
}

static void by_bursts(const struct pod *pods) {
  if (registered) {
    int files[2] = {pods[0].fd, pods[1].fd};
    struct iovec whole = {slots, sizeof slots};
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, files, 2) < 0) die("register files");
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &whole, 1) < 0) die("register buffers");
  }
  int epoll = epoll_create1(0);
  unsigned reads[2] = {FIRST_READS, FIRST_READS};
  for (unsigned i = 0; i < 2; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, pods[i].fd, &event) < 0) die("epoll_ctl");
  }
  for (;;) {
    struct epoll_event events[2];
    int ready = epoll_wait(epoll, events, 2, -1);
    for (int i = 0; i < ready; i++) serve_by_ring(pods, events[i].data.u32, &reads[events[i].data.u32]);
  }
}

/* Half of the slots to each TAP's group of buffers. */
static void give(unsigned group, unsigned id) {
  struct io_uring_buf_ring *buffers = groups[group];
  unsigned short tail = buffers->tail;
  struct io_uring_buf *buffer = &buffers->bufs[tail & (BUFFERS / 2 - 1)];
  buffer->addr = (uintptr_t)(slots + (group * (BUFFERS / 2) + id) * SLOT);
  buffer->len = MAX_FRAME;
  buffer->bid = (uint16_t)id;
  atomic_store_explicit((_Atomic unsigned short *)&buffers->tail, (unsigned short)(tail + 1), memory_order_release);
}

enum { WRITE_TAG = 1 << 16 };

static void arm(const struct pod *pods, unsigned group) {
  struct io_uring_sqe *sqe = queue(READ_MULTISHOT, pods[group].fd, NULL, 0, group);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = (uint16_t)group;
}

static void by_multishot(const struct pod *pods) {
  for (unsigned group = 0; group < 2; group++) {
    groups[group] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct io_uring_buf_reg request = {
        .ring_addr = (uintptr_t)groups[group], .ring_entries = BUFFERS / 2, .bgid = (uint16_t)group};
    if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_PBUF_RING, &request, 1) < 0) die("register buffer ring");
    for (unsigned id = 0; id < BUFFERS / 2; id++) give(group, id);
    arm(pods, group);
  }
  for (;;) {
    enter(1);
    for (const struct io_uring_cqe *cqe; ring.pending < BURST && (cqe = next_completion()); consumed()) {
      unsigned group = cqe->user_data & 1, id = (unsigned)(cqe->user_data & (WRITE_TAG - 1)) >> 1;
      if (cqe->user_data & WRITE_TAG) { /* what was written can be read into again */
        give(group, id);
        continue;
      }
      if (cqe->res < 0 && cqe->res != -ENOBUFS) {
        errno = -cqe->res;
        die("multishot read");
      }
      if (!(cqe->flags & IORING_CQE_F_MORE)) arm(pods, group);
      if (cqe->res < 0) continue;
      id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
      uint8_t *start = slots + (group * (BUFFERS / 2) + id) * SLOT;
      int to = route(pods, group, start, (uint32_t)cqe->res);
      if (to < 0) give(group, id);
      else queue(IORING_OP_WRITE, pods[to].fd, start, (uint32_t)cqe->res, WRITE_TAG | id << 1 | group);
    }
  }
}

int main(int argc, char **argv) {
  bool offloads = false;
  char **args = argv + 1;
  for (; *args && **args == '-'; args++) {
    if (strcmp(*args, "--offloads") == 0) offloads = true;
    else if (strcmp(*args, "--registered") == 0) registered = true;
    else if (strcmp(*args, "--multishot") == 0) multishot = true;
    else if (strcmp(*args, "--mtu") == 0 && args[1]) mtu = (uint32_t)atoi(*++args);
  }
  if (args + 4 != argv + argc) return 2;
  header = offloads ? sizeof(struct virtio_net_hdr) : 0;
  struct pod pods[2] = {open_pod(args[0], args[1], offloads), open_pod(args[2], args[3], offloads)};
  open_ring();
  printf("ready\n");
  fflush(stdout);
  if (multishot) by_multishot(pods);
  by_bursts(pods);
}
