/*
 * TAP devices. A device is made or adopted in the namespace asked for; its descriptors then work from any
 * namespace and any thread.
 */
#include "tortie.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MAX_QUEUES = 16 };
/* Debian 12's headers stop at TUN_F_UFO. */
enum { USO4 = 0x20, USO6 = 0x40, UDP_TUNNEL_GSO = 0x80, UDP_TUNNEL_GSO_CSUM = 0x100 };
/* Sizes of virtio's header: see burst.c. */
enum { VNET_PLAIN = 10, VNET_TUNNEL = 24 };

struct tap {
  char name[NAME_SIZE];
  int queues;
  bool persist, set_persist;
  bool offloads;   /* wanted: virtio's header, and super-frames to us */
  int vnet_header; /* size of the header before each frame; 0: none */
  struct link_change change;

  int fds[MAX_QUEUES];
  int opened;
  bool created;
  struct link_state state;
};

static int attach_queue(struct tap *tap, const char *where, struct failure *failure) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return fail(failure, "open /dev/net/tun", "for %s%s", tap->name, where);
  tap->fds[tap->opened++] = fd;
  struct ifreq request = {0};
  memcpy(request.ifr_name, tap->name, strlen(tap->name));
  int flags =
      IFF_TAP | IFF_NO_PI | (tap->queues > 1 ? IFF_MULTI_QUEUE : 0) | (tap->offloads ? IFF_VNET_HDR : 0);
  /* Made by us, or there before? IFF_TUN_EXCL answers without a race: it only makes. */
  if (tap->opened == 1) {
    request.ifr_flags = (short)(flags | IFF_TUN_EXCL);
    if (ioctl(fd, TUNSETIFF, &request) == 0) {
      tap->created = true;
      return 0;
    }
    if (errno != EBUSY) return fail(failure, "TUNSETIFF", "%s%s", tap->name, where);
  }
  request.ifr_flags = (short)flags;
  if (ioctl(fd, TUNSETIFF, &request) < 0) return fail(failure, "TUNSETIFF", "%s%s", tap->name, where);
  return 0;
}

/*
 * The header's size and what the kernel may leave to us. Linux before 6.2 has no USO, before 6.17 no header
 * for tunnels: do with what there is. Without offloads they are turned off, since a former owner may have
 * left them on, and then we would be handed frames that we cannot tell apart.
 */
static int set_offloads(struct tap *tap, const char *where, struct failure *failure) {
  int fd = tap->fds[0];
  if (!tap->offloads) {
    if (ioctl(fd, TUNSETOFFLOAD, 0) < 0) return fail(failure, "TUNSETOFFLOAD", "%s%s", tap->name, where);
    return 0;
  }
  unsigned long segmentation = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
  /* Tunnels' super-frames are for writing alone: the kernel that takes the bits takes such frames. */
  bool tunnel = ioctl(fd, TUNSETOFFLOAD, segmentation | UDP_TUNNEL_GSO | UDP_TUNNEL_GSO_CSUM) == 0;
  if (ioctl(fd, TUNSETOFFLOAD, segmentation | USO4 | USO6) < 0 && ioctl(fd, TUNSETOFFLOAD, segmentation) < 0)
    return fail(failure, "TUNSETOFFLOAD", "%s%s", tap->name, where);
  tap->vnet_header = tunnel ? VNET_TUNNEL : VNET_PLAIN;
  if (ioctl(fd, TUNSETVNETHDRSZ, &tap->vnet_header) < 0)
    return fail(failure, "TUNSETVNETHDRSZ", "%s%s", tap->name, where);
  return 0;
}

static int configure(struct tap *tap, const char *where, struct failure *failure) {
  for (int i = 0; i < tap->queues; i++)
    if (attach_queue(tap, where, failure) < 0) return -1;
  if (set_offloads(tap, where, failure) < 0) return -1;
  if (link_apply(tap->name, &tap->change, where, failure) < 0) return -1;
  if (link_read(tap->name, &tap->state, where, failure) < 0) return -1;
  /* Last, so that a device that could not be set up goes with its descriptors. */
  if (tap->set_persist && ioctl(tap->fds[0], TUNSETPERSIST, tap->persist ? 1 : 0) < 0)
    return fail(failure, "TUNSETPERSIST", "%s%s", tap->name, where);
  return 0;
}

static napi_value describe(napi_env env, const struct tap *tap) {
  napi_value result, fds, created, buffer, mac;
  void *bytes;
  if (napi_create_object(env, &result) != napi_ok ||
      napi_create_array_with_length(env, (size_t)tap->queues, &fds) != napi_ok ||
      napi_get_boolean(env, tap->created, &created) != napi_ok ||
      napi_create_arraybuffer(env, MAC_LENGTH, &bytes, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_uint8_array, MAC_LENGTH, buffer, 0, &mac) != napi_ok)
    return NULL;
  memcpy(bytes, tap->state.mac, MAC_LENGTH);
  for (int i = 0; i < tap->queues; i++)
    napi_set_element(env, fds, (uint32_t)i, from_int(env, tap->fds[i]));
  napi_set_named_property(env, result, "fds", fds);
  napi_set_named_property(env, result, "ifindex", from_int(env, tap->state.ifindex));
  napi_set_named_property(env, result, "created", created);
  napi_set_named_property(env, result, "mac", mac);
  napi_set_named_property(env, result, "mtu", from_int(env, tap->state.mtu));
  napi_set_named_property(env, result, "vnetHeader", from_int(env, tap->vnet_header));
  return result;
}

napi_value tap_open(napi_env env, napi_callback_info info) {
  napi_value options;
  char netns[NETNS_SIZE], buffer[NETNS_SIZE + 32];
  bool given;
  int64_t queues = 1;
  struct tap tap = {0};
  if (!get_args(env, info, "tapOpen", 1, &options) || !get_object(env, options, "tapOpen") ||
      !option_name(env, options, tap.name) ||
      !option_string(env, options, "netns", netns, sizeof netns, &given) ||
      !option_int(env, options, "queues", 1, MAX_QUEUES, &queues, &given) ||
      !option_bool(env, options, "persist", &tap.persist, &tap.set_persist) ||
      !option_bool(env, options, "offloads", &tap.offloads, NULL) ||
      !option_link_change(env, options, &tap.change))
    return NULL;
  tap.queues = (int)queues;
  struct failure failure;
  struct netns moved;
  if (netns_enter(netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int result = configure(&tap, netns_suffix(netns, buffer, sizeof buffer), &failure);
  netns_leave(&moved);
  if (result < 0) {
    for (int i = 0; i < tap.opened; i++)
      close(tap.fds[i]);
    return throw_failure(env, &failure);
  }
  for (int i = 0; i < tap.opened; i++)
    if (!env_adopt(env, tap.fds[i])) return NULL;
  return describe(env, &tap);
}

napi_value tap_release(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  if (!get_args(env, info, "tapRelease", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  if (ioctl(fd, TUNSETPERSIST, 0) == 0) return NULL;
  struct failure failure;
  fail(&failure, "TUNSETPERSIST", "descriptor %d", fd);
  return throw_failure(env, &failure);
}
