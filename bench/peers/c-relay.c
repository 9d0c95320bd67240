/*
 * Two pods on one node, joined by the least that C can do: TAP to TAP in bursts of 64 reads and then 64
 * writes, proxy ARP, header checks, TTL, checksum. It takes the same system calls as tortie, a frame each.
 *
 *   c-relay [--offloads] [--mtu N] NETNS1 ADDRESS1 NETNS2 ADDRESS2
 *
 * Makes the TAP eth0 in both namespaces, prints "ready" and runs until it is killed, taking the TAPs with
 * it. With --offloads super-frames pass whole (virtio_net_hdr: checksum, TSO, USO); without, the kernel cuts
 * and sums every frame itself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef TUN_F_USO4 /* Debian 12's header stops before them */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { BURST = 64, MAX_FRAME = 65536 + 64, SLOT = MAX_FRAME + 128 };

struct pod {
  int fd;
  uint32_t address;
  uint8_t mac[6];
};

static const uint8_t gateway[6] = {0xee, 0xee, 0xee, 0xee, 0xee, 0xee};
static uint8_t arena[BURST * SLOT];
static uint32_t offsets[BURST], lengths[BURST];
static uint32_t mtu = 1500;
static uint32_t header; /* bytes of virtio_net_hdr in front of each frame */

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t get32(const uint8_t *p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return ntohl(word);
}

static struct pod open_pod(const char *netns, const char *address, bool offloads) {
  struct pod pod = {.address = get32((uint8_t *)&(struct in_addr){inet_addr(address)})};
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", netns);
  int own = open("/proc/self/ns/net", O_RDONLY), ns = open(path, O_RDONLY);
  if (own < 0 || ns < 0 || setns(ns, CLONE_NEWNET) < 0) die(path);
  pod.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  struct ifreq request = {.ifr_name = "eth0", .ifr_flags = IFF_TAP | IFF_NO_PI};
  if (offloads) request.ifr_flags |= IFF_VNET_HDR;
  if (pod.fd < 0 || ioctl(pod.fd, TUNSETIFF, &request) < 0) die("TUNSETIFF eth0");
  unsigned flags = offloads ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6 : 0;
  if (ioctl(pod.fd, TUNSETOFFLOAD, flags) < 0) die("TUNSETOFFLOAD");
  if (ioctl(pod.fd, SIOCGIFHWADDR, &request) < 0) die("SIOCGIFHWADDR");
  memcpy(pod.mac, request.ifr_hwaddr.sa_data, 6);
  if (setns(own, CLONE_NEWNET) < 0) die("setns back");
  close(own);
  close(ns);
  return pod;
}

/* Turn the request into the reply, as the gateway gives it; false if it stays unanswered. */
static bool answer_arp(const struct pod *from, uint8_t *frame, uint32_t length) {
  uint8_t *arp = frame + 14;
  if (length < 42 || get16(arp + 6) != 1) return false;
  uint32_t sender = get32(arp + 14), target = get32(arp + 24);
  if (sender != from->address || target == from->address || memcmp(arp + 8, from->mac, 6) != 0) return false;
  uint8_t target_address[4];
  memcpy(target_address, arp + 24, 4);
  memcpy(arp + 18, arp + 8, 10);
  memcpy(arp + 8, gateway, 6);
  memcpy(arp + 14, target_address, 4);
  arp[7] = 2;
  memcpy(frame, from->mac, 6);
  memcpy(frame + 6, gateway, 6);
  return true;
}

/* Make the packet ready to go on; false if it is to be dropped. */
static bool forward(const struct pod *from, const struct pod *to, uint8_t *frame, uint32_t length, bool super) {
  uint8_t *ip = frame + 14;
  uint32_t room = length - 14;
  if (memcmp(frame, gateway, 6) != 0 || room < 20 || ip[0] >> 4 != 4) return false;
  uint32_t size = (ip[0] & 15) << 2, total = get16(ip + 2);
  if (size < 20 || size > room || total < size || total > room) return false;
  uint32_t sum = 0;
  for (uint32_t i = 0; i < size; i += 2) sum += get16(ip + i);
  sum = (sum & 0xffff) + (sum >> 16);
  if ((sum & 0xffff) + (sum >> 16) != 0xffff) return false;
  if (get32(ip + 12) != from->address || get32(ip + 16) != to->address || ip[8] <= 1) return false;
  if (total > mtu && !super) return false;
  ip[8] -= 1;
  sum = (~get16(ip + 10) & 0xffff) + 0xfeff;
  sum = ~((sum & 0xffff) + (sum >> 16));
  ip[10] = (uint8_t)(sum >> 8);
  ip[11] = (uint8_t)sum;
  memcpy(frame, to->mac, 6);
  memcpy(frame + 6, gateway, 6);
  return true;
}

/* One burst: up to 64 reads, then the writes. */
static void serve(const struct pod *from, const struct pod *to) {
  uint32_t used = 0;
  int count = 0, outs[BURST];
  while (count < BURST) {
    ssize_t got = read(from->fd, arena + used, MAX_FRAME);
    if (got < 0) break;
    offsets[count] = used;
    lengths[count++] = (uint32_t)got;
    used += ((uint32_t)got + 127) & ~63u;
  }
  for (int i = 0; i < count; i++) {
    uint8_t *start = arena + offsets[i], *frame = start + header;
    outs[i] = -1;
    if (lengths[i] < header + 14) continue;
    uint32_t length = lengths[i] - header;
    bool super = header != 0 && ((struct virtio_net_hdr *)start)->gso_type != VIRTIO_NET_HDR_GSO_NONE;
    uint16_t type = get16(frame + 12);
    if (type == 0x0806 && answer_arp(from, frame, length)) outs[i] = from->fd;
    if (type == 0x0800 && forward(from, to, frame, length, super)) outs[i] = to->fd;
  }
  for (int i = 0; i < count; i++) {
    if (outs[i] < 0) continue;
    /* A full queue drops, as a router does. */
    ssize_t wrote = write(outs[i], arena + offsets[i], lengths[i]);
    (void)wrote;
  }
}

int main(int argc, char **argv) {
  bool offloads = false;
  char **args = argv + 1;
  for (; *args && **args == '-'; args++) {
    if (strcmp(*args, "--offloads") == 0) offloads = true;
    else if (strcmp(*args, "--mtu") == 0 && args[1]) mtu = (uint32_t)atoi(*++args);
  }
  if (args + 4 != argv + argc) {
    fprintf(stderr, "usage: c-relay [--offloads] [--mtu N] NETNS1 ADDRESS1 NETNS2 ADDRESS2\n");
    return 2;
  }
  header = offloads ? sizeof(struct virtio_net_hdr) : 0;
  struct pod pods[2] = {open_pod(args[0], args[1], offloads), open_pod(args[2], args[3], offloads)};
  int epoll = epoll_create1(0);
  for (int i = 0; i < 2; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, pods[i].fd, &event) < 0) die("epoll_ctl");
  }
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[2];
    int ready = epoll_wait(epoll, events, 2, -1);
    for (int i = 0; i < ready; i++) {
      uint32_t from = events[i].data.u32;
      serve(&pods[from], &pods[1 - from]);
    }
  }
}
