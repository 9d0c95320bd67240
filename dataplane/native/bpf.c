/*
 * The mark of IPIP super-frames. virtio's header cannot say "TCP in IPIP": a super-frame of IPIP written to a
 * TAP has a GSO type of TCPv4 alone, and would be cut at the wrong header. A tc-BPF program at the TAP's
 * ingress adds the type: it takes the outer header away and puts the same bytes back as an encapsulation
 * (bpf-helpers(7), bpf_skb_adjust_room), upon which the kernel notes SKB_GSO_IPXIP4, so that it, or a NIC,
 * cuts the frame right. Nothing else of the frame changes, and other frames pass untouched.
 *
 * The program is assembled here, loaded by bpf(2), and attached over rtnetlink by cls_bpf at a clsact qdisc,
 * which every kernel with BPF has (tcx came with 6.6): no compiler, libbpf or tc is needed. It goes with the
 * device.
 */
#include "tortie.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Purge knows program and filter by it. */
#define MARK_NAME "tortie_ipip"
/* Its place among the filters of a device: above those that tc hands out of itself (0xc000 and below). */
enum { MARK_PRIORITY = 0xc0de, MARK_HANDLE = 1 };

/* Instructions by the names of the kernel's own macros (include/linux/filter.h, RFC 9669). */
#define LOAD(size, dst, src, at)                                                                             \
  { .code = BPF_LDX | BPF_MEM | size, .dst_reg = dst, .src_reg = src, .off = at }
#define MOVE_REG(dst, src)                                                                                   \
  { .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = dst, .src_reg = src }
#define MOVE(dst, value)                                                                                     \
  { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = dst, .imm = value }
#define ADD(dst, value)                                                                                      \
  { .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = dst, .imm = value }
/* Jumps skip `count` instructions. */
#define SKIP_IF(operation, dst, value, count)                                                                \
  { .code = BPF_JMP | operation | BPF_K, .dst_reg = dst, .imm = value, .off = count }
#define CALL(helper)                                                                                         \
  { .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_##helper }
#define RETURN(value)                                                                                        \
  MOVE(BPF_REG_0, value), {                                                                                  \
    .code = BPF_JMP | BPF_EXIT                                                                               \
  }
#define RETURN_UNLESS(operation, dst, wanted, value) SKIP_IF(operation, dst, wanted, 2), RETURN(value)

enum {
  OUTER = ETH_HLEN, /* where the outer header is in the frame */
  OUTER_LENGTH = 20,
  SAVED = -24, /* where it is kept on the program's stack */
  VERSION_AND_LENGTH = 0x45,
  ROOM = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET,
};
#define CONTEXT BPF_REG_6
/* (context, OUTER, SAVED, OUTER_LENGTH) */
#define OUTER_ARGUMENTS                                                                                      \
  MOVE_REG(BPF_REG_1, CONTEXT), MOVE(BPF_REG_2, OUTER), MOVE_REG(BPF_REG_3, BPF_REG_10),                     \
      ADD(BPF_REG_3, SAVED), MOVE(BPF_REG_4, OUTER_LENGTH)
#define ADJUST_ROOM(bytes, flags)                                                                            \
  MOVE_REG(BPF_REG_1, CONTEXT), MOVE(BPF_REG_2, bytes), MOVE(BPF_REG_3, BPF_ADJ_ROOM_MAC),                   \
      MOVE(BPF_REG_4, flags), CALL(skb_adjust_room)

static int load_mark(struct failure *failure) {
  const struct bpf_insn program[] = {
      MOVE_REG(CONTEXT, BPF_REG_1),
      /* An IPv4 super-frame without options whose payload is IPv4? TC_ACT_UNSPEC: the next filter's turn. */
      LOAD(BPF_W, BPF_REG_0, CONTEXT, offsetof(struct __sk_buff, gso_size)),
      RETURN_UNLESS(BPF_JNE, BPF_REG_0, 0, TC_ACT_UNSPEC),
      LOAD(BPF_W, BPF_REG_0, CONTEXT, offsetof(struct __sk_buff, protocol)),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, htons(ETH_P_IP), TC_ACT_UNSPEC),
      OUTER_ARGUMENTS,
      CALL(skb_load_bytes),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, 0, TC_ACT_UNSPEC),
      LOAD(BPF_B, BPF_REG_0, BPF_REG_10, SAVED),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, VERSION_AND_LENGTH, TC_ACT_UNSPEC),
      LOAD(BPF_B, BPF_REG_0, BPF_REG_10, SAVED + 9),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, IPPROTO_IPIP, TC_ACT_UNSPEC),
      /* Unmarked it would be cut wrong: rather none. */
      ADJUST_ROOM(-OUTER_LENGTH, ROOM),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, 0, TC_ACT_SHOT),
      ADJUST_ROOM(OUTER_LENGTH, ROOM | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, 0, TC_ACT_SHOT),
      OUTER_ARGUMENTS,
      MOVE(BPF_REG_5, 0),
      CALL(skb_store_bytes),
      RETURN_UNLESS(BPF_JEQ, BPF_REG_0, 0, TC_ACT_SHOT),
      RETURN(TC_ACT_UNSPEC),
  };
  union bpf_attr load;
  memset(&load, 0, sizeof load); /* the kernel wants zeroes in members that it does not know */
  load.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  load.insns = (uintptr_t)program;
  load.insn_cnt = sizeof program / sizeof *program;
  load.license = (uintptr_t) "Apache-2.0"; /* none of the helpers is for GPL programs alone */
  memcpy(load.prog_name, MARK_NAME, sizeof MARK_NAME);
  int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load); /* close-on-exec of itself */
  return fd < 0 ? fail(failure, "bpf BPF_PROG_LOAD", MARK_NAME) : fd;
}

