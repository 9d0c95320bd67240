/* Network devices: reading their state, and changing it by RTM_SETLINK (rtnetlink(7)), one attribute a
 * message so that an error tells which one was refused. */
#include "tortie.h"

#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

bool option_link_change(napi_env env, napi_value options, struct link_change *change) {
  int64_t mtu = 0;
  memset(change, 0, sizeof *change);
  if (!option_int(env, options, "mtu", 68, 65535, &mtu, &change->set_mtu) ||
      !option_mac(env, options, change->mac, &change->set_mac) ||
      !option_bool(env, options, "up", &change->up, &change->set_up) ||
      !option_string(env, options, "alias", change->alias, sizeof change->alias, &change->set_alias))
    return false;
  change->mtu = (int)mtu;
  return true;
}

/* One RTM_SETLINK with an attribute (length > 0), with flags (mask != 0), or both. Sets errno. */
static int set_link(int netlink, int ifindex, unsigned flags, unsigned mask, uint16_t type, const void *data,
                    size_t length) {
  struct netlink_message request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
                                               .nlmsg_type = RTM_SETLINK,
                                               .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK}};
  struct netlink_message reply;
  struct ifinfomsg *info = NLMSG_DATA(&request.header);
  *info = (struct ifinfomsg){
      .ifi_family = AF_UNSPEC, .ifi_index = ifindex, .ifi_flags = flags, .ifi_change = mask};
  if (mask == 0) netlink_put(&request, type, data, length);
  return netlink_request(netlink, &request, &reply);
}

static int read_state(int netlink, const char *name, struct link_state *state, const char *where,
                      struct failure *failure) {
  struct ifreq request = {0};
  memcpy(request.ifr_name, name, strlen(name));
  if (ioctl(netlink, SIOCGIFINDEX, &request) < 0) return fail(failure, "SIOCGIFINDEX", "%s%s", name, where);
  state->ifindex = request.ifr_ifindex;
  if (ioctl(netlink, SIOCGIFMTU, &request) < 0) return fail(failure, "SIOCGIFMTU", "%s%s", name, where);
  state->mtu = request.ifr_mtu;
  if (ioctl(netlink, SIOCGIFHWADDR, &request) < 0) return fail(failure, "SIOCGIFHWADDR", "%s%s", name, where);
  memcpy(state->mac, request.ifr_hwaddr.sa_data, MAC_LENGTH);
  return 0;
}

int link_read(const char *name, struct link_state *state, const char *where, struct failure *failure) {
  int netlink = netlink_open(name, where, failure);
  if (netlink < 0) return -1;
  int result = read_state(netlink, name, state, where, failure);
  close(netlink);
  return result;
}

/* What is as wanted already is left alone: setting a MAC flushes neighbours even when it does not change. */
static int apply(int netlink, const char *name, const struct link_change *change, const char *where,
                 struct failure *failure) {
  struct link_state now;
  if (read_state(netlink, name, &now, where, failure) < 0) return -1;
  const uint8_t *mac = change->mac;
  if (change->set_mac && memcmp(mac, now.mac, MAC_LENGTH) != 0 &&
      set_link(netlink, now.ifindex, 0, 0, IFLA_ADDRESS, mac, MAC_LENGTH) < 0)
    return fail(failure, "RTM_SETLINK", "%s mac %02x:%02x:%02x:%02x:%02x:%02x%s", name, mac[0], mac[1],
                mac[2], mac[3], mac[4], mac[5], where);
  uint32_t mtu = (uint32_t)change->mtu;
  if (change->set_mtu && change->mtu != now.mtu &&
      set_link(netlink, now.ifindex, 0, 0, IFLA_MTU, &mtu, sizeof mtu) < 0)
    return fail(failure, "RTM_SETLINK", "%s mtu %d%s", name, change->mtu, where);
  if (change->set_alias &&
      set_link(netlink, now.ifindex, 0, 0, IFLA_IFALIAS, change->alias, strlen(change->alias)) < 0)
    return fail(failure, "RTM_SETLINK", "%s alias%s", name, where);
  if (change->set_up && set_link(netlink, now.ifindex, change->up ? IFF_UP : 0, IFF_UP, 0, NULL, 0) < 0)
    return fail(failure, "RTM_SETLINK", "%s %s%s", name, change->up ? "up" : "down", where);
  return 0;
}

int link_apply(const char *name, const struct link_change *change, const char *where,
               struct failure *failure) {
  int netlink = netlink_open(name, where, failure);
  if (netlink < 0) return -1;
  int result = apply(netlink, name, change, where, failure);
  close(netlink);
  return result;
}

napi_value link_set(napi_env env, napi_callback_info info) {
  napi_value options;
  char name[NAME_SIZE], netns[NETNS_SIZE], buffer[NETNS_SIZE + 32];
  bool given;
  struct link_change change;
  if (!get_args(env, info, "linkSet", 1, &options) || !get_object(env, options, "linkSet") ||
      !option_name(env, options, name) ||
      !option_string(env, options, "netns", netns, sizeof netns, &given) ||
      !option_link_change(env, options, &change))
    return NULL;
  struct failure failure;
  struct netns moved;
  if (netns_enter(netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int result = link_apply(name, &change, netns_suffix(netns, buffer, sizeof buffer), &failure);
  netns_leave(&moved);
  return result < 0 ? throw_failure(env, &failure) : NULL;
}
