/* UDP sockets for control protocols of either family that trust who is near by the TTL (RFC 5082). Node's own
 * cannot look at it: here the kernel does, before a datagram is queued. */
#include "tortie.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct wish {
  struct sockaddr_storage local;
  socklen_t length;
  int64_t ttl, least_ttl, traffic_class, buffer;
  bool send_only;
  char subject[96];
};

/* Keep what has travelled with this TTL or more, or nothing at all. The filter of a UDP socket sees the
 * packet from its UDP header on; SKF_NET_OFF reaches back to the IP header. */
static int attach_filter(int fd, bool is_ip6, const struct wish *wish) {
  struct sock_filter nothing[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  struct sock_filter near_only[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_NET_OFF + (is_ip6 ? 7 : 8))),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)wish->least_ttl, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {4, near_only};
  if (wish->send_only) program = (struct sock_fprog){1, nothing};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

static int configure(int fd, const struct wish *wish, struct failure *failure) {
  bool is_ip6 = wish->local.ss_family == AF_INET6;
  int level = is_ip6 ? IPPROTO_IPV6 : IPPROTO_IP;
  if (is_ip6 && set_option(fd, level, IPV6_V6ONLY, 1) < 0)
    return fail(failure, "setsockopt IPV6_V6ONLY", "%s", wish->subject);
  if (set_option(fd, level, is_ip6 ? IPV6_UNICAST_HOPS : IP_TTL, (int)wish->ttl) < 0)
    return fail(failure, "setsockopt IP_TTL", "%s", wish->subject);
  if (set_option(fd, level, is_ip6 ? IPV6_TCLASS : IP_TOS, (int)wish->traffic_class) < 0)
    return fail(failure, "setsockopt IP_TOS", "%s", wish->subject);
  if (wish->buffer && set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, (int)wish->buffer) < 0 &&
      set_option(fd, SOL_SOCKET, SO_RCVBUF, (int)wish->buffer) < 0)
    return fail(failure, "setsockopt SO_RCVBUF", "%s", wish->subject);
  /* Before the address: no datagram is to slip in between. */
  if ((wish->send_only || wish->least_ttl > 0) && attach_filter(fd, is_ip6, wish) < 0)
    return fail(failure, "setsockopt SO_ATTACH_FILTER", "%s", wish->subject);
  if (bind(fd, (const struct sockaddr *)&wish->local, wish->length) < 0)
    return fail(failure, "bind", "%s", wish->subject);
  return 0;
}

static bool get_local(napi_env env, const char *address, int64_t port, struct wish *wish) {
  struct sockaddr_in *four = (struct sockaddr_in *)&wish->local;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)&wish->local;
  if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)port);
    wish->length = sizeof *four;
  } else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons((uint16_t)port);
    wish->length = sizeof *six;
  } else {
    throw_range(env, "address \"%s\" is neither IPv4 nor IPv6", address);
    return false;
  }
  snprintf(wish->subject, sizeof wish->subject, "udp %s port %d", address, (int)port);
  return true;
}

/* The descriptor is the caller's, not this environment's: node:dgram takes it over and closes it. */
napi_value datagram_open(napi_env env, napi_callback_info info) {
  napi_value options;
  char address[INET6_ADDRSTRLEN];
  int64_t port = 0;
  bool given = false;
  struct wish wish = {.ttl = 64};
  if (!get_args(env, info, "datagramOpen", 1, &options) || !get_object(env, options, "datagramOpen") ||
      !option_string(env, options, "address", address, sizeof address, &given))
    return NULL;
  if (!given) return throw_type(env, "datagramOpen: address is missing");
  if (!option_int(env, options, "port", 0, 65535, &port, &given) ||
      !option_int(env, options, "ttl", 1, 255, &wish.ttl, &given) ||
      !option_int(env, options, "leastTtl", 0, 255, &wish.least_ttl, &given) ||
      !option_int(env, options, "trafficClass", 0, 255, &wish.traffic_class, &given) ||
      !option_int(env, options, "bufferBytes", 1, INT32_MAX / 2, &wish.buffer, &given) ||
      !option_bool(env, options, "sendOnly", &wish.send_only, &given) ||
      !get_local(env, address, port, &wish))
    return NULL;
  struct failure failure;
  int fd = socket(wish.local.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
  if (fd < 0) {
    fail(&failure, "socket", "%s", wish.subject);
    return throw_failure(env, &failure);
  }
  if (configure(fd, &wish, &failure) < 0) {
    close(fd);
    return throw_failure(env, &failure);
  }
  return from_int(env, fd);
}

napi_value socket_drops(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, "socketDrops", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  uint32_t memory[SK_MEMINFO_VARS] = {0};
  socklen_t length = sizeof memory;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) < 0) {
    struct failure failure;
    fail(&failure, "getsockopt SO_MEMINFO", "descriptor %d", fd);
    return throw_failure(env, &failure);
  }
  return from_int(env, memory[SK_MEMINFO_DROPS]);
}