/* A message about the device's clsact qdisc, or about our filter at its ingress. */
static struct netlink_message traffic_control(uint16_t type, uint16_t flags, int ifindex) {
  bool qdisc = type == RTM_NEWQDISC;
  struct netlink_message message = {
      .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)),
                 .nlmsg_type = type,
                 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags)},
  };
  *(struct tcmsg *)NLMSG_DATA(&message.header) = (struct tcmsg){
      .tcm_family = AF_UNSPEC,
      .tcm_ifindex = ifindex,
      .tcm_parent = qdisc ? TC_H_CLSACT : TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
      .tcm_handle = qdisc ? TC_H_MAKE(TC_H_CLSACT, 0) : MARK_HANDLE,
      .tcm_info = qdisc ? 0 : TC_H_MAKE((uint32_t)MARK_PRIORITY << 16, htons(ETH_P_ALL)),
  };
  const char *kind = qdisc ? "clsact" : "bpf";
  netlink_put(&message, TCA_KIND, kind, strlen(kind) + 1);
  return message;
}

static const struct rtattr *find_attribute(const struct rtattr *attribute, size_t length, uint16_t type) {
  for (int left = (int)length; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
    if ((attribute->rta_type & NLA_TYPE_MASK) == type) return attribute;
  return NULL;
}

/* Who is at our place: 1 our filter, 0 none, -1 another's or a failure (errno). */
static int occupant(int netlink, int ifindex) {
  struct netlink_message request = traffic_control(RTM_GETTFILTER, 0, ifindex), reply;
  /* EINVAL: no clsact yet. */
  if (netlink_request(netlink, &request, &reply) < 0) return errno == ENOENT || errno == EINVAL ? 0 : -1;
  const struct tcmsg *filter = NLMSG_DATA(&reply.header);
  const struct rtattr *options =
      find_attribute(TCA_RTA(filter), NLMSG_PAYLOAD(&reply.header, sizeof *filter), TCA_OPTIONS);
  const struct rtattr *name =
      options ? find_attribute(RTA_DATA(options), RTA_PAYLOAD(options), TCA_BPF_NAME) : NULL;
  if (name && RTA_PAYLOAD(name) == sizeof MARK_NAME && !memcmp(RTA_DATA(name), MARK_NAME, sizeof MARK_NAME))
    return 1;
  errno = EEXIST;
  return -1;
}

static int attach(int netlink, int ifindex, int program, const char *name, const char *where,
                  struct failure *failure) {
  struct netlink_message reply;
  struct netlink_message qdisc =
      traffic_control(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, ifindex);
  if (netlink_request(netlink, &qdisc, &reply) < 0 && errno != EEXIST)
    return fail(failure, "RTM_NEWQDISC", "clsact on %s%s", name, where);
  if (occupant(netlink, ifindex) < 0)
    return fail(failure, "RTM_NEWTFILTER", MARK_NAME " on %s%s", name, where);
  struct netlink_message filter = traffic_control(RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE, ifindex);
  struct {
    struct rtattr fd_header;
    uint32_t fd;
    struct rtattr name_header;
    char name[RTA_ALIGN(sizeof MARK_NAME)];
    struct rtattr flags_header;
    uint32_t flags;
  } options = {
      .fd_header = {RTA_LENGTH(sizeof(uint32_t)), TCA_BPF_FD},
      .fd = (uint32_t)program,
      .name_header = {RTA_LENGTH(sizeof MARK_NAME), TCA_BPF_NAME},
      .name = MARK_NAME,
      .flags_header = {RTA_LENGTH(sizeof(uint32_t)), TCA_BPF_FLAGS},
      .flags = TCA_BPF_FLAG_ACT_DIRECT,
  };
  netlink_put(&filter, TCA_OPTIONS, &options, sizeof options);
  if (netlink_request(netlink, &filter, &reply) < 0)
    return fail(failure, "RTM_NEWTFILTER", MARK_NAME " on %s%s", name, where);
  return 0;
}

static int detach(int netlink, int ifindex, const char *name, const char *where, struct failure *failure) {
  int ours = occupant(netlink, ifindex);
  if (ours == 0 || (ours < 0 && errno == EEXIST)) return 0;
  struct netlink_message filter = traffic_control(RTM_DELTFILTER, NLM_F_ACK, ifindex), reply;
  if (ours < 0 || netlink_request(netlink, &filter, &reply) < 0)
    return fail(failure, "RTM_DELTFILTER", MARK_NAME " on %s%s", name, where);
  return 0;
}

/* Attach the program, or with program < 0 detach it, in the thread's present namespace. */
static int change_mark(const char *name, int program, const char *where, struct failure *failure) {
  struct link_state link;
  if (link_read(name, &link, where, failure) < 0) return -1;
  int netlink = netlink_open(name, where, failure);
  if (netlink < 0) return -1;
  int result = program < 0 ? detach(netlink, link.ifindex, name, where, failure)
                           : attach(netlink, link.ifindex, program, name, where, failure);
  close(netlink);
  return result;
}

static napi_value mark(napi_env env, napi_callback_info info, const char *call, bool wanted) {
  napi_value options;
  char name[NAME_SIZE], netns[NETNS_SIZE], buffer[NETNS_SIZE + 32];
  bool given;
  if (!get_args(env, info, call, 1, &options) || !get_object(env, options, call) ||
      !option_name(env, options, name) || !option_string(env, options, "netns", netns, sizeof netns, &given))
    return NULL;
  struct failure failure;
  struct netns moved;
  int program = -1;
  if (wanted && (program = load_mark(&failure)) < 0) return throw_failure(env, &failure);
  int result = netns_enter(netns, &moved, &failure);
  if (result == 0) {
    result = change_mark(name, program, netns_suffix(netns, buffer, sizeof buffer), &failure);
    netns_leave(&moved);
  }
  if (program >= 0) close(program); /* the filter holds it */
  return result < 0 ? throw_failure(env, &failure) : NULL;
}

napi_value ipip_mark_attach(napi_env env, napi_callback_info info) {
  return mark(env, info, "ipipMarkAttach", true);
}

napi_value ipip_mark_detach(napi_env env, napi_callback_info info) {
  return mark(env, info, "ipipMarkDetach", false);
}

napi_value ipip_mark_supported(napi_env env, napi_callback_info info) {
  (void)info;
  struct failure failure;
  napi_value result = NULL;
  int program = load_mark(&failure);
  if (program >= 0) close(program);
  napi_get_boolean(env, program >= 0, &result);
  return result;
}
