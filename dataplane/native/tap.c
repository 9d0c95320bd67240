/* TAP devices, in the caller's network namespace or another. */
#include "addon.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_QUEUES = 16, MAC_LENGTH = 6, ALIAS_LENGTH = 255 };

bool netns_enter(napi_env env, napi_value options, struct netns *ns) {
  char name[NETNS_PATH - 16] = "";
  ns->home = -1;
  ns->path[0] = '\0';
  if (!prop_string(env, options, "netns", name, sizeof name)) return false;
  if (name[0] == '\0') return true;
  snprintf(ns->path, sizeof ns->path, strchr(name, '/') ? "%s" : "/run/netns/%s", name);

  int target = open(ns->path, O_RDONLY | O_CLOEXEC);
  if (target < 0) {
    throw_errno(env, errno, "open", ns->path, NULL);
    return false;
  }
  ns->home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (ns->home < 0 || setns(target, CLONE_NEWNET)) {
    int error = errno;
    close(target);
    if (ns->home >= 0) close(ns->home);
    throw_errno(env, error, "setns", ns->path, error == EINVAL ? "not a network namespace" : NULL);
    return false;
  }
  close(target);
  return true;
}

void netns_leave(struct netns *ns) {
  if (ns->home < 0) return;
  if (setns(ns->home, CLONE_NEWNET)) {
    perror("tortie: cannot return to the own network namespace");
    abort();
  }
  close(ns->home);
  ns->home = -1;
}

const char *netns_suffix(const struct netns *ns, char *out, size_t size) {
  if (ns->path[0])
    snprintf(out, size, " in %s", ns->path);
  else
    out[0] = '\0';
  return out;
}

/* What a device is to be; mtu 0 and found flags false: leave as it is. */
struct link {
  char name[IFNAMSIZ];
  int32_t mtu;
  uint8_t mac[MAC_LENGTH];
  bool has_mac;
  char alias[ALIAS_LENGTH + 1];
  bool up;
};

static bool link_options(napi_env env, napi_value options, struct link *link) {
  memset(link, 0, sizeof *link);
  if (!prop_string(env, options, "name", link->name, sizeof link->name) ||
      !prop_int(env, options, "mtu", &link->mtu) ||
      !prop_bytes(env, options, "mac", link->mac, MAC_LENGTH, &link->has_mac) ||
      !prop_string(env, options, "alias", link->alias, sizeof link->alias) ||
      !prop_bool(env, options, "up", &link->up)) {
    return false;
  }
  if (link->name[0] == '\0') {
    throw_range(env, "name must not be empty");
    return false;
  }
  return true;
}

/* A call that failed, for throw_errno: `call` NULL means success. */
struct failure {
  const char *call;
  int error;
  const char *advice;
};

static struct failure failed(const char *call, const char *advice) {
  return (struct failure){call, errno, advice};
}

/* Set the interface alias: RTM_SETLINK with IFLA_IFALIAS, acknowledged. */
static struct failure set_alias(int ifindex, const char *alias) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg link;
    struct rtattr attribute;
    char text[ALIAS_LENGTH + 1];
  } request = {0};
  size_t length = strlen(alias);
  request.attribute.rta_type = IFLA_IFALIAS;
  request.attribute.rta_len = RTA_LENGTH(length);
  memcpy(request.text, alias, length);
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.link) + RTA_ALIGN(request.attribute.rta_len);
  request.header.nlmsg_type = RTM_SETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.link.ifi_index = ifindex;

  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return failed("socket", NULL);
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[512];
  } answer;
  struct failure result = {0};
  if (send(fd, &request, request.header.nlmsg_len, 0) < 0)
    result = failed("RTM_SETLINK", NULL);
  else if (recv(fd, &answer, sizeof answer, 0) < (ssize_t)NLMSG_LENGTH(sizeof(int)))
    result = failed("RTM_SETLINK", NULL);
  else if (answer.header.nlmsg_type == NLMSG_ERROR && answer.error.error) {
    errno = -answer.error.error;
    result = failed("RTM_SETLINK", NULL);
  }
  close(fd);
  return result;
}

static struct failure apply_link(int control, const struct link *link) {
  struct ifreq request = {0};
  memcpy(request.ifr_name, link->name, IFNAMSIZ);
  if (link->has_mac) {
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, link->mac, MAC_LENGTH);
    if (ioctl(control, SIOCSIFHWADDR, &request)) return failed("SIOCSIFHWADDR", NULL);
  }
  if (link->mtu) {
    request.ifr_mtu = link->mtu;
    if (ioctl(control, SIOCSIFMTU, &request)) {
      return failed("SIOCSIFMTU", errno == EINVAL ? "the device does not take that MTU" : NULL);
    }
  }
  if (link->alias[0]) {
    if (ioctl(control, SIOCGIFINDEX, &request)) return failed("SIOCGIFINDEX", NULL);
    struct failure alias = set_alias(request.ifr_ifindex, link->alias);
    if (alias.call) return alias;
  }
  if (link->up) {
    if (ioctl(control, SIOCGIFFLAGS, &request)) return failed("SIOCGIFFLAGS", NULL);
    request.ifr_flags |= IFF_UP;
    if (ioctl(control, SIOCSIFFLAGS, &request)) return failed("SIOCSIFFLAGS", NULL);
  }
  return (struct failure){0};
}

