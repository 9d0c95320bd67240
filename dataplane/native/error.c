/*
 * Errors for people: "TUNSETIFF eth0 in /run/netns/pod1: EBUSY, another process holds it: ...". The Error
 * has `code` (errno's name), `errno` (positive) and `syscall` as well.
 */
#include "tortie.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int fail(struct failure *failure, const char *call, const char *format, ...) {
  failure->error = errno;
  failure->call = call;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(failure->subject, sizeof failure->subject, format, arguments);
  va_end(arguments);
  return -1;
}

/* What to do about it. An entry without a call serves for every call; the first that matches wins. */
static const struct {
  const char *call;
  int error;
  const char *advice;
} table[] = {
    {"open /dev/net/tun", EACCES, "run as root, or allow it: chmod 666 /dev/net/tun"},
    {"open /dev/net/tun", EPERM, "the container's device policy forbids it: allow character device 10:200"},
    {"open /dev/net/tun", ENOENT, "load the driver: modprobe tun"},
    {"open /dev/net/tun", ENODEV, "load the driver: modprobe tun"},
    {"open", ENOENT, "no such namespace: see ip netns list"},
    {"open", EACCES, "the namespace belongs to another user: run as root, or pass a namespace of your own"},
    {"setns", EINVAL, "that file is no network namespace"},
    {"setns", EPERM, "entering a namespace needs CAP_SYS_ADMIN: run as root"},
    {"TUNSETIFF", EBUSY, "another process holds the device: stop it, or let it close the device first"},
    {"TUNSETIFF", EINVAL,
     "a device of that name exists and is no TAP, or has another kind of queue: remove it with ip link "
     "delete"},
    {"TUNSETIFF", EPERM, "making a TAP needs CAP_NET_ADMIN in that namespace: run as root"},
    {"TUNSETIFF", E2BIG, "the device has as many queues as it can: ask for fewer"},
    {"TUNSETPERSIST", EBADFD, "the descriptor has no device: it was removed"},
    {"TUNSETPERSIST", ENOTTY, "the descriptor is not a TAP's"},
    {"TUNSETPERSIST", EINVAL, "the descriptor is not a TAP's"},
    {"RTM_SETLINK", EPERM, "changing a device needs CAP_NET_ADMIN in that namespace: run as root"},
    {"RTM_SETLINK", EINVAL, "the device does not take that value: see ip -details link show"},
    {"RTM_SETLINK", ERANGE, "the device does not take that value: see ip -details link show"},
    {"RTM_SETLINK", EADDRNOTAVAIL, "the MAC must be unicast and not zero"},
    {"bpf BPF_PROG_LOAD", EPERM, "loading a BPF program needs CAP_BPF and CAP_NET_ADMIN: run as root"},
    {"bpf BPF_PROG_LOAD", ENOSYS, "the kernel has no BPF (CONFIG_BPF_SYSCALL)"},
    {"bpf BPF_PROG_LOAD", EINVAL, "the kernel does not know what the program asks for (Linux >= 5.6 does)"},
    {"RTM_NEWQDISC", EPERM, "needs CAP_NET_ADMIN in that namespace: run as root"},
    {"RTM_NEWQDISC", ENOENT, "the kernel has no clsact (CONFIG_NET_SCH_INGRESS): modprobe sch_ingress"},
    {"RTM_NEWTFILTER", ENOENT, "the kernel has no BPF classifier (CONFIG_NET_CLS_BPF): modprobe cls_bpf"},
    {"RTM_NEWTFILTER", EEXIST, "another filter has our priority: see tc filter show dev NAME ingress"},
    {"socket", EPERM, "a raw socket needs CAP_NET_RAW: run as root"},
    {"bind", EADDRINUSE, "another process has it: see ss -lunp"},
    {"bind", EADDRNOTAVAIL, "no interface there has that address: see ip address"},
    {"bind", EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE: run as root"},
    {"bind TCP", EADDRINUSE, "another process has it: see ss -ltnp"},
    {"bind TCP", EADDRNOTAVAIL, "no interface here has that address: see ip address"},
    {"bind TCP", EACCES, "ports below 1024 need CAP_NET_BIND_SERVICE: run as root"},
    {"setsockopt TCP_MD5SIG", ENOPROTOOPT, "the kernel has no TCP MD5 signatures (CONFIG_TCP_MD5SIG)"},
    {"setsockopt TCP_MD5SIG", ENOMEM, "too many keys for one socket: raise net.core.optmem_max"},
    {"setsockopt SO_ATTACH_FILTER", ENOMEM,
     "the filter is too long for one socket: raise net.core.optmem_max"},
    {"release", EBADF, "it is not open, or was opened by another thread"},
    {"bind AF_UNIX", EADDRINUSE, "a socket is there already: remove it if nobody listens"},
    {"connect", ENOENT, "nobody listens there"},
    {"connect", ECONNREFUSED, "nobody listens there"},
    {"sendmsg", ECONNREFUSED, "nobody listens there"},
    {"sendmsg", ENOENT, "nobody listens there"},
    {"sendmsg", EPIPE, "the other end is closed"},
    {"sendmsg", ETOOMANYREFS, "too many descriptors are on their way: raise the limit (ulimit -n)"},
    {"close", EBADF, "it is not open, or was opened by another thread: close it there"},
    {"epoll_ctl", EEXIST, "it is watched already"},
    {"epoll_ctl", ENOENT, "it is not watched"},
    {"epoll_ctl", EPERM, "that kind of file cannot be watched"},
    {NULL, ENOTSOCK, "the descriptor is not a socket's"},
    {NULL, ENODEV, "no such device: see ip link"},
    {NULL, EBADF, "the descriptor is not open"},
    {NULL, EBADFD, "the device is gone: it was removed"},
    {NULL, EMFILE, "too many open files: raise the limit (ulimit -n)"},
    {NULL, ENFILE, "too many open files in the system: raise fs.file-max"},
};

static const char *advice(const char *call, int error) {
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (table[i].error == error && (!table[i].call || !strcmp(table[i].call, call))) return table[i].advice;
  return strerror(error);
}

napi_value throw_failure(napi_env env, const struct failure *failure) {
  const char *code = strerrorname_np(failure->error);
  if (!code) code = "UNKNOWN";
  char text[640];
  snprintf(text, sizeof text, "%s %s: %s, %s", failure->call, failure->subject, code,
           advice(failure->call, failure->error));
  napi_value code_value, message, error, number, call;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &code_value) == napi_ok &&
      napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message) == napi_ok &&
      napi_create_error(env, code_value, message, &error) == napi_ok &&
      napi_create_int32(env, failure->error, &number) == napi_ok &&
      napi_create_string_utf8(env, failure->call, NAPI_AUTO_LENGTH, &call) == napi_ok &&
      napi_set_named_property(env, error, "errno", number) == napi_ok &&
      napi_set_named_property(env, error, "syscall", call) == napi_ok)
    napi_throw(env, error);
  return NULL;
}

napi_value throw_range(napi_env env, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  napi_throw_range_error(env, NULL, text);
  return NULL;
}

napi_value throw_type(napi_env env, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  napi_throw_type_error(env, NULL, text);
  return NULL;
}
