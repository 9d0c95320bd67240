/*
 * TCP sockets for Node's own to take over, with what Node cannot set and a connection needs before its first
 * segment: MD5 signatures (RFC 2385), TTLs (RFC 5082) and a filter, which connections inherit from the socket
 * that listens.
 */
#include "tortie.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SUBJECT_SIZE = 128 };

/* An address of either family as text; port in host order. */
static bool get_address(napi_env env, const char *text, uint16_t port, struct sockaddr_storage *address,
                        socklen_t *length) {
  struct sockaddr_in *four = (struct sockaddr_in *)address;
  struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
  memset(address, 0, sizeof *address);
  if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(port);
    *length = sizeof *four;
    return true;
  }
  if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    *length = sizeof *six;
    return true;
  }
  throw_range(env, "address must be an IPv4 or IPv6 address");
  return false;
}

static bool is_any(const struct sockaddr_storage *address) {
  if (address->ss_family == AF_INET)
    return ((const struct sockaddr_in *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
  return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

napi_value tcp_open(napi_env env, napi_callback_info info) {
  napi_value options;
  char text[INET6_ADDRSTRLEN], subject[SUBJECT_SIZE];
  int64_t port;
  struct sockaddr_storage address;
  socklen_t length;
  struct failure failure;
  if (!get_args(env, info, "tcpOpen", 1, &options) || !get_object(env, options, "tcpOpen") ||
      !option_string(env, options, "address", text, sizeof text, NULL) ||
      !option_int(env, options, "port", 0, 65535, &port, NULL) ||
      !get_address(env, text, (uint16_t)port, &address, &length))
    return NULL;
  snprintf(subject, sizeof subject, "%s port %d", text, (int)port);
  int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    fail(&failure, "socket TCP", "%s", subject);
    return throw_failure(env, &failure);
  }
  int status = 0;
  if (set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1) < 0)
    status = fail(&failure, "setsockopt SO_REUSEADDR", "%s", subject);
  else if (address.ss_family == AF_INET6 && set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) < 0)
    status = fail(&failure, "setsockopt IPV6_V6ONLY", "%s", subject);
  else if (!(is_any(&address) && port == 0) && bind(fd, (struct sockaddr *)&address, length) < 0)
    status = fail(&failure, "bind TCP", "%s", subject);
  if (status < 0) {
    close(fd);
    return throw_failure(env, &failure);
  }
  return env_adopt(env, fd) ? from_int(env, fd) : NULL;
}

napi_value tcp_password(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd;
  char text[INET6_ADDRSTRLEN], password[TCP_MD5SIG_MAXKEYLEN + 1];
  struct sockaddr_storage address;
  socklen_t length;
  struct tcp_md5sig key;
  memset(&key, 0, sizeof key);
  if (!get_args(env, info, "tcpPassword", 3, args) || !get_fd(env, args[0], &fd) ||
      !get_string(env, args[1], "address", text, sizeof text) ||
      !get_address(env, text, 0, &address, &length) ||
      !get_string(env, args[2], "password", password, sizeof password))
    return NULL;
  memcpy(&key.tcpm_addr, &address, sizeof address);
  key.tcpm_keylen = (uint16_t)strlen(password);
  memcpy(key.tcpm_key, password, key.tcpm_keylen);
  int status = setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key);
  /* There was none to take away. */
  if (status < 0 && errno == ENOENT && key.tcpm_keylen == 0) status = 0;
  if (status == 0) return NULL;
  struct failure failure;
  fail(&failure, "setsockopt TCP_MD5SIG", "for %s", text);
  return throw_failure(env, &failure);
}

napi_value tcp_ttl(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd, domain;
  int64_t ttl, least;
  socklen_t size = sizeof domain;
  struct failure failure;
  if (!get_args(env, info, "tcpTtl", 3, args) || !get_fd(env, args[0], &fd) ||
      !get_int(env, args[1], "ttl", -1, 255, &ttl) || !get_int(env, args[2], "least", 0, 255, &least))
    return NULL;
  if (ttl == 0) return throw_range(env, "ttl must be 1 to 255, or -1 for the system's");
  int status = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  if (status < 0) {
    fail(&failure, "getsockopt SO_DOMAIN", "descriptor %d", fd);
  } else if (domain == AF_INET6) {
    status = set_option(fd, IPPROTO_IPV6, IPV6_MINHOPCOUNT, (int)least);
    if (status < 0)
      fail(&failure, "setsockopt IPV6_MINHOPCOUNT", "descriptor %d", fd);
    else if ((status = set_option(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, (int)ttl)) < 0)
      fail(&failure, "setsockopt IPV6_UNICAST_HOPS", "descriptor %d", fd);
  } else {
    status = set_option(fd, IPPROTO_IP, IP_MINTTL, (int)least);
    if (status < 0)
      fail(&failure, "setsockopt IP_MINTTL", "descriptor %d", fd);
    else if ((status = set_option(fd, IPPROTO_IP, IP_TTL, (int)ttl)) < 0)
      fail(&failure, "setsockopt IP_TTL", "descriptor %d", fd);
  }
  return status < 0 ? throw_failure(env, &failure) : NULL;
}

napi_value socket_filter(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd, status;
  struct cells cells;
  struct sock_filter code[BPF_MAXINSNS];
  if (!get_args(env, info, "socketFilter", 2, args) || !get_fd(env, args[0], &fd) ||
      !get_cells(env, args[1], "program", &cells))
    return NULL;
  if (cells.length % 4 || cells.length / 4 > BPF_MAXINSNS)
    return throw_range(env, "program must have four numbers an instruction, and at most %d instructions",
                       BPF_MAXINSNS);
  size_t count = cells.length / 4;
  for (size_t i = 0; i < count; i++) {
    const int32_t *from = cells.data + 4 * i;
    code[i] = (struct sock_filter){(uint16_t)from[0], (uint8_t)from[1], (uint8_t)from[2], (uint32_t)from[3]};
  }
  struct sock_fprog program = {(unsigned short)count, code};
  if (count > 0) {
    status = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
  } else {
    status = set_option(fd, SOL_SOCKET, SO_DETACH_FILTER, 0);
    /* There was none to take away. */
    if (status < 0 && errno == ENOENT) status = 0;
  }
  if (status == 0) return NULL;
  struct failure failure;
  fail(&failure, count > 0 ? "setsockopt SO_ATTACH_FILTER" : "setsockopt SO_DETACH_FILTER", "descriptor %d",
       fd);
  return throw_failure(env, &failure);
}
