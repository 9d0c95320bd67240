/* A descriptor that wakes the event loop of its thread: sockets that Node itself cannot have (unix.c), served
 * beside its own. */
#include "tortie.h"

#include <stdlib.h>
#include <uv.h>

struct watch {
  uv_poll_t poll;
  napi_env env;
  napi_ref callback;
  napi_async_context context;
  napi_async_cleanup_hook_handle cleanup;
};

static void on_ready(uv_poll_t *poll, int status, int events) {
  (void)status; /* The reader finds out. */
  (void)events;
  struct watch *watch = poll->data;
  napi_env env = watch->env;
  napi_handle_scope scope;
  napi_value callback, receiver, error;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  if (napi_get_reference_value(env, watch->callback, &callback) == napi_ok &&
      napi_get_global(env, &receiver) == napi_ok &&
      napi_make_callback(env, watch->context, receiver, callback, 0, NULL, NULL) == napi_pending_exception &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok)
    napi_fatal_exception(env, error);
  napi_close_handle_scope(env, scope);
}

static void on_closed(uv_handle_t *handle) {
  struct watch *watch = handle->data;
  napi_remove_async_cleanup_hook(watch->cleanup);
  free(watch);
}

/* libuv lets go of the memory later, on the loop: until then the environment waits. */
static void stop(struct watch *watch) {
  uv_poll_stop(&watch->poll);
  napi_delete_reference(watch->env, watch->callback);
  napi_async_destroy(watch->env, watch->context);
  watch->callback = NULL;
  uv_close((uv_handle_t *)&watch->poll, on_closed);
}

static void on_env_end(napi_async_cleanup_hook_handle handle, void *data) {
  (void)handle;
  struct watch *watch = data;
  if (watch->callback) stop(watch);
}

static napi_value no_watch(napi_env env, struct watch *watch, int fd) {
  if (watch->context) napi_async_destroy(env, watch->context);
  if (watch->callback) napi_delete_reference(env, watch->callback);
  free(watch);
  return throw_range(env, "descriptor %d cannot be watched", fd);
}

napi_value fd_watch(napi_env env, napi_callback_info info) {
  napi_value args[2], name, result;
  napi_valuetype type;
  uv_loop_t *loop;
  int fd;
  if (!get_args(env, info, "fdWatch", 2, args) || !get_fd(env, args[0], &fd)) return NULL;
  if (napi_typeof(env, args[1], &type) != napi_ok || type != napi_function)
    return throw_type(env, "onReady must be a function");
  struct watch *watch = calloc(1, sizeof *watch);
  if (!watch) return throw_range(env, "out of memory for a watch");
  watch->env = env;
  if (napi_create_string_utf8(env, "tortie.fdWatch", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, NULL, name, &watch->context) != napi_ok ||
      napi_create_reference(env, args[1], 1, &watch->callback) != napi_ok ||
      napi_get_uv_event_loop(env, &loop) != napi_ok || uv_poll_init(loop, &watch->poll, fd) != 0)
    return no_watch(env, watch, fd);
  /* From here on the memory is the loop's. */
  watch->poll.data = watch;
  if (napi_add_async_cleanup_hook(env, on_env_end, watch, &watch->cleanup) != napi_ok ||
      napi_create_external(env, watch, NULL, NULL, &result) != napi_ok ||
      uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, on_ready) != 0) {
    stop(watch);
    return throw_range(env, "descriptor %d cannot be watched", fd);
  }
  return result;
}

napi_value fd_unwatch(napi_env env, napi_callback_info info) {
  napi_value args[1];
  void *data;
  if (!get_args(env, info, "fdUnwatch", 1, args)) return NULL;
  if (napi_get_value_external(env, args[0], &data) != napi_ok)
    return throw_type(env, "watch must be what fdWatch gave");
  stop(data);
  return NULL;
}
