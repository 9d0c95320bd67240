/*
 * Many TCP streams at once, each from a namespace to another.
 *
 *   streams SECONDS PORT (CLIENT-NETNS SERVER-NETNS ADDRESS)...
 *
 * Connects every pair, then one process sends on all and another receives. Prints the bytes that arrived in
 * SECONDS, after half a second of warming up.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_PAIRS = 512, CHUNK = 128 << 10, EVENTS = 64, CONNECT_SECONDS = 10 };

static char buffer[CHUNK];

static _Noreturn void die(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int socket_in(const char *netns) {
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", netns);
  int ns = open(path, O_RDONLY);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) die(path);
  close(ns);
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct timeval limit = {.tv_sec = CONNECT_SECONDS};
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) die("socket");
  if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0) die("SO_SNDTIMEO");
  return fd;
}

static int watch(const int *fds, int count, uint32_t events) {
  int epoll = epoll_create1(0);
  for (int i = 0; i < count; i++) {
    struct epoll_event event = {.events = events, .data.fd = fds[i]};
    if (fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0) die("epoll");
  }
  return epoll;
}

static _Noreturn void send_all(const int *fds, int count) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int epoll = watch(fds, count, EPOLLOUT);
  for (;;) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++)
      if (send(events[i].data.fd, buffer, CHUNK, MSG_NOSIGNAL) < 0 && errno != EAGAIN) die("send");
  }
}

static uint64_t receive_all(const int *fds, int count, double seconds) {
  int epoll = watch(fds, count, EPOLLIN);
  double from = now() + 0.5, end = from + seconds;
  uint64_t bytes = 0;
  for (double time = now(); time < end; time = now()) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(epoll, events, EVENTS, 100);
    for (int i = 0; i < ready; i++) {
      ssize_t got = recv(events[i].data.fd, buffer, CHUNK, 0);
      if (got == 0) die("a stream ended");
      if (got > 0 && time >= from) bytes += (uint64_t)got;
    }
  }
  return bytes;
}

int main(int argc, char **argv) {
  int pairs = (argc - 3) / 3;
  if (argc < 6 || argc % 3 != 0 || pairs > MAX_PAIRS) {
    fprintf(stderr, "usage: streams SECONDS PORT (CLIENT-NETNS SERVER-NETNS ADDRESS)...\n");
    return 2;
  }
  int senders[MAX_PAIRS], receivers[MAX_PAIRS];
  for (int i = 0; i < pairs; i++) {
    char **pair = argv + 3 + 3 * i;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    int listener = socket_in(pair[1]);
    if (bind(listener, (void *)&address, sizeof address) < 0 || listen(listener, 1) < 0) die("listen");
    senders[i] = socket_in(pair[0]);
    address.sin_addr.s_addr = inet_addr(pair[2]);
    if (connect(senders[i], (void *)&address, sizeof address) < 0) die(pair[2]);
    receivers[i] = accept(listener, NULL, NULL);
    if (receivers[i] < 0) die("accept");
    close(listener);
  }
  pid_t sender = fork();
  if (sender == 0) send_all(senders, pairs);
  uint64_t bytes = receive_all(receivers, pairs, atof(argv[1]));
  kill(sender, SIGKILL);
  printf("%llu\n", (unsigned long long)bytes);
  return 0;
}
