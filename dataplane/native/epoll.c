/* Sleeping until there is work: epoll over ports, and an eventfd by which another thread wakes the sleeper.
 */
#include "tortie.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 64 };

static napi_value throw_fd(napi_env env, const char *call, int fd) {
  struct failure failure;
  fail(&failure, call, "descriptor %d", fd);
  return throw_failure(env, &failure);
}

static napi_value adopt_new(napi_env env, const char *call, int fd) {
  if (fd >= 0) return env_adopt(env, fd) ? from_int(env, fd) : NULL;
  struct failure failure;
  fail(&failure, call, "descriptor");
  return throw_failure(env, &failure);
}

napi_value epoll_create_binding(napi_env env, napi_callback_info info) {
  (void)info;
  return adopt_new(env, "epoll_create1", epoll_create1(EPOLL_CLOEXEC));
}

napi_value epoll_add(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int epoll, fd;
  int64_t tag;
  if (!get_args(env, info, "epollAdd", 3, args) || !get_fd(env, args[0], &epoll) ||
      !get_fd(env, args[1], &fd) || !get_int(env, args[2], "tag", INT32_MIN, INT32_MAX, &tag))
    return NULL;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)tag};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? throw_fd(env, "epoll_ctl", fd) : NULL;
}

napi_value epoll_delete(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int epoll, fd;
  if (!get_args(env, info, "epollDelete", 2, args) || !get_fd(env, args[0], &epoll) ||
      !get_fd(env, args[1], &fd))
    return NULL;
  return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? throw_fd(env, "epoll_ctl", fd) : NULL;
}

/* CLOCK_MONOTONIC, ms: what performance.now() counts, without its garbage. */
static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

napi_value epoll_wait_binding(napi_env env, napi_callback_info info) {
  enum { CLOCK_BEFORE, CLOCK_AFTER, CLOCK_CELLS };
  napi_value args[4];
  size_t given = 4;
  int epoll;
  struct cells tags;
  int64_t timeout;
  double *clock = NULL;
  if (!get_args(env, info, "epollWait", 3, args) || !get_fd(env, args[0], &epoll) ||
      !get_cells(env, args[1], "tags", &tags) || !get_int(env, args[2], "timeoutMs", -1, INT32_MAX, &timeout))
    return NULL;
  if (tags.length == 0) return throw_range(env, "tags must have room for one tag");
  if (napi_get_cb_info(env, info, &given, args, NULL, NULL) != napi_ok ||
      (given > 3 && !get_doubles(env, args[3], "clock", CLOCK_CELLS, &clock)))
    return NULL;
  struct epoll_event events[MAX_EVENTS];
  int room = tags.length < MAX_EVENTS ? (int)tags.length : MAX_EVENTS;
  if (clock) clock[CLOCK_BEFORE] = now_ms();
  int ready = epoll_wait(epoll, events, room, (int)timeout);
  if (clock) clock[CLOCK_AFTER] = now_ms();
  if (ready < 0) {
    if (errno != EINTR) return throw_fd(env, "epoll_wait", epoll);
    ready = 0;
  }
  for (int i = 0; i < ready; i++)
    tags.data[i] = (int32_t)events[i].data.u32;
  return from_int(env, ready);
}

napi_value eventfd_create(napi_env env, napi_callback_info info) {
  (void)info;
  return adopt_new(env, "eventfd", eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

napi_value eventfd_signal(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, "eventfdSignal", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  uint64_t one = 1;
  return write(fd, &one, sizeof one) < 0 ? throw_fd(env, "write", fd) : NULL;
}

napi_value eventfd_drain(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, "eventfdDrain", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  uint64_t count;
  if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN) return throw_fd(env, "read", fd);
  return NULL;
}
