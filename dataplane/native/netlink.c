/* rtnetlink(7): one request, one answer. */
#include "tortie.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

int netlink_open(const char *name, const char *where, struct failure *failure) {
  int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  return netlink < 0 ? fail(failure, "socket NETLINK_ROUTE", "for %s%s", name, where) : netlink;
}

void netlink_put(struct netlink_message *message, uint16_t type, const void *data, size_t length) {
  struct rtattr *attribute = (struct rtattr *)(message->bytes + NLMSG_ALIGN(message->header.nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = (unsigned short)RTA_LENGTH(length);
  if (length > 0) memcpy(RTA_DATA(attribute), data, length);
  message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + (uint32_t)RTA_SPACE(length);
}

int netlink_request(int netlink, const struct netlink_message *request, struct netlink_message *reply) {
  if (send(netlink, request, request->header.nlmsg_len, 0) < 0) return -1;
  ssize_t got = recv(netlink, reply, sizeof *reply, 0);
  if (got < 0) return -1;
  if ((size_t)got < NLMSG_LENGTH(0) || reply->header.nlmsg_len > (size_t)got) {
    errno = EPROTO;
    return -1;
  }
  if (reply->header.nlmsg_type != NLMSG_ERROR) return 0;
  const struct nlmsgerr *answer = NLMSG_DATA(&reply->header);
  errno = -answer->error;
  return answer->error ? -1 : 0;
}
