/* UDP sockets of either family and raw IPv4 sockets for tunnels, opened in any namespace. */
#include "tortie.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/icmp.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of linux/in6.h, which does not go with netinet/in.h: the label to send is the caller's. */
enum { FLOWINFO_SEND = 33 };
enum { HOP_LIMIT = 64 };

/* What both kinds of socket are told. Absent booleans keep the kernel's default. */
struct wish {
  char netns[NETNS_SIZE];
  uint32_t address;
  /* Instead of the former, as text, if it is not empty. */
  char address6[INET6_ADDRSTRLEN];
  int type, protocol, port;
  int64_t buffer;
  bool reuse_port, checksum, set_checksum, dont_fragment, header_included, send_only, join;
};

int set_option(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value);
}

/* Beyond net.core.rmem_max with CAP_NET_ADMIN; as much as is allowed without. */
static int set_buffers(int fd, int bytes) {
  if (set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes) < 0 &&
      set_option(fd, SOL_SOCKET, SO_RCVBUF, bytes) < 0)
    return -1;
  if (set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes) < 0 &&
      set_option(fd, SOL_SOCKET, SO_SNDBUF, bytes) < 0)
    return -1;
  return 0;
}

/* A filter that keeps no byte of any packet. */
static int discard_input(int fd) {
  struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  struct sock_fprog program = {1, &nothing};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

static int configure_family(int fd, const struct wish *wish, const char *subject, struct failure *failure) {
  if (wish->dont_fragment && set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO) < 0)
    return fail(failure, "setsockopt IP_MTU_DISCOVER", "%s", subject);
  if (set_option(fd, IPPROTO_IP, IP_RECVTOS, 1) < 0)
    return fail(failure, "setsockopt IP_RECVTOS", "%s", subject);
  return 0;
}

static int configure_family6(int fd, const struct wish *wish, const char *subject, struct failure *failure) {
  const struct {
    int name, value;
    const char *call;
  } options[] = {
      {IPV6_V6ONLY, 1, "setsockopt IPV6_V6ONLY"},
      {IPV6_RECVTCLASS, 1, "setsockopt IPV6_RECVTCLASS"},
      {IPV6_UNICAST_HOPS, HOP_LIMIT, "setsockopt IPV6_UNICAST_HOPS"},
      {FLOWINFO_SEND, 1, "setsockopt IPV6_FLOWINFO_SEND"},
      {IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO, "setsockopt IPV6_MTU_DISCOVER"},
      /* Beyond the device's MTU, too, what does not fit is refused and not fragmented. */
      {IPV6_DONTFRAG, 1, "setsockopt IPV6_DONTFRAG"},
  };
  size_t count = sizeof options / sizeof *options - (wish->dont_fragment ? 0 : 2);
  for (size_t i = 0; i < count; i++)
    if (set_option(fd, IPPROTO_IPV6, options[i].name, options[i].value) < 0)
      return fail(failure, options[i].call, "%s", subject);
  return 0;
}

static int bind_wish(int fd, const struct wish *wish) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)wish->port)};
  struct sockaddr_in four = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)wish->port),
                             .sin_addr.s_addr = htonl(wish->address)};
  if (!*wish->address6) return bind(fd, (struct sockaddr *)&four, sizeof four);
  inet_pton(AF_INET6, wish->address6, &six.sin6_addr);
  return bind(fd, (struct sockaddr *)&six, sizeof six);
}

/* Of the many ICMP messages that a node gets, errors about what it sent. */
static int only_unreachable(int fd) {
  struct icmp_filter filter = {.data = ~(1U << ICMP_DEST_UNREACH)};
  return setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof filter);
}

