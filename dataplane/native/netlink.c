/* rtnetlink(7): one request and one answer, a dump, or changes one behind another. */
#include "tortie.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* ---- dumps: all links, addresses or routes of a namespace, as the kernel tells them ------------- */

/* The kernel fills a message of a dump up to this. */
enum { DUMP_BUFFER = 32768 };

struct dump {
  char *bytes;
  size_t length, capacity;
};

static int dump_append(struct dump *dump, const char *bytes, size_t length) {
  if (dump->length + length > dump->capacity) {
    size_t capacity = 2 * dump->capacity + length;
    char *grown = realloc(dump->bytes, capacity);
    if (!grown) return -1;
    dump->bytes = grown;
    dump->capacity = capacity;
  }
  memcpy(dump->bytes + dump->length, bytes, length);
  dump->length += length;
  return 0;
}

/* 1 at the end of the dump, 0 while more is to come, -1 with errno. */
static int dump_receive(int netlink, struct dump *dump, char *buffer) {
  ssize_t got = recv(netlink, buffer, DUMP_BUFFER, 0);
  if (got < 0) return -1;
  int left = (int)got;
  for (const struct nlmsghdr *header = (const struct nlmsghdr *)buffer; NLMSG_OK(header, left);
       header = NLMSG_NEXT(header, left)) {
    /* What changed meanwhile may be told twice or not at all: whoever asks compares again later. */
    if (header->nlmsg_type == NLMSG_DONE) return 1;
    if (header->nlmsg_type == NLMSG_ERROR) {
      errno = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
      return -1;
    }
    if (dump_append(dump, (const char *)header, NLMSG_ALIGN(header->nlmsg_len)) < 0) return -1;
  }
  return 0;
}

/* Of routes, those of one routing protocol (0: of all): the kernel chooses if it can (Linux 4.20), else it
 * tells all. */
static int dump_all(int netlink, int type, int family, int protocol, struct dump *dump) {
  struct {
    struct nlmsghdr header;
    struct rtmsg body;
  } request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
                          .nlmsg_type = (uint16_t)type,
                          .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
               .body = {.rtm_family = (unsigned char)family}};
  int on = 1;
  if (protocol > 0 && setsockopt(netlink, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on) == 0) {
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg));
    request.body.rtm_protocol = (unsigned char)protocol;
  }
  char *buffer = malloc(DUMP_BUFFER);
  if (!buffer) return -1;
  int ended = send(netlink, &request, request.header.nlmsg_len, 0) < 0 ? -1 : 0;
  while (ended == 0)
    ended = dump_receive(netlink, dump, buffer);
  free(buffer);
  return ended < 0 ? -1 : 0;
}

