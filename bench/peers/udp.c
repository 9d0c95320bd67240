/*
 * Small UDP programs that load and probe a path. Each prints one line of figures.
 *
 *   udp count PORT SECONDS       after the first datagram: "DATAGRAMS BYTES SECONDS" received
 *   udp blast ADDRESS PORT SECONDS [SIZE [SEGMENT]]
 *                                payloads of SIZE (64) as fast as they go; "DATAGRAMS SECONDS" sent. With SEGMENT
 *                                each is handed to the kernel whole, to be cut into datagrams of that size
 *   udp echo PORT                answers for ever
 *   udp probe ADDRESS PORT COUNT one round trip after another; "P50 P99 P999 LOST" in microseconds
 *   udp pace ADDRESS PORT COUNT RATE
 *                                RATE round trips a second, whether answers come or not; the same figures. What
 *                                has no answer in a second is lost, and counts as a second
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT /* linux/udp.h, which cannot stand beside netinet/udp.h */
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum { BATCH = 64, PAYLOAD = 64, MAX_PAYLOAD = 65536, WARM_UP = 200, TIMEOUT_MS = 200, IDLE_MS = 10000, LOST_SECONDS = 1 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct sockaddr_in address_of(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  address.sin_addr.s_addr = host ? inet_addr(host) : INADDR_ANY;
  return address;
}

static int open_socket(const char *host, const char *port, int timeout_ms) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 4 << 20;
  if (fd < 0) die("socket");
  /* Beyond net.core.rmem_max where we may. */
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  if (timeout_ms > 0) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  struct sockaddr_in address = address_of(host, port);
  if (host ? connect(fd, (void *)&address, sizeof address) : bind(fd, (void *)&address, sizeof address)) die(port);
  return fd;
}

static struct mmsghdr messages[BATCH];
static struct iovec vectors[BATCH];
static uint8_t payloads[BATCH][MAX_PAYLOAD];

static void fill(size_t size) {
  for (int i = 0; i < BATCH; i++) {
    vectors[i] = (struct iovec){payloads[i], size};
    messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[i], .msg_iovlen = 1}};
  }
}

static int count(const char *port, double seconds) {
  int fd = open_socket(NULL, port, IDLE_MS), joined = 1;
  if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &joined, sizeof joined) < 0) die("UDP_GRO");
  printf("ready\n");
  fflush(stdout);
  fill(MAX_PAYLOAD);
  if (recvmmsg(fd, messages, 1, 0, NULL) < 1) die("nothing received");
  /* The first tenth warms up. */
  double start = now(), from = start + seconds / 10, end = start + seconds, time = start;
  long received = 0, bytes = 0;
  while (time < end) {
    int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    time = now();
    if (got < 0) break;
    if (time < from || time >= end) continue;
    received += got;
    for (int i = 0; i < got; i++) bytes += messages[i].msg_len;
  }
  printf("%ld %ld %.6f\n", received, bytes, end - from);
  return 0;
}

static int blast(const char *host, const char *port, double seconds, int size, int segment) {
  int fd = open_socket(host, port, 0);
  if (size < 1 || size > MAX_PAYLOAD) die("SIZE");
  if (segment > 0 && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) < 0) die("UDP_SEGMENT");
  fill((size_t)size);
  double start = now(), end = start + seconds;
  long sent = 0;
  while (now() < end) {
    int done = sendmmsg(fd, messages, BATCH, 0);
    /* ECONNREFUSED and ENOBUFS come with the load. */
    if (done > 0) sent += done;
    else if (errno != ENOBUFS && errno != ECONNREFUSED && errno != EAGAIN) die("sendmmsg");
  }
  printf("%ld %.6f\n", sent, now() - start);
  return 0;
}

