/* Waiting: epoll, and an eventfd to wake who waits. */
#include "addon.h"
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_EVENTS = 256 };

static napi_value throw_pair(napi_env env, const char *call, int epoll, int fd) {
  char subject[64];
  snprintf(subject, sizeof subject, "epoll %d descriptor %d", epoll, fd);
  return throw_errno(env, errno, call, subject, NULL);
}

napi_value epoll_make(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return throw_errno(env, errno, "epoll_create1", "", NULL);
  own_fd(env, fd);
  return make_int(env, fd);
}

napi_value epoll_add(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t epoll, fd, tag;
  if (!args_get(env, info, 3, args) || !arg_int(env, args[0], "epoll", &epoll) ||
      !arg_int(env, args[1], "fd", &fd) || !arg_int(env, args[2], "tag", &tag)) {
    return NULL;
  }
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)tag};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) return throw_pair(env, "EPOLL_CTL_ADD", epoll, fd);
  return NULL;
}

napi_value epoll_delete(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int32_t epoll, fd;
  if (!args_get(env, info, 2, args) || !arg_int(env, args[0], "epoll", &epoll) ||
      !arg_int(env, args[1], "fd", &fd)) {
    return NULL;
  }
  if (epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL)) return throw_pair(env, "EPOLL_CTL_DEL", epoll, fd);
  return NULL;
}

napi_value epoll_await(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int32_t epoll, timeout;
  struct ints tags;
  if (!args_get(env, info, 3, args) || !arg_int(env, args[0], "epoll", &epoll) ||
      !arg_ints(env, args[1], "tags", &tags) || !arg_int(env, args[2], "timeoutMs", &timeout)) {
    return NULL;
  }
  if (tags.length == 0) return throw_range(env, "tags must not be empty");
  struct epoll_event events[MAX_EVENTS];
  int max = tags.length < MAX_EVENTS ? (int)tags.length : MAX_EVENTS;
  int got = epoll_wait(epoll, events, max, timeout);
  if (got < 0 && errno != EINTR) return throw_pair(env, "epoll_wait", epoll, -1);
  for (int i = 0; i < got; i++)
    tags.data[i] = (int32_t)events[i].data.u32;
  return make_int(env, got < 0 ? 0 : got);
}

napi_value eventfd_make(napi_env env, napi_callback_info info) {
  (void)info;
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return throw_errno(env, errno, "eventfd", "", NULL);
  own_fd(env, fd);
  return make_int(env, fd);
}

napi_value eventfd_signal(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!args_get(env, info, 1, args) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  /* EAGAIN: the counter is full, so whoever waits is awake already. */
  if (eventfd_write(fd, 1) && errno != EAGAIN) return throw_errno(env, errno, "eventfd_write", "", NULL);
  return NULL;
}

napi_value eventfd_drain(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!args_get(env, info, 1, args) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  eventfd_t count;
  if (eventfd_read(fd, &count) && errno != EAGAIN) return throw_errno(env, errno, "eventfd_read", "", NULL);
  return NULL;
}
