/*
 * One of several raw sockets for each packet. A raw packet goes to every socket of its protocol; with these
 * filters (classic BPF, as SO_ATTACH_FILTER takes it) each of `count` sockets keeps those whose flow hashes
 * to its index, so that the flow stays on one worker and in order. The flow: the inner addresses, and the
 * ports of TCP and UDP unless the inner packet is a fragment, whose ports not every part has. What has no
 * flow, such as a packet cut short, is index 0's, to be counted there. The outer packet is whole: the kernel
 * reassembles before raw sockets see it.
 */
#include "tortie.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { MAX_SOCKETS = 64, MAX_CODE = 128, MAX_JUMPS = 16 };
/* Scratch memory of the program. */
enum { HASH, BASE };

struct program {
  struct sock_filter code[MAX_CODE];
  unsigned short length;
  unsigned short to_end[MAX_JUMPS];
  int jumps;
};

static unsigned short emit(struct program *program, int code, uint32_t k) {
  program->code[program->length] = (struct sock_filter)BPF_STMT((uint16_t)code, k);
  return program->length++;
}

/* Make the jump at `from` lead to the instruction that comes next. */
static void land(struct program *program, unsigned short from) {
  program->code[from].k = (uint32_t)(program->length - from - 1);
}

/* Run on if the accumulator compares so, else jump to the end. */
static void end_unless(struct program *program, int operation, uint32_t k) {
  unsigned short test = emit(program, BPF_JMP | operation, k);
  program->code[test].jt = 1;
  program->to_end[program->jumps++] = emit(program, BPF_JMP | BPF_JA, 0);
}

/* Jump if the accumulator is k; returns the jump, to be landed. */
static unsigned short jump_if(struct program *program, uint32_t k) {
  unsigned short test = emit(program, BPF_JMP | BPF_JEQ | BPF_K, k);
  program->code[test].jf = 1;
  return emit(program, BPF_JMP | BPF_JA, 0);
}

/* HASH = (HASH ^ the word at X + offset) * an odd constant. X is BASE before and after. */
static void hash_word(struct program *program, uint32_t offset) {
  emit(program, BPF_LD | BPF_W | BPF_IND, offset);
  emit(program, BPF_LDX | BPF_MEM, HASH);
  emit(program, BPF_ALU | BPF_XOR | BPF_X, 0);
  emit(program, BPF_ALU | BPF_MUL | BPF_K, 0x9e3779b1);
  emit(program, BPF_ST, HASH);
  emit(program, BPF_LDX | BPF_MEM, BASE);
}

/* To the end unless the packet has `bytes` behind BASE. BASE is not beyond the packet. */
static void end_unless_long(struct program *program, uint32_t bytes) {
  emit(program, BPF_LD | BPF_W | BPF_LEN, 0);
  emit(program, BPF_ALU | BPF_SUB | BPF_X, 0);
  end_unless(program, BPF_JGE | BPF_K, bytes);
}

/* To the end unless the protocol at X + offset is TCP or UDP. */
static void end_unless_ports(struct program *program, uint32_t offset) {
  emit(program, BPF_LD | BPF_B | BPF_IND, offset);
  unsigned short tcp = jump_if(program, IPPROTO_TCP);
  end_unless(program, BPF_JEQ | BPF_K, IPPROTO_UDP);
  land(program, tcp);
}

static void build(struct program *program, uint32_t index, uint32_t count) {
  emit(program, BPF_LDX | BPF_B | BPF_MSH, 0); /* X = outer header length */
  emit(program, BPF_STX, BASE);
  emit(program, BPF_LD | BPF_IMM, 0);
  emit(program, BPF_ST, HASH);
  end_unless_long(program, 20);
  emit(program, BPF_LD | BPF_B | BPF_IND, 0);
  emit(program, BPF_ALU | BPF_AND | BPF_K, 0xf0);
  unsigned short ipv6 = jump_if(program, 0x60);
  end_unless(program, BPF_JEQ | BPF_K, 0x40);

  hash_word(program, 12);
  hash_word(program, 16);
  emit(program, BPF_LD | BPF_H | BPF_IND, 6);
  emit(program, BPF_ALU | BPF_AND | BPF_K, 0x3fff); /* more fragments, offset */
  end_unless(program, BPF_JEQ | BPF_K, 0);
  end_unless_ports(program, 9);
  emit(program, BPF_LD | BPF_B | BPF_IND, 0);
  emit(program, BPF_ALU | BPF_AND | BPF_K, 15);
  emit(program, BPF_ALU | BPF_LSH | BPF_K, 2);
  unsigned short ports = emit(program, BPF_JMP | BPF_JA, 0);

  land(program, ipv6);
  end_unless_long(program, 40);
  for (uint32_t offset = 8; offset < 40; offset += 4)
    hash_word(program, offset);
  end_unless_ports(program, 6); /* behind an extension header, a fragment's included, none are looked for */
  emit(program, BPF_LD | BPF_IMM, 40);

  land(program, ports); /* A = inner header length */
  emit(program, BPF_ALU | BPF_ADD | BPF_X, 0);
  emit(program, BPF_ST, BASE);
  emit(program, BPF_ALU | BPF_ADD | BPF_K, 3);
  emit(program, BPF_LDX | BPF_W | BPF_LEN, 0);
  unsigned short missing = emit(program, BPF_JMP | BPF_JGE | BPF_X, 0);
  program->code[missing].jf = 1;
  program->to_end[program->jumps++] = emit(program, BPF_JMP | BPF_JA, 0);
  emit(program, BPF_LDX | BPF_MEM, BASE);
  hash_word(program, 0);

  for (int i = 0; i < program->jumps; i++)
    land(program, program->to_end[i]);
  /* Products carry upwards only: bring the high bits down before the remainder is taken. */
  for (uint32_t shift = 16; shift > 14; shift--) {
    emit(program, BPF_LD | BPF_MEM, HASH);
    emit(program, BPF_ALU | BPF_RSH | BPF_K, shift);
    emit(program, BPF_LDX | BPF_MEM, HASH);
    emit(program, BPF_ALU | BPF_XOR | BPF_X, 0);
    emit(program, BPF_ALU | BPF_MUL | BPF_K, 0x85ebca6b);
    emit(program, BPF_ST, HASH);
  }
  emit(program, BPF_ALU | BPF_RSH | BPF_K, 8);
  emit(program, BPF_ALU | BPF_MOD | BPF_K, count);
  unsigned short mine = jump_if(program, index);
  emit(program, BPF_RET | BPF_K, 0);
  land(program, mine);
  emit(program, BPF_RET | BPF_K, UINT32_MAX);
}

napi_value socket_spread(napi_env env, napi_callback_info info) {
  napi_value args[2];
  int fd;
  int64_t index, count;
  if (!get_args(env, info, "socketSpread", 2, args) || !get_fd(env, args[0], &fd) ||
      !get_object(env, args[1], "socketSpread") ||
      !option_int(env, args[1], "count", 1, MAX_SOCKETS, &count, NULL) ||
      !option_int(env, args[1], "index", 0, count - 1, &index, NULL))
    return NULL;
  struct program program = {0};
  build(&program, (uint32_t)index, (uint32_t)count);
  struct sock_fprog filter = {program.length, program.code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) == 0) return NULL;
  struct failure failure;
  fail(&failure, "setsockopt SO_ATTACH_FILTER", "descriptor %d", fd);
  return throw_failure(env, &failure);
}
