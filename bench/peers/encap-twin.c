/*
 * The pipeline's way from a pod's frame into a tunnel, in C: the same checks, the same table, the same
 * headers, the same counters, as dataplane/pipeline.ts has them. Only the expected branch of each switch
 * sends; everything else counts a drop.
 *
 *   encap-twin vxlan|ipip INPUT SECONDS  ->  "MPPS DIGEST"
 *
 * INPUT as bench/encap.ts writes it: the FIB as in dataplane/fib/fib4.ts, adjacency rows, bursts of 64 slots.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  BURST = 64,
  BURSTS = 256,
  HEADROOM = 128,
  SLOT = HEADROOM + 64,
  FRAME = 64,
  FIB_HEADER = 16, /* int32 */
  BASE_CELLS = 1 << 24,
  GROUP_CELLS = 0x8000 * 256,
  ADJACENCIES = 512,
  PORTS = 1024,
  ROW = 16,
  ADJ_ROW = 16,
  CELLS = 80,
  DROPS = 16,
};
enum { R_OFFSET, R_LENGTH, R_PORT, R_ADDRESS, R_UDP_PORT, R_TOS, R_STATUS, R_SEGMENT, R_OFFLOAD };
enum { R_PIECES = 11, R_OUTER_TRANSPORT = 14, TIGHT = 0x1000 };
enum { A_KIND, A_PORT, A_NEXT_HOP, A_MTU, A_SOURCE, A_DMAC_HI, A_DMAC_LO, A_SMAC_HI, A_SMAC_LO, A_VNI };
enum { KIND_VXLAN = 3, KIND_IPIP = 4 };
enum { RX_FRAMES, RX_BYTES, DELIVERED, CONSUMED, TX_FRAMES, TX_BYTES };
enum { POD_A = 1, VXLAN_PORT = 4, IPIP_PORT = 5 };

#define POD_ADDRESS 0x0a410002u  /* 10.65.0.2 */
#define NODE_ADDRESS 0xc0000201u /* 192.0.2.1 */

