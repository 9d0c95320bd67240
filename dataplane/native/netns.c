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
