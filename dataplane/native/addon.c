/*
 * The module: its table of bindings, and the descriptors of each environment. Workers load the addon too, so
 * nothing is global: an environment (main thread, worker) has its own list of descriptors, and closes what
 * is left of them when it ends.
 */
#include "tortie.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct env_state {
  int *fds;
  size_t count, capacity;
};

static void env_cleanup(void *data) {
  struct env_state *state = data;
  for (size_t i = 0; i < state->count; i++)
    close(state->fds[i]);
  free(state->fds);
  free(state);
}

static struct env_state *env_state(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

bool env_adopt(napi_env env, int fd) {
  struct env_state *state = env_state(env);
  if (state->count == state->capacity) {
    size_t capacity = state->capacity ? 2 * state->capacity : 16;
    int *fds = realloc(state->fds, capacity * sizeof *fds);
    if (!fds) {
      close(fd);
      throw_range(env, "out of memory for descriptor %d", fd);
      return false;
    }
    state->fds = fds;
    state->capacity = capacity;
  }
  state->fds[state->count++] = fd;
  return true;
}

/* Forget a descriptor that this environment opened. Throws if it did not: closing another's would leave that
 * one with a stale number, and its clean-up would close whatever has the number by then. */
static bool forget(napi_env env, const char *call, int fd) {
  struct env_state *state = env_state(env);
  for (size_t i = 0; i < state->count; i++) {
    if (state->fds[i] != fd) continue;
    state->fds[i] = state->fds[--state->count];
    return true;
  }
  struct failure failure;
  errno = EBADF;
  fail(&failure, call, "descriptor %d", fd);
  throw_failure(env, &failure);
  return false;
}

napi_value env_close(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, "close", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  if (forget(env, "close", fd)) close(fd); /* Linux frees the number whatever close reports. */
  return NULL;
}

napi_value env_release(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, "release", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  forget(env, "release", fd);
  return NULL;
}

static const struct {
  const char *name;
  napi_callback function;
} bindings[] = {
    {"tapOpen", tap_open},
    {"linkSet", link_set},
    {"tapRelease", tap_release},
    {"sysctlSet", sysctl_set},
    {"netlinkDump", netlink_dump},
    {"netlinkAsk", netlink_ask},
    {"netlinkChange", netlink_change},
    {"ipipMarkAttach", ipip_mark_attach},
    {"ipipMarkDetach", ipip_mark_detach},
    {"ipipMarkSupported", ipip_mark_supported},
    {"udpOpen", udp_open},
    {"rawOpen", raw_open},
    {"datagramOpen", datagram_open},
    {"socketDrops", socket_drops},
    {"socketSpread", socket_spread},
    {"tcpOpen", tcp_open},
    {"tcpPassword", tcp_password},
    {"tcpTtl", tcp_ttl},
    {"socketFilter", socket_filter},
    {"unixListen", unix_listen},
    {"unixConnect", unix_connect},
    {"unixAccept", unix_accept},
    {"sendFds", send_fds},
    {"receiveFds", receive_fds},
    {"notifySend", notify_send},
    {"adopt", adopt_fd},
    {"close", env_close},
    {"release", env_release},
    {"tapRead", tap_read},
    {"tapWrite", tap_write},
    {"udpReceive", udp_receive},
    {"udpSend", udp_send},
    {"udp6Send", udp6_send},
    {"rawReceive", raw_receive},
    {"rawSend", raw_send},
    {"keepCapabilities", keep_capabilities},
    {"fdWatch", fd_watch},
    {"fdUnwatch", fd_unwatch},
    {"epollCreate", epoll_create_binding},
    {"epollAdd", epoll_add},
    {"epollDelete", epoll_delete},
    {"epollWait", epoll_wait_binding},
    {"eventfdCreate", eventfd_create},
    {"eventfdSignal", eventfd_signal},
    {"eventfdDrain", eventfd_drain},
    {"checksum", checksum},
    {"checksums", checksums},
};

NAPI_MODULE_INIT() {
  struct env_state *state = calloc(1, sizeof *state);
  if (!state) return throw_range(env, "out of memory for the addon");
  if (napi_set_instance_data(env, state, NULL, NULL) != napi_ok ||
      napi_add_env_cleanup_hook(env, env_cleanup, state) != napi_ok) {
    free(state);
    return throw_type(env, "the addon could not be set up in this environment");
  }
  for (size_t i = 0; i < sizeof bindings / sizeof *bindings; i++) {
    napi_value function;
    if (napi_create_function(env, bindings[i].name, NAPI_AUTO_LENGTH, bindings[i].function, NULL,
                             &function) != napi_ok ||
        napi_set_named_property(env, exports, bindings[i].name, function) != napi_ok)
      return NULL;
  }
  return exports;
}
