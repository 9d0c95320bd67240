/* The calling thread's visit to another network namespace. Other threads stay where they are. */
#include "tortie.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *netns_path(const char *netns, char *buffer, size_t size) {
  if (strchr(netns, '/')) return netns;
  snprintf(buffer, size, "/run/netns/%s", netns);
  return buffer;
}

const char *netns_suffix(const char *netns, char *buffer, size_t size) {
  char path[NETNS_SIZE + 16];
  if (!netns[0]) return "";
  snprintf(buffer, size, " in %s", netns_path(netns, path, sizeof path));
  return buffer;
}

int netns_enter(const char *netns, struct netns *moved, struct failure *failure) {
  char buffer[NETNS_SIZE + 16];
  moved->home = -1;
  if (!netns[0]) return 0;
  const char *path = netns_path(netns, buffer, sizeof buffer);
  int there = open(path, O_RDONLY | O_CLOEXEC);
  if (there < 0) return fail(failure, "open", "%s", path);
  int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0) {
    fail(failure, "open", "/proc/thread-self/ns/net");
  } else if (setns(there, CLONE_NEWNET) < 0) {
    fail(failure, "setns", "%s", path);
    close(home);
    home = -1;
  }
  close(there);
  moved->home = home;
  return home < 0 ? -1 : 0;
}

void netns_leave(struct netns *moved) {
  if (moved->home < 0) return;
  if (setns(moved->home, CLONE_NEWNET) < 0) {
    perror("tortie: a thread cannot return to its network namespace: setns");
    abort();
  }
  close(moved->home);
  moved->home = -1;
}

/* /proc/sys/net shows the namespace of the thread that opens it. */
static int write_parameter(const char *path, const char *value, const char *where, struct failure *failure) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fail(failure, "open", "%s%s", path, where);
  ssize_t wrote = write(fd, value, strlen(value));
  if (wrote < 0) fail(failure, "write", "%s%s", path, where);
  close(fd);
  return wrote < 0 ? -1 : 0;
}

napi_value sysctl_set(napi_env env, napi_callback_info info) {
  enum { PARAMETER_SIZE = 128, VALUE_SIZE = 64 };
  napi_value args[3];
  char netns[NETNS_SIZE], buffer[NETNS_SIZE + 32], value[VALUE_SIZE];
  char path[PARAMETER_SIZE + 16] = "/proc/sys/";
  size_t root = strlen(path);
  struct failure failure;
  struct netns moved;
  if (!get_args(env, info, "sysctlSet", 3, args) || !get_string(env, args[0], "netns", netns, sizeof netns) ||
      !get_string(env, args[1], "name", path + root, PARAMETER_SIZE) ||
      !get_string(env, args[2], "value", value, sizeof value))
    return NULL;
  if (netns_enter(netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int result = write_parameter(path, value, netns_suffix(netns, buffer, sizeof buffer), &failure);
  netns_leave(&moved);
  return result < 0 ? throw_failure(env, &failure) : NULL;
}