static int configure(int fd, const struct wish *wish, const char *subject, struct failure *failure) {
  if ((*wish->address6 ? configure_family6 : configure_family)(fd, wish, subject, failure) < 0) return -1;
  if (wish->reuse_port && set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
    return fail(failure, "setsockopt SO_REUSEPORT", "%s", subject);
  if (wish->buffer && set_buffers(fd, (int)wish->buffer) < 0)
    return fail(failure, "setsockopt SO_RCVBUF", "%s", subject);
  if (wish->set_checksum && set_option(fd, SOL_SOCKET, SO_NO_CHECK, !wish->checksum) < 0)
    return fail(failure, "setsockopt SO_NO_CHECK", "%s", subject);
  if (wish->header_included && set_option(fd, IPPROTO_IP, IP_HDRINCL, 1) < 0)
    return fail(failure, "setsockopt IP_HDRINCL", "%s", subject);
  if (wish->join && set_option(fd, SOL_UDP, UDP_GRO, 1) < 0)
    return fail(failure, "setsockopt UDP_GRO", "%s", subject);
  if (wish->send_only && discard_input(fd) < 0)
    return fail(failure, "setsockopt SO_ATTACH_FILTER", "%s", subject);
  if (wish->type == SOCK_RAW && wish->protocol == IPPROTO_ICMP && only_unreachable(fd) < 0)
    return fail(failure, "setsockopt ICMP_FILTER", "%s", subject);
  if (bind_wish(fd, wish) < 0) return fail(failure, "bind", "%s", subject);
  return 0;
}

static napi_value open_socket(napi_env env, const struct wish *wish) {
  char address[INET_ADDRSTRLEN], suffix[NETNS_SIZE + 32], subject[384 + INET6_ADDRSTRLEN];
  struct in_addr network = {htonl(wish->address)};
  const char *where = netns_suffix(wish->netns, suffix, sizeof suffix);
  inet_ntop(AF_INET, &network, address, sizeof address);
  bool is_six = *wish->address6;
  if (is_six)
    snprintf(subject, sizeof subject, "udp [%s]:%d%s", wish->address6, wish->port, where);
  else if (wish->type == SOCK_DGRAM)
    snprintf(subject, sizeof subject, "udp %s:%d%s", address, wish->port, where);
  else
    snprintf(subject, sizeof subject, "ip protocol %d %s%s", wish->protocol, address, where);

  struct failure failure;
  struct netns moved;
  if (netns_enter(wish->netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int fd = socket(is_six ? AF_INET6 : AF_INET, wish->type | SOCK_NONBLOCK | SOCK_CLOEXEC, wish->protocol);
  if (fd < 0) {
    fail(&failure, "socket", "%s", subject);
  } else if (configure(fd, wish, subject, &failure) < 0) {
    close(fd);
    fd = -1;
  }
  netns_leave(&moved);
  if (fd < 0) return throw_failure(env, &failure);
  return env_adopt(env, fd) ? from_int(env, fd) : NULL;
}

static bool common_options(napi_env env, napi_value options, const char *call, struct wish *wish) {
  bool given;
  return get_object(env, options, call) &&
         option_string(env, options, "netns", wish->netns, sizeof wish->netns, &given) &&
         option_int(env, options, "bufferBytes", 1, INT32_MAX / 2, &wish->buffer, &given);
}

napi_value udp_open(napi_env env, napi_callback_info info) {
  napi_value options;
  int64_t port = 0;
  struct wish wish = {.type = SOCK_DGRAM, .protocol = IPPROTO_UDP};
  bool is_six = false;
  if (!get_args(env, info, "udpOpen", 1, &options) || !common_options(env, options, "udpOpen", &wish) ||
      !option_string(env, options, "address6", wish.address6, sizeof wish.address6, &is_six) ||
      (!is_six && !option_address(env, options, "address", &wish.address)) ||
      !option_int(env, options, "port", 0, 65535, &port, NULL) ||
      !option_bool(env, options, "reusePort", &wish.reuse_port, NULL) ||
      !option_bool(env, options, "checksum", &wish.checksum, &wish.set_checksum) ||
      !option_bool(env, options, "dontFragment", &wish.dont_fragment, NULL) ||
      !option_bool(env, options, "sendOnly", &wish.send_only, NULL) ||
      !option_bool(env, options, "join", &wish.join, NULL))
    return NULL;
  struct in6_addr six;
  if (is_six && inet_pton(AF_INET6, wish.address6, &six) != 1)
    return throw_range(env, "address6 \"%s\" is not IPv6", wish.address6);
  wish.port = (int)port;
  return open_socket(env, &wish);
}

napi_value raw_open(napi_env env, napi_callback_info info) {
  napi_value options;
  int64_t protocol = 0;
  struct wish wish = {.type = SOCK_RAW};
  if (!get_args(env, info, "rawOpen", 1, &options) || !common_options(env, options, "rawOpen", &wish) ||
      !option_address(env, options, "address", &wish.address) ||
      !option_int(env, options, "protocol", 1, 255, &protocol, NULL) ||
      !option_bool(env, options, "headerIncluded", &wish.header_included, NULL))
    return NULL;
  wish.protocol = (int)protocol;
  return open_socket(env, &wish);
}
