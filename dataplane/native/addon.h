/*
 * What the addon's files share: arguments, errors and the descriptors of an environment.
 *
 * Raw Node-API, version 8: one binary serves Node 20 and later. Every environment (the main thread and each
 * worker) has its own instance data; descriptors that it opened and did not close are closed when it goes.
 */
#pragma once
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Cells of a row, as in memory/burst.ts. */
enum {
  ROW = 8,
  OFFSET = 0,
  LENGTH = 1,
  PORT = 2,
  ADDRESS = 3,
  UDP_PORT = 4,
  TOS = 5,
  STATUS = 6,
  SEGMENT = 7
};

enum { MAX_BURST = 64, MAX_FRAME = 65536 + 64 };

/* --- args.c ------------------------------------------------------------------------------------------- */

/* A typed array's memory. */
struct bytes {
  uint8_t *data;
  size_t length;
};
struct ints {
  int32_t *data;
  size_t length;
};

/* Reads the arguments of a call. On failure an exception is pending and the result is false. */
bool args_get(napi_env env, napi_callback_info info, size_t count, napi_value *args);
bool arg_int(napi_env env, napi_value value, const char *name, int32_t *out);
bool arg_uint(napi_env env, napi_value value, const char *name, uint32_t *out);
bool arg_bytes(napi_env env, napi_value value, const char *name, struct bytes *out);
bool arg_ints(napi_env env, napi_value value, const char *name, struct ints *out);
/* Properties of an options object; false only with an exception pending. Absent: *out is left alone. */
bool prop_int(napi_env env, napi_value object, const char *name, int32_t *out);
bool prop_bool(napi_env env, napi_value object, const char *name, bool *out);
/* At most size - 1 bytes; longer is a RangeError. */
bool prop_string(napi_env env, napi_value object, const char *name, char *out, size_t size);
/* A Uint8Array of exactly `length` bytes; *found tells whether it was there. */
bool prop_bytes(napi_env env, napi_value object, const char *name, uint8_t *out, size_t length, bool *found);

napi_value make_int(napi_env env, int64_t value);
void set_prop(napi_env env, napi_value object, const char *name, napi_value value);

/* --- addon.c ------------------------------------------------------------------------------------------ */

/*
 * Throw an Error whose message reads "CALL SUBJECT: ERRNO, advice" with code, errno and syscall set. Returns
 * NULL, so that callers can `return throw_errno(...)`.
 */
napi_value throw_errno(napi_env env, int error, const char *call, const char *subject, const char *advice);
napi_value throw_range(napi_env env, const char *message);

/* Remember a descriptor as this environment's, to be closed with it; false if memory ran out. */
bool own_fd(napi_env env, int fd);
/* Forget it again: true if it was this environment's. */
bool disown_fd(napi_env env, int fd);

/* --- tap.c -------------------------------------------------------------------------------------------- */

enum { NETNS_PATH = 256 };

/* The calling thread's way into another network namespace and back. */
struct netns {
  int home;
  char path[NETNS_PATH];
};
/*
 * Enter the namespace named in options.netns, if any. False with an exception pending. netns_leave must
 * follow success; it aborts the process if the way back is barred, since every later call would act in the
 * wrong namespace.
 */
bool netns_enter(napi_env env, napi_value options, struct netns *ns);
void netns_leave(struct netns *ns);
/* " in PATH", or nothing in the own namespace, for error messages. */
const char *netns_suffix(const struct netns *ns, char *out, size_t size);

/* --- what the files export ---------------------------------------------------------------------------- */

napi_value tap_open(napi_env env, napi_callback_info info);
napi_value tap_release(napi_env env, napi_callback_info info);
napi_value link_set(napi_env env, napi_callback_info info);
napi_value udp_open(napi_env env, napi_callback_info info);
napi_value raw_open(napi_env env, napi_callback_info info);
napi_value tap_read(napi_env env, napi_callback_info info);
napi_value tap_write(napi_env env, napi_callback_info info);
napi_value udp_receive(napi_env env, napi_callback_info info);
napi_value udp_send(napi_env env, napi_callback_info info);
napi_value raw_receive(napi_env env, napi_callback_info info);
napi_value raw_send(napi_env env, napi_callback_info info);
napi_value checksum(napi_env env, napi_callback_info info);
napi_value epoll_make(napi_env env, napi_callback_info info);
napi_value epoll_add(napi_env env, napi_callback_info info);
napi_value epoll_delete(napi_env env, napi_callback_info info);
napi_value epoll_await(napi_env env, napi_callback_info info);
napi_value eventfd_make(napi_env env, napi_callback_info info);
napi_value eventfd_signal(napi_env env, napi_callback_info info);
napi_value eventfd_drain(napi_env env, napi_callback_info info);