static _Noreturn void echo(const char *port) {
  int fd = open_socket(NULL, port, 0);
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    uint8_t payload[2048];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t got = recvfrom(fd, payload, sizeof payload, 0, (void *)&from, &size);
    if (got > 0 && sendto(fd, payload, (size_t)got, 0, (void *)&from, size) < 0) perror("sendto");
  }
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print_times(double *times, int count, int lost) {
  qsort(times, (size_t)count, sizeof *times, compare);
  int last = count - 1;
  printf("%.3f %.3f %.3f %d\n", times[last / 2] * 1e6, times[last * 99LL / 100] * 1e6,
         times[last * 999LL / 1000] * 1e6, lost);
}

static int probe(const char *host, const char *port, int wanted) {
  int fd = open_socket(host, port, TIMEOUT_MS), lost = 0, taken = 0;
  double *times = calloc((size_t)wanted, sizeof *times);
  if (!times) die("calloc");
  for (uint64_t number = 0; taken < wanted; number++) {
    uint8_t payload[PAYLOAD] = {0}, reply[2048];
    memcpy(payload, &number, sizeof number);
    double start = now();
    if (send(fd, payload, sizeof payload, 0) < 0 && errno != ECONNREFUSED) die("send");
    /* A late answer to an earlier probe is not this one's. */
    ssize_t got;
    do got = recv(fd, reply, sizeof reply, 0);
    while (got == PAYLOAD && memcmp(reply, payload, sizeof number) != 0);
    if (got < 0) {
      if (++lost > wanted / 100 + 10) die("too many round trips lost");
      continue;
    }
    if (number >= WARM_UP) times[taken++] = now() - start;
  }
  print_times(times, wanted, lost);
  return 0;
}

static int pace(const char *host, const char *port, int wanted, double rate) {
  int fd = open_socket(host, port, 0), taken = 0, sent = 0;
  double *times = calloc((size_t)wanted, sizeof *times), *starts = calloc((size_t)wanted, sizeof *starts);
  if (!times || !starts) die("calloc");
  for (int i = 0; i < wanted; i++) times[i] = LOST_SECONDS;
  double begin = now(), end = begin + wanted / rate + LOST_SECONDS;
  for (double time = begin; taken < wanted && time < end; time = now()) {
    double next = sent < wanted ? begin + sent / rate : end;
    if (time >= next) {
      uint8_t payload[PAYLOAD] = {0};
      memcpy(payload, &sent, sizeof sent);
      starts[sent++] = time;
      /* What the kernel refuses is lost as well. */
      if (send(fd, payload, sizeof payload, MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != ENOBUFS) die("send");
      continue;
    }
    struct timespec wait = {.tv_nsec = (long)((next - time) * 1e9)};
    if (next - time >= 1) wait = (struct timespec){.tv_sec = 1};
    struct pollfd poll = {.fd = fd, .events = POLLIN};
    if (ppoll(&poll, 1, &wait, NULL) < 1) continue;
    uint8_t reply[PAYLOAD];
    int number;
    while (recv(fd, reply, sizeof reply, MSG_DONTWAIT) == PAYLOAD) {
      memcpy(&number, reply, sizeof number);
      if (number < 0 || number >= sent || times[number] < LOST_SECONDS) continue;
      times[number] = now() - starts[number];
      taken++;
    }
  }
  print_times(times, wanted, wanted - taken);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "count")) return count(argv[2], atof(argv[3]));
  if (argc >= 5 && argc <= 7 && !strcmp(argv[1], "blast"))
    return blast(argv[2], argv[3], atof(argv[4]), argc > 5 ? atoi(argv[5]) : PAYLOAD, argc > 6 ? atoi(argv[6]) : 0);
  if (argc == 3 && !strcmp(argv[1], "echo")) echo(argv[2]);
  if (argc == 5 && !strcmp(argv[1], "probe")) return probe(argv[2], argv[3], atoi(argv[4]));
  if (argc == 6 && !strcmp(argv[1], "pace")) return pace(argv[2], argv[3], atoi(argv[4]), atof(argv[5]));
  fprintf(stderr, "usage: udp count|blast|echo|probe|pace ...: see the top of udp.c\n");
  return 2;
}
