/*
 * What the addon's files share. The addon makes system calls and moves bytes in bulk; it knows no protocol
 * beyond what socket and TAP calls need.
 *
 * Every binding has the same three steps: read and check all arguments (value.c), do the work in plain C
 * with failures noted in a `struct failure` (so that no JavaScript can run while the thread is in another
 * network namespace), then throw or return.
 */
#ifndef TORTIE_H
#define TORTIE_H

#include <linux/netlink.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- addon.c: the environment and the descriptors opened in it ---------------------------------- */

/* Remember a descriptor as this environment's, to be closed when the environment ends. Throws, and closes
 * the descriptor, when memory runs out. */
bool env_adopt(napi_env env, int fd);
napi_value env_close(napi_env env, napi_callback_info info);
napi_value env_release(napi_env env, napi_callback_info info);

/* ---- error.c ------------------------------------------------------------------------------------ */

/* A system call that failed: noted where it happened, thrown once that is safe. */
struct failure {
  int error;
  const char *call;
  char subject[384];
};

/* Note errno, the call and its subject. Returns -1, for `return fail(...)`. */
int fail(struct failure *failure, const char *call, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Throw "CALL subject: ERRNO, advice". Returns NULL, for `return throw_failure(...)`. */
napi_value throw_failure(napi_env env, const struct failure *failure);
napi_value throw_range(napi_env env, const char *format, ...) __attribute__((format(printf, 2, 3)));
napi_value throw_type(napi_env env, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- value.c: arguments from JavaScript. All return false after having thrown. ------------------- */

enum { MAC_LENGTH = 6, NAME_SIZE = 16, NETNS_SIZE = 256, ALIAS_SIZE = 256 };

bool get_args(napi_env env, napi_callback_info info, const char *call, size_t count, napi_value *args);
bool get_int(napi_env env, napi_value value, const char *name, int64_t min, int64_t max, int64_t *result);
bool get_fd(napi_env env, napi_value value, int *fd);
/* Without a NUL, and with one behind it in `size` bytes. */
bool get_string(napi_env env, napi_value value, const char *name, char *result, size_t size);

/* Members of an options object. `*given`, where asked for, tells an absent member from a present one. */
bool get_object(napi_env env, napi_value value, const char *call);
bool option_int(napi_env env, napi_value object, const char *key, int64_t min, int64_t max, int64_t *result,
                bool *given);
bool option_bool(napi_env env, napi_value object, const char *key, bool *result, bool *given);
bool option_string(napi_env env, napi_value object, const char *key, char *result, size_t size, bool *given);
bool option_mac(napi_env env, napi_value object, uint8_t *mac, bool *given);
/* An interface name that is present and well-formed. */
bool option_name(napi_env env, napi_value object, char *name);
/* An IPv4 address in host order, signed or unsigned. */
bool option_address(napi_env env, napi_value object, const char *key, uint32_t *address);

struct bytes {
  uint8_t *data;
  size_t length;
};
struct cells {
  int32_t *data;
  size_t length;
};
bool get_bytes(napi_env env, napi_value value, const char *name, struct bytes *bytes);
bool get_cells(napi_env env, napi_value value, const char *name, struct cells *cells);
/* A Float64Array of `least` numbers or more. */
bool get_doubles(napi_env env, napi_value value, const char *name, size_t least, double **doubles);

napi_value from_int(napi_env env, int64_t value);

/* ---- netns.c ------------------------------------------------------------------------------------ */

struct netns {
  int home; /* -1: did not leave it */
};
/* Move the calling thread into a namespace: a name under /run/netns, a path, or "" for where it is. */
int netns_enter(const char *netns, struct netns *moved, struct failure *failure);
/* Move it back. A thread that cannot go home would work in the wrong namespace: the process aborts. */
void netns_leave(struct netns *moved);
/* " in /run/netns/NAME" for messages, or "". */
const char *netns_suffix(const char *netns, char *buffer, size_t size);

/* ---- netlink.c: rtnetlink, one request and one answer -------------------------------------------- */

struct netlink_message {
  union {
    struct nlmsghdr header;
    char bytes[2048];
  };
};
/* A netlink socket in the thread's namespace; it serves the interface ioctls as well. */
int netlink_open(const char *name, const char *where, struct failure *failure);
/* Append an attribute. The caller's attributes have bounds that leave room for them. */
void netlink_put(struct netlink_message *message, uint16_t type, const void *data, size_t length);
/* Send, and take the answer: an acknowledgement, or what was asked for. Sets errno. */
int netlink_request(int netlink, const struct netlink_message *request, struct netlink_message *reply);

/* ---- link.c: network devices -------------------------------------------------------------------- */

struct link_change {
  bool set_mtu, set_mac, set_up, set_alias;
  int mtu;
  uint8_t mac[MAC_LENGTH];
  bool up;
  char alias[ALIAS_SIZE];
};
struct link_state {
  int ifindex, mtu;
  uint8_t mac[MAC_LENGTH];
};
bool option_link_change(napi_env env, napi_value options, struct link_change *change);
/* Both act in the thread's present namespace; `where` is the suffix for messages. */
int link_apply(const char *name, const struct link_change *change, const char *where,
               struct failure *failure);
int link_read(const char *name, struct link_state *state, const char *where, struct failure *failure);

/* ---- checksum.c (RFC 1071) ---------------------------------------------------------------------- */

uint16_t fold_sum(uint64_t sum);
/* The sum of big-endian 16-bit words and a seed, folded, not complemented. An odd last byte is a word's
 * first. */
uint16_t sum_words(const uint8_t *bytes, size_t length, uint32_t seed);

/* ---- socket.c ----------------------------------------------------------------------------------- */

/* setsockopt() with an int. Sets errno. */
int set_option(int fd, int level, int name, int value);

/* ---- bindings ----------------------------------------------------------------------------------- */

napi_value tap_open(napi_env env, napi_callback_info info);
napi_value tap_release(napi_env env, napi_callback_info info);
napi_value link_set(napi_env env, napi_callback_info info);
napi_value sysctl_set(napi_env env, napi_callback_info info);
napi_value netlink_dump(napi_env env, napi_callback_info info);
napi_value netlink_ask(napi_env env, napi_callback_info info);
napi_value netlink_change(napi_env env, napi_callback_info info);
napi_value ipip_mark_attach(napi_env env, napi_callback_info info);
napi_value ipip_mark_detach(napi_env env, napi_callback_info info);
napi_value ipip_mark_supported(napi_env env, napi_callback_info info);
napi_value udp_open(napi_env env, napi_callback_info info);
napi_value raw_open(napi_env env, napi_callback_info info);
napi_value datagram_open(napi_env env, napi_callback_info info);
napi_value socket_drops(napi_env env, napi_callback_info info);
napi_value socket_spread(napi_env env, napi_callback_info info);
napi_value tcp_open(napi_env env, napi_callback_info info);
napi_value tcp_password(napi_env env, napi_callback_info info);
napi_value tcp_ttl(napi_env env, napi_callback_info info);
napi_value socket_filter(napi_env env, napi_callback_info info);
napi_value unix_listen(napi_env env, napi_callback_info info);
napi_value unix_connect(napi_env env, napi_callback_info info);
napi_value unix_accept(napi_env env, napi_callback_info info);
napi_value send_fds(napi_env env, napi_callback_info info);
napi_value receive_fds(napi_env env, napi_callback_info info);
napi_value notify_send(napi_env env, napi_callback_info info);
napi_value adopt_fd(napi_env env, napi_callback_info info);
napi_value tap_read(napi_env env, napi_callback_info info);
napi_value tap_write(napi_env env, napi_callback_info info);
napi_value udp_receive(napi_env env, napi_callback_info info);
napi_value udp_send(napi_env env, napi_callback_info info);
napi_value udp6_send(napi_env env, napi_callback_info info);
napi_value raw_receive(napi_env env, napi_callback_info info);
napi_value raw_send(napi_env env, napi_callback_info info);
napi_value keep_capabilities(napi_env env, napi_callback_info info);
napi_value fd_watch(napi_env env, napi_callback_info info);
napi_value fd_unwatch(napi_env env, napi_callback_info info);
napi_value epoll_create_binding(napi_env env, napi_callback_info info);
napi_value epoll_add(napi_env env, napi_callback_info info);
napi_value epoll_delete(napi_env env, napi_callback_info info);
napi_value epoll_wait_binding(napi_env env, napi_callback_info info);
napi_value eventfd_create(napi_env env, napi_callback_info info);
napi_value eventfd_signal(napi_env env, napi_callback_info info);
napi_value eventfd_drain(napi_env env, napi_callback_info info);
napi_value checksum(napi_env env, napi_callback_info info);
napi_value checksums(napi_env env, napi_callback_info info);

#endif