static napi_value throw_failure(napi_env env, struct failure failure, const char *name,
                                const struct netns *ns) {
  char where[NETNS_PATH + 8];
  char subject[NETNS_PATH + IFNAMSIZ + 16];
  snprintf(subject, sizeof subject, "%s%s", name, netns_suffix(ns, where, sizeof where));
  return throw_errno(env, failure.error, failure.call, subject, failure.advice);
}

/* Attach one queue; *fd is the descriptor. */
static struct failure attach_queue(const char *name, bool multi, int *fd) {
  *fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (*fd < 0) return failed("open /dev/net/tun for", errno == ENOENT ? "load the tun module" : NULL);
  struct ifreq request = {0};
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | (multi ? IFF_MULTI_QUEUE : 0);
  if (ioctl(*fd, TUNSETIFF, &request) == 0) return (struct failure){0};
  const char *advice = NULL;
  if (errno == EBUSY) advice = "another process holds the device: stop it, or name another device";
  if (errno == EINVAL)
    advice = "a device of that name is no TAP, or has another number of queues: remove it first";
  struct failure failure = failed("TUNSETIFF", advice);
  close(*fd);
  return failure;
}

struct tap {
  int fds[MAX_QUEUES];
  int queues;
  bool created;
  int ifindex;
  int mtu;
  uint8_t mac[MAC_LENGTH];
};

static struct failure open_queues(const struct link *link, bool persist, struct tap *tap, int queues) {
  struct ifreq request = {0};
  memcpy(request.ifr_name, link->name, IFNAMSIZ);
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) return failed("socket", NULL);
  tap->created = ioctl(control, SIOCGIFINDEX, &request) != 0;
  struct failure failure = {0};
  while (!failure.call && tap->queues < queues) {
    failure = attach_queue(link->name, queues > 1, &tap->fds[tap->queues]);
    if (!failure.call) tap->queues++;
  }
  if (!failure.call && ioctl(tap->fds[0], TUNSETPERSIST, persist)) failure = failed("TUNSETPERSIST", NULL);
  if (!failure.call) failure = apply_link(control, link);
  if (!failure.call && ioctl(control, SIOCGIFINDEX, &request)) failure = failed("SIOCGIFINDEX", NULL);
  tap->ifindex = request.ifr_ifindex;
  if (!failure.call && ioctl(control, SIOCGIFMTU, &request)) failure = failed("SIOCGIFMTU", NULL);
  tap->mtu = request.ifr_mtu;
  if (!failure.call && ioctl(control, SIOCGIFHWADDR, &request)) failure = failed("SIOCGIFHWADDR", NULL);
  memcpy(tap->mac, request.ifr_hwaddr.sa_data, MAC_LENGTH);
  if (failure.call && tap->created && tap->queues > 0) ioctl(tap->fds[0], TUNSETPERSIST, 0);
  close(control);
  return failure;
}

napi_value tap_open(napi_env env, napi_callback_info info) {
  napi_value options;
  struct link link;
  struct netns ns;
  bool persist = false;
  int32_t queues = 1;
  if (!args_get(env, info, 1, &options) || !link_options(env, options, &link) ||
      !prop_bool(env, options, "persist", &persist) || !prop_int(env, options, "queues", &queues)) {
    return NULL;
  }
  if (queues < 1 || queues > MAX_QUEUES) return throw_range(env, "queues must be 1 to 16");
  if (!netns_enter(env, options, &ns)) return NULL;
  struct tap tap = {0};
  struct failure failure = open_queues(&link, persist, &tap, queues);
  netns_leave(&ns);
  if (failure.call) {
    for (int i = 0; i < tap.queues; i++)
      close(tap.fds[i]);
    return throw_failure(env, failure, link.name, &ns);
  }

  napi_value result, fds, mac, created, buffer;
  void *bytes;
  napi_create_object(env, &result);
  napi_create_array(env, &fds);
  for (int i = 0; i < tap.queues; i++) {
    own_fd(env, tap.fds[i]);
    napi_set_element(env, fds, (uint32_t)i, make_int(env, tap.fds[i]));
  }
  napi_create_arraybuffer(env, MAC_LENGTH, &bytes, &buffer);
  memcpy(bytes, tap.mac, MAC_LENGTH);
  napi_create_typedarray(env, napi_uint8_array, MAC_LENGTH, buffer, 0, &mac);
  napi_get_boolean(env, tap.created, &created);
  set_prop(env, result, "fds", fds);
  set_prop(env, result, "ifindex", make_int(env, tap.ifindex));
  set_prop(env, result, "created", created);
  set_prop(env, result, "mac", mac);
  set_prop(env, result, "mtu", make_int(env, tap.mtu));
  return result;
}

napi_value tap_release(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int32_t fd;
  if (!args_get(env, info, 1, args) || !arg_int(env, args[0], "fd", &fd)) return NULL;
  if (ioctl(fd, TUNSETPERSIST, 0)) {
    char subject[32];
    snprintf(subject, sizeof subject, "descriptor %d", fd);
    return throw_errno(env, errno, "TUNSETPERSIST", subject, NULL);
  }
  return NULL;
}

napi_value link_set(napi_env env, napi_callback_info info) {
  napi_value options;
  struct link link;
  struct netns ns;
  if (!args_get(env, info, 1, &options) || !link_options(env, options, &link) ||
      !netns_enter(env, options, &ns)) {
    return NULL;
  }
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct failure failure = control < 0 ? failed("socket", NULL) : apply_link(control, &link);
  if (control >= 0) close(control);
  netns_leave(&ns);
  if (failure.call) return throw_failure(env, failure, link.name, &ns);
  return NULL;
}