napi_value netlink_dump(napi_env env, napi_callback_info info) {
  napi_value options, buffer, result;
  char netns[NETNS_SIZE], suffix[NETNS_SIZE + 32];
  bool given;
  int64_t type, family = AF_UNSPEC, protocol = 0;
  void *bytes;
  if (!get_args(env, info, "netlinkDump", 1, &options) || !get_object(env, options, "netlinkDump") ||
      !option_string(env, options, "netns", netns, sizeof netns, &given) ||
      !option_int(env, options, "type", RTM_BASE, RTM_MAX, &type, NULL) ||
      !option_int(env, options, "family", 0, AF_MAX, &family, &given) ||
      !option_int(env, options, "protocol", 0, UINT8_MAX, &protocol, &given))
    return NULL;
  struct failure failure;
  struct netns moved;
  struct dump dump = {0};
  const char *where = netns_suffix(netns, suffix, sizeof suffix);
  if (netns_enter(netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int netlink = netlink_open("a dump", where, &failure);
  netns_leave(&moved);
  if (netlink < 0) return throw_failure(env, &failure);
  int failed = dump_all(netlink, (int)type, (int)family, (int)protocol, &dump);
  if (failed < 0) fail(&failure, "netlink dump", "type %d%s", (int)type, where);
  close(netlink);
  if (failed == 0) {
    if (napi_create_arraybuffer(env, dump.length, &bytes, &buffer) == napi_ok &&
        napi_create_typedarray(env, napi_uint8_array, dump.length, buffer, 0, &result) == napi_ok) {
      if (dump.length > 0) memcpy(bytes, dump.bytes, dump.length);
    } else {
      result = NULL;
    }
  } else {
    result = throw_failure(env, &failure);
  }
  free(dump.bytes);
  return result;
}

/* ---- one question ----------------------------------------------------------------------------------- */

napi_value netlink_ask(napi_env env, napi_callback_info info) {
  napi_value args[2], buffer, result = NULL;
  char netns[NETNS_SIZE], suffix[NETNS_SIZE + 32];
  struct bytes given;
  struct netlink_message request, reply;
  struct failure failure;
  struct netns moved;
  void *bytes;
  if (!get_args(env, info, "netlinkAsk", 2, args) ||
      !get_string(env, args[0], "netns", netns, sizeof netns) || !get_bytes(env, args[1], "request", &given))
    return NULL;
  if (given.length < NLMSG_LENGTH(0) || given.length > sizeof request) {
    errno = EMSGSIZE;
    fail(&failure, "netlinkAsk", "a request of %zu bytes", given.length);
    return throw_failure(env, &failure);
  }
  memcpy(&request, given.data, given.length);
  request.header.nlmsg_len = (uint32_t)given.length;
  request.header.nlmsg_flags |= NLM_F_REQUEST;
  const char *where = netns_suffix(netns, suffix, sizeof suffix);
  if (netns_enter(netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int netlink = netlink_open("a question", where, &failure);
  netns_leave(&moved);
  if (netlink < 0) return throw_failure(env, &failure);
  int failed = netlink_request(netlink, &request, &reply);
  if (failed < 0) fail(&failure, "netlink", "type %d%s", request.header.nlmsg_type, where);
  close(netlink);
  if (failed < 0) return throw_failure(env, &failure);
  size_t length = reply.header.nlmsg_len;
  if (napi_create_arraybuffer(env, length, &bytes, &buffer) == napi_ok &&
      napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &result) == napi_ok)
    memcpy(bytes, &reply, length);
  return result;
}

/* ---- changes -------------------------------------------------------------------------------------- */

/* Messages that the kernel is told in one go: its errors have room in the socket. */
enum { CHANGE_MESSAGES = 64, CHANGE_BYTES = 16384 };

/* Errors of messages numbered from `first` to `last`, until the last is acknowledged. */
static int change_answers(int netlink, uint32_t first, uint32_t last, int32_t *errors) {
  char buffer[8192];
  for (;;) {
    ssize_t got = recv(netlink, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    int left = (int)got;
    for (const struct nlmsghdr *header = (const struct nlmsghdr *)buffer; NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != NLMSG_ERROR || header->nlmsg_seq < first || header->nlmsg_seq > last)
        continue;
      errors[header->nlmsg_seq] = -((const struct nlmsgerr *)NLMSG_DATA(header))->error;
      if (header->nlmsg_seq == last) return 0;
    }
  }
}

/*
 * The errno of each message of `requests`, 0 for success; one that fails does not stop the rest. Many go in
 * one send: only the last of them asks for an answer, and the kernel tells errors unasked.
 */
static int change_all(int netlink, struct bytes requests, int32_t *errors, size_t room) {
  char chunk[CHANGE_BYTES];
  size_t count = 0, used = 0;
  uint32_t first = 0;
  int left = (int)requests.length;
  memset(errors, 0, room * sizeof *errors);
  for (struct nlmsghdr *header = (struct nlmsghdr *)requests.data; NLMSG_OK(header, left);) {
    size_t length = NLMSG_ALIGN(header->nlmsg_len);
    if (count == room || length > sizeof chunk) break;
    struct nlmsghdr *copy = (struct nlmsghdr *)(chunk + used);
    memcpy(copy, header, header->nlmsg_len);
    copy->nlmsg_flags |= NLM_F_REQUEST;
    copy->nlmsg_seq = (uint32_t)count++;
    used += length;
    header = NLMSG_NEXT(header, left);
    bool isLast = !NLMSG_OK(header, left) || count == room;
    if (!isLast && count - first < CHANGE_MESSAGES && used + NLMSG_ALIGN(header->nlmsg_len) <= sizeof chunk)
      continue;
    copy->nlmsg_flags |= NLM_F_ACK;
    if (send(netlink, chunk, used, 0) < 0 || change_answers(netlink, first, (uint32_t)count - 1, errors) < 0)
      return -1;
    first = (uint32_t)count;
    used = 0;
  }
  if (left <= 0 && count == room) return 0;
  errno = EINVAL;
  return -1;
}

napi_value netlink_change(napi_env env, napi_callback_info info) {
  napi_value args[3];
  char netns[NETNS_SIZE], suffix[NETNS_SIZE + 32];
  struct bytes requests;
  struct cells errors;
  struct failure failure;
  struct netns moved;
  if (!get_args(env, info, "netlinkChange", 3, args) ||
      !get_string(env, args[0], "netns", netns, sizeof netns) ||
      !get_bytes(env, args[1], "requests", &requests) || !get_cells(env, args[2], "errors", &errors))
    return NULL;
  const char *where = netns_suffix(netns, suffix, sizeof suffix);
  if (netns_enter(netns, &moved, &failure) < 0) return throw_failure(env, &failure);
  int netlink = netlink_open("changes", where, &failure);
  netns_leave(&moved);
  if (netlink < 0) return throw_failure(env, &failure);
  int failed = change_all(netlink, requests, errors.data, errors.length);
  if (failed < 0) fail(&failure, "netlink change", "%zu requests%s", errors.length, where);
  close(netlink);
  return failed < 0 ? throw_failure(env, &failure) : NULL;
}
