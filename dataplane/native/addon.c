/* Registration, errors, and the descriptors that an environment owns. */
#include "addon.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Descriptors that this environment opened and has not closed. */
struct instance {
  int *fds;
  size_t count;
  size_t room;
};

static void instance_free(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  struct instance *self = data;
  for (size_t i = 0; i < self->count; i++)
    close(self->fds[i]);
  free(self->fds);
  free(self);
}

static struct instance *instance_of(napi_env env) {
  void *data = NULL;
  napi_get_instance_data(env, &data);
  return data;
}

bool own_fd(napi_env env, int fd) {
  struct instance *self = instance_of(env);
  if (self->count == self->room) {
    size_t room = self->room ? self->room * 2 : 16;
    int *fds = realloc(self->fds, room * sizeof *fds);
    if (!fds) return false;
    self->fds = fds;
    self->room = room;
  }
  self->fds[self->count++] = fd;
  return true;
}

bool disown_fd(napi_env env, int fd) {
  struct instance *self = instance_of(env);
  for (size_t i = 0; i < self->count; i++) {
    if (self->fds[i] != fd) continue;
    self->fds[i] = self->fds[--self->count];
    return true;
  }
  return false;
}

napi_value throw_range(napi_env env, const char *message) {
  napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
  return NULL;
}

/* What to do about an errno where the call itself knows nothing better. */
static const char *default_advice(int error) {
  switch (error) {
  case EPERM:
  case EACCES:
    return "not permitted: run as root, or in a user and network namespace of your own";
  case ENOENT:
    return "no such file or namespace: check the name";
  case ENODEV:
  case ENXIO:
    return "no such device: check the name";
  case EMFILE:
  case ENFILE:
    return "too many open files: raise the limit (ulimit -n)";
  case EADDRINUSE:
    return "address in use: another program, or a kernel tunnel device, has it";
  case EADDRNOTAVAIL:
    return "no interface has that address: check the node address";
  case ENOMEM:
  case ENOBUFS:
    return "out of memory";
  default:
    return strerror(error);
  }
}

napi_value throw_errno(napi_env env, int error, const char *call, const char *subject, const char *advice) {
  const char *name = strerrorname_np(error);
  char text[512];
  snprintf(text, sizeof text, "%s %s: %s, %s", call, subject, name ? name : "unknown error",
           advice ? advice : default_advice(error));
  napi_value code, message, exception, number, syscall;
  napi_create_string_utf8(env, name ? name : "UNKNOWN", NAPI_AUTO_LENGTH, &code);
  napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message);
  napi_create_string_utf8(env, call, NAPI_AUTO_LENGTH, &syscall);
  napi_create_int32(env, error, &number);
  napi_create_error(env, code, message, &exception);
  set_prop(env, exception, "errno", number);
  set_prop(env, exception, "syscall", syscall);
  napi_throw(env, exception);
  return NULL;
}

static napi_value fd_close(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!args_get(env, info, 1, args) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  char subject[32];
  snprintf(subject, sizeof subject, "descriptor %d", fd);
  if (!disown_fd(env, fd))
    return throw_errno(env, EBADF, "close", subject, "not opened here, or closed before");
  if (close(fd)) return throw_errno(env, errno, "close", subject, NULL);
  return NULL;
}

NAPI_MODULE_INIT() {
  struct instance *self = calloc(1, sizeof *self);
  if (!self || napi_set_instance_data(env, self, instance_free, NULL) != napi_ok) {
    free(self);
    napi_throw_error(env, "ENOMEM", "out of memory");
    return NULL;
  }
  const napi_property_descriptor exported[] = {
#define METHOD(name, function) {name, NULL, function, NULL, NULL, NULL, napi_enumerable, NULL}
      METHOD("tapOpen", tap_open),
      METHOD("tapRelease", tap_release),
      METHOD("linkSet", link_set),
      METHOD("udpOpen", udp_open),
      METHOD("rawOpen", raw_open),
      METHOD("close", fd_close),
      METHOD("tapRead", tap_read),
      METHOD("tapWrite", tap_write),
      METHOD("udpReceive", udp_receive),
      METHOD("udpSend", udp_send),
      METHOD("rawReceive", raw_receive),
      METHOD("rawSend", raw_send),
      METHOD("checksum", checksum),
      METHOD("epollCreate", epoll_make),
      METHOD("epollAdd", epoll_add),
      METHOD("epollDelete", epoll_delete),
      METHOD("epollWait", epoll_await),
      METHOD("eventfdCreate", eventfd_make),
      METHOD("eventfdSignal", eventfd_signal),
      METHOD("eventfdDrain", eventfd_drain),
#undef METHOD
  };
  napi_define_properties(env, exports, sizeof exported / sizeof *exported, exported);
  return exports;
}
