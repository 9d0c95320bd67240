/* UDP and raw sockets, in the caller's network namespace or another. */
#include "addon.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct socket_options {
  int32_t address;
  int32_t port;
  int32_t protocol;
  int32_t buffer_bytes;
  bool reuse_port;
  bool checksum;
  bool dont_fragment;
  bool header_included;
};

static bool set_int(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* Buffers beyond the system's limit need CAP_NET_ADMIN; without it, take what is allowed. */
static void set_buffers(int fd, int bytes) {
  if (bytes <= 0) return;
  if (!set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes)) set_int(fd, SOL_SOCKET, SO_RCVBUF, bytes);
  if (!set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes)) set_int(fd, SOL_SOCKET, SO_SNDBUF, bytes);
}

/* The call that failed, errno set; NULL on success. */
static const char *configure(int fd, const struct socket_options *o) {
  set_buffers(fd, o->buffer_bytes);
  if (!set_int(fd, IPPROTO_IP, IP_RECVTOS, 1)) return "IP_RECVTOS";
  if (o->reuse_port && !set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1)) return "SO_REUSEPORT";
  if (!o->checksum && !set_int(fd, SOL_SOCKET, SO_NO_CHECK, 1)) return "SO_NO_CHECK";
  if (o->dont_fragment && !set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)) return "IP_MTU_DISCOVER";
  if (o->header_included && !set_int(fd, IPPROTO_IP, IP_HDRINCL, 1)) return "IP_HDRINCL";
  struct sockaddr_in local = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)o->port),
                              .sin_addr.s_addr = htonl((uint32_t)o->address)};
  if (bind(fd, (struct sockaddr *)&local, sizeof local)) return "bind";
  return NULL;
}

static napi_value open_socket(napi_env env, napi_value options, int type, struct socket_options *o) {
  struct netns ns;
  if (!prop_int(env, options, "address", &o->address) || !prop_int(env, options, "port", &o->port) ||
      !prop_int(env, options, "bufferBytes", &o->buffer_bytes) || !netns_enter(env, options, &ns)) {
    return NULL;
  }
  char subject[NETNS_PATH + 64], where[NETNS_PATH + 8], address[INET_ADDRSTRLEN];
  uint32_t wire = htonl((uint32_t)o->address);
  inet_ntop(AF_INET, &wire, address, sizeof address);
  netns_suffix(&ns, where, sizeof where);
  if (type == SOCK_DGRAM)
    snprintf(subject, sizeof subject, "udp %s:%d%s", address, o->port, where);
  else
    snprintf(subject, sizeof subject, "raw %s protocol %d%s", address, o->protocol, where);

  int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, o->protocol);
  const char *call = fd < 0 ? "socket" : configure(fd, o);
  int error = errno;
  netns_leave(&ns);
  if (call) {
    if (fd >= 0) close(fd);
    return throw_errno(env, error, call, subject, NULL);
  }
  own_fd(env, fd);
  return make_int(env, fd);
}

napi_value udp_open(napi_env env, napi_callback_info info) {
  napi_value options;
  struct socket_options o = {.checksum = true};
  if (!args_get(env, info, 1, &options) || !prop_bool(env, options, "reusePort", &o.reuse_port) ||
      !prop_bool(env, options, "checksum", &o.checksum) ||
      !prop_bool(env, options, "dontFragment", &o.dont_fragment)) {
    return NULL;
  }
  return open_socket(env, options, SOCK_DGRAM, &o);
}

napi_value raw_open(napi_env env, napi_callback_info info) {
  napi_value options;
  struct socket_options o = {.checksum = true};
  if (!args_get(env, info, 1, &options) || !prop_int(env, options, "protocol", &o.protocol) ||
      !prop_bool(env, options, "headerIncluded", &o.header_included)) {
    return NULL;
  }
  return open_socket(env, options, SOCK_RAW, &o);
}