static uint16_t get16(const uint8_t *p) {
  return (uint16_t)(p[0] << 8 | p[1]);
}
static uint32_t get32(const uint8_t *p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return __builtin_bswap32(word);
}
static void put16(uint8_t *p, uint32_t value) {
  uint16_t word = __builtin_bswap16((uint16_t)value);
  memcpy(p, &word, 2);
}
static void put32(uint8_t *p, uint32_t value) {
  uint32_t word = __builtin_bswap32(value);
  memcpy(p, &word, 4);
}
static uint32_t fold(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

static uint8_t arena[BURST * SLOT] __attribute__((aligned(64)));
static int32_t rows[BURST * ROW], egress[BURST * ROW];
static int egress_count;
static int32_t fib_header[FIB_HEADER];
static uint16_t *base, *groups;
static int32_t adjacencies[ADJACENCIES * ADJ_ROW] __attribute__((aligned(64)));
static double counters[PORTS * CELLS];
static uint8_t kinds[PORTS];
static uint16_t identification;
static uint32_t local[] = {NODE_ADDRESS};

static uint16_t lookup(uint32_t address) {
  uint16_t cell = base[address >> 8];
  if (cell >= 0x8000) cell = groups[(uint32_t)(cell & 0x7fff) << 8 | (address & 0xff)];
  return cell != 0 ? cell : (uint16_t)fib_header[0];
}

static bool is_local(uint32_t address) {
  for (size_t i = 0; i < sizeof local / sizeof *local; i++)
    if (local[i] == address) return true;
  return false;
}

static int check_ipv4(const uint8_t *p, uint32_t length) {
  if (length < 20) return 1;
  if (p[0] >> 4 != 4) return 2;
  uint32_t header = (p[0] & 15) << 2;
  if (header < 20 || header > length) return 3;
  uint32_t total = get16(p + 2);
  if (total < header || total > length) return 4;
  uint32_t sum = 0;
  for (uint32_t i = 0; i < header; i += 4)
    sum += get16(p + i) + get16(p + i + 2);
  if (fold(sum) != 0xffff) return 5;
  if ((get16(p + 6) & 0x1fff) == 1) return 6;
  return 0;
}

static uint32_t mix(uint32_t hash, uint32_t word) {
  hash = (hash ^ word) * 0x9e3779b1u;
  return hash ^ hash >> 15;
}

static uint32_t flow_hash(const uint8_t *ip, uint32_t length) {
  uint32_t hash = mix(get32(ip + 12), get32(ip + 16));
  uint8_t protocol = ip[9];
  hash = mix(hash, protocol);
  uint32_t header = (ip[0] & 15) << 2;
  if ((protocol == 6 || protocol == 17) && (get16(ip + 6) & 0x3fff) == 0 && length >= header + 4)
    hash = mix(hash, get32(ip + header));
  hash ^= hash >> 16;
  return (hash * 0x85ebca6bu) >> 8;
}

static void put_ipv4(uint8_t *p, uint8_t tos, uint32_t total, uint32_t flags, uint8_t protocol,
                     uint32_t source, uint32_t destination) {
  /* Each of up to sixteen workers has numbers of its own. */
  identification += 16;
  p[0] = 0x45;
  p[1] = tos;
  put16(p + 2, total);
  put16(p + 4, identification);
  put16(p + 6, flags);
  p[8] = 64;
  p[9] = protocol;
  put32(p + 12, source);
  put32(p + 16, destination);
  uint32_t sum = (0x4500u | tos) + total + identification + flags + (64u << 8 | protocol) + (source >> 16) +
                 (source & 0xffff) + (destination >> 16) + (destination & 0xffff);
  put16(p + 10, ~fold(sum));
}

static void drop(int reason) {
  counters[POD_A * CELLS + DROPS + reason] += 1;
}

static void send(const int32_t *a, const int32_t *received, uint8_t *ip, uint32_t length) {
  if ((received[R_OFFLOAD] & TIGHT) != 0) return drop(20);
  uint32_t to = (uint32_t)a[A_NEXT_HOP], udp_port = 0;
  uint8_t tos = ip[1], *start;
  if (a[A_KIND] == KIND_VXLAN) {
    udp_port = 0xc000 | (flow_hash(ip, length) & 0x3fff);
    start = ip - 50;
    uint8_t *udp = start + 20, *vxlan = udp + 8, *ethernet = vxlan + 8;
    put_ipv4(start, tos, length + 50, 0x4000, 17, (uint32_t)a[A_SOURCE], to);
    put16(udp, udp_port);
    put16(udp + 2, 4789);
    put16(udp + 4, length + 30);
    put16(udp + 6, 0);
    put32(vxlan, 0x08000000);
    put32(vxlan + 4, (uint32_t)a[A_VNI] << 8);
    put16(ethernet, (uint32_t)a[A_DMAC_HI]);
    put32(ethernet + 2, (uint32_t)a[A_DMAC_LO]);
    put16(ethernet + 6, (uint32_t)a[A_SMAC_HI]);
    put32(ethernet + 8, (uint32_t)a[A_SMAC_LO]);
    put16(ethernet + 12, 0x0800);
  } else {
    start = ip - 20;
    put_ipv4(start, tos, length + 20, get16(ip + 6) & 0x4000, 4, (uint32_t)a[A_SOURCE], to);
  }
  if (kinds[a[A_PORT]] == 0) return drop(21);
  int32_t *row = egress + egress_count++ * ROW;
  row[R_OFFSET] = (int32_t)(start - arena);
  row[R_LENGTH] = (int32_t)(ip + length - start);
  row[R_PORT] = POD_A;
  row[R_ADDRESS] = (int32_t)to;
  row[R_UDP_PORT] = (int32_t)udp_port;
  row[R_TOS] = tos;
  row[R_STATUS] = row[R_SEGMENT] = row[R_OFFLOAD] = row[R_PIECES] = row[R_OUTER_TRANSPORT] = 0;
  if (received[R_OFFLOAD] != 0) row[R_OFFLOAD] = received[R_OFFLOAD];
}

static void forward(const int32_t *received, uint8_t *ip, uint32_t length, uint32_t source,
                    uint32_t destination) {
  const int32_t *a = adjacencies + lookup(destination) * ADJ_ROW;
  if (a[A_KIND] != KIND_VXLAN && a[A_KIND] != KIND_IPIP) return drop(0);
  uint8_t first = (uint8_t)(destination >> 24);
  if (first == 0 || first == 127 || first >= 240) return drop(1);
  if (destination >> 16 == 0xa9fe) return drop(2);
  uint32_t end = (uint32_t)a[A_NEXT_HOP];
  if (destination == end || source == end || is_local(end)) return drop(3);
  if (ip[8] <= 1) return drop(4);
  if (a[A_MTU] != 0 && length > (uint32_t)a[A_MTU]) return drop(5);
  ip[8] -= 1;
  uint32_t sum = (~get16(ip + 10) & 0xffff) + 0xfeff;
  put16(ip + 10, ~((sum & 0xffff) + (sum >> 16)));
  send(a, received, ip, length);
}

static void from_pod(const int32_t *received) {
  uint8_t *frame = arena + received[R_OFFSET];
  uint32_t length = (uint32_t)received[R_LENGTH];
  if (length < 14) return drop(6);
  if (get16(frame + 12) != 0x0800) return drop(7);
  uint8_t *ip = frame + 14;
  int problem = check_ipv4(ip, length - 14);
  if (problem != 0) return drop(8 + problem);
  uint32_t source = get32(ip + 12), destination = get32(ip + 16);
  if (received[R_OFFLOAD] != 0) return drop(19);
  if (destination >> 28 == 14 || destination == 0xffffffffu) return drop(15);
  if (get16(frame) != 0xeeee || get32(frame + 2) != 0xeeeeeeeeu) return drop(16);
  uint8_t first = (uint8_t)(source >> 24);
  if (first == 0 || first == 127 || first >= 224) return drop(17);
  if (source != POD_ADDRESS) return drop(18);
  forward(received, ip, get16(ip + 2), source, destination);
}

static void burst(const uint8_t *image, int tunnel) {
  memcpy(arena, image, sizeof arena);
  egress_count = 0;
  for (int i = 0; i < BURST; i++) {
    const int32_t *row = rows + i * ROW;
    counters[POD_A * CELLS + RX_FRAMES] += 1;
    counters[POD_A * CELLS + RX_BYTES] += row[R_LENGTH];
    from_pod(row);
  }
  for (int i = 0; i < egress_count; i++) {
    const int32_t *row = egress + i * ROW;
    if (row[R_STATUS] != 0) continue;
    counters[tunnel + TX_FRAMES] += 1;
    counters[tunnel + TX_BYTES] += row[R_LENGTH];
    counters[row[R_PORT] * CELLS + DELIVERED] += 1;
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* others on the machine are not to count */
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
  static uint8_t image[BURSTS * BURST * SLOT];
  base = malloc((BASE_CELLS + GROUP_CELLS) * sizeof *base);
  groups = base + BASE_CELLS;
  FILE *input = argc == 4 && base ? fopen(argv[2], "r") : NULL;
  if (!input || fread(fib_header, sizeof fib_header, 1, input) != 1 ||
      fread(base, sizeof *base, BASE_CELLS + GROUP_CELLS, input) != BASE_CELLS + GROUP_CELLS ||
      fread(adjacencies, sizeof adjacencies, 1, input) != 1 || fread(image, sizeof image, 1, input) != 1) {
    fprintf(stderr, "usage: encap-twin vxlan|ipip INPUT SECONDS\n");
    return 2;
  }
  kinds[VXLAN_PORT] = kinds[IPIP_PORT] = 1;
  int tunnel = (strcmp(argv[1], "vxlan") == 0 ? VXLAN_PORT : IPIP_PORT) * CELLS;
  for (int i = 0; i < BURST; i++) {
    rows[i * ROW + R_OFFSET] = i * SLOT + HEADROOM;
    rows[i * ROW + R_LENGTH] = FRAME;
  }

  uint32_t digest = 0x811c9dc5;
  for (int i = 0; i < BURSTS; i++) {
    burst(image + i * BURST * SLOT, tunnel);
    for (int out = 0; out < egress_count; out++) {
      const int32_t *row = egress + out * ROW;
      for (int byte = 0; byte < row[R_LENGTH]; byte++)
        digest = (digest ^ arena[row[R_OFFSET] + byte]) * 0x01000193;
    }
  }

  double seconds = atof(argv[3]), start = now(), time = start;
  long bursts = 0;
  while (time < start + seconds) {
    for (int i = 0; i < BURSTS; i++)
      burst(image + i * BURST * SLOT, tunnel);
    bursts += BURSTS;
    time = now();
  }
  if (counters[POD_A * CELLS + RX_FRAMES] != counters[POD_A * CELLS + DELIVERED]) {
    fprintf(stderr, "not every packet was sent\n");
    return 1;
  }
  printf("%.3f %08x\n", (double)(bursts * BURST) / (time - start) / 1e6, digest);
  return 0;
}
