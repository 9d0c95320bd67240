/*
 * Unix sockets that carry descriptors (unix(7), SCM_RIGHTS): how open TAPs and sockets outlive the process
 * that opened them. Node's own sockets cannot. Listening and connected sockets are SOCK_SEQPACKET, where a
 * message and its descriptors stay together; sendFds and receiveFds serve streams as well.
 */
#include "tortie.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FDS = 253, BACKLOG = 16, PATH_SIZE = sizeof((struct sockaddr_un *)0)->sun_path };
/* A service manager that reads nothing must not hold us for ever. */
enum { NOTIFY_TIMEOUT_SECONDS = 2 };

struct address {
  struct sockaddr_un name;
  socklen_t length;
  char path[PATH_SIZE]; /* as it was given, for messages */
};

/* "/path", or "@name" in the abstract namespace. */
static bool get_address(napi_env env, napi_value value, struct address *address) {
  memset(address, 0, sizeof *address);
  if (!get_string(env, value, "path", address->path, sizeof address->path)) return false;
  if (address->path[0] != '/' && address->path[0] != '@') {
    throw_range(env, "path must begin with / or, in the abstract namespace, @");
    return false;
  }
  size_t length = strlen(address->path);
  address->name.sun_family = AF_UNIX;
  memcpy(address->name.sun_path, address->path, length);
  bool abstract = address->path[0] == '@';
  if (abstract) address->name.sun_path[0] = 0;
  address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
  return true;
}

static int seqpacket(const struct address *address, struct failure *failure) {
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  return fd < 0 ? fail(failure, "socket AF_UNIX", "%s", address->path) : fd;
}

/* What comes over it can take the node's network over: for our own user alone, from the first moment on. */
static int listen_at(int fd, const struct address *address, struct failure *failure) {
  if (fchmod(fd, S_IRUSR | S_IWUSR) < 0) return fail(failure, "fchmod", "%s", address->path);
  if (bind(fd, (const struct sockaddr *)&address->name, address->length) < 0)
    return fail(failure, "bind AF_UNIX", "%s", address->path);
  if (listen(fd, BACKLOG) < 0) return fail(failure, "listen", "%s", address->path);
  return 0;
}

static int connect_to(int fd, const struct address *address, struct failure *failure) {
  if (connect(fd, (const struct sockaddr *)&address->name, address->length) < 0)
    return fail(failure, "connect", "%s", address->path);
  return 0;
}

static napi_value open_unix(napi_env env, napi_callback_info info, const char *call,
                            int (*prepare)(int, const struct address *, struct failure *)) {
  napi_value args[1];
  struct address address;
  struct failure failure;
  if (!get_args(env, info, call, 1, args) || !get_address(env, args[0], &address)) return NULL;
  int fd = seqpacket(&address, &failure);
  if (fd < 0) return throw_failure(env, &failure);
  if (prepare(fd, &address, &failure) < 0) {
    close(fd);
    return throw_failure(env, &failure);
  }
  return env_adopt(env, fd) ? from_int(env, fd) : NULL;
}

napi_value unix_listen(napi_env env, napi_callback_info info) {
  return open_unix(env, info, "unixListen", listen_at);
}

napi_value unix_connect(napi_env env, napi_callback_info info) {
  return open_unix(env, info, "unixConnect", connect_to);
}

napi_value unix_accept(napi_env env, napi_callback_info info) {
  napi_value args[1], result;
  int listener;
  struct failure failure;
  struct ucred peer;
  socklen_t size = sizeof peer;
  if (!get_args(env, info, "unixAccept", 1, args) || !get_fd(env, args[0], &listener)) return NULL;
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) {
    if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return NULL;
    fail(&failure, "accept", "descriptor %d", listener);
    return throw_failure(env, &failure);
  }
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
    fail(&failure, "getsockopt SO_PEERCRED", "descriptor %d", fd);
    close(fd);
    return throw_failure(env, &failure);
  }
  if (!env_adopt(env, fd) || napi_create_object(env, &result) != napi_ok) return NULL;
  napi_set_named_property(env, result, "fd", from_int(env, fd));
  napi_set_named_property(env, result, "pid", from_int(env, peer.pid));
  napi_set_named_property(env, result, "uid", from_int(env, peer.uid));
  return result;
}

/* ---- messages ----------------------------------------------------------------------------------- */

union control {
  struct cmsghdr header; /* for its alignment */
  char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
};

static bool get_fds(napi_env env, napi_value value, struct cells *fds) {
  if (!get_cells(env, value, "fds", fds)) return false;
  if (fds->length <= MAX_FDS) return true;
  throw_range(env, "a message carries at most %d descriptors, not %zu", MAX_FDS, fds->length);
  return false;
}

/* Sets errno. A payload has a byte or more: streams carry no descriptors without. */
static ssize_t send_message(int fd, const struct address *to, const struct cells *fds, struct bytes payload) {
  union control control;
  struct iovec part = {payload.data, payload.length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (to) {
    message.msg_name = (void *)&to->name;
    message.msg_namelen = to->length;
  }
  if (fds->length > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds->length * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds->length * sizeof(int));
    memcpy(CMSG_DATA(header), fds->data, fds->length * sizeof(int));
  }
  return sendmsg(fd, &message, MSG_NOSIGNAL);
}

napi_value send_fds(napi_env env, napi_callback_info info) {
  napi_value args[3];
  int fd;
  struct cells fds;
  struct bytes payload;
  if (!get_args(env, info, "sendFds", 3, args) || !get_fd(env, args[0], &fd) ||
      !get_fds(env, args[1], &fds) || !get_bytes(env, args[2], "payload", &payload))
    return NULL;
  if (payload.length == 0) return throw_range(env, "payload must have a byte or more");
  ssize_t sent = send_message(fd, NULL, &fds, payload);
  if (sent >= 0) return from_int(env, sent);
  struct failure failure;
  fail(&failure, "sendmsg", "descriptor %d with %zu descriptors", fd, fds.length);
  return throw_failure(env, &failure);
}

napi_value notify_send(napi_env env, napi_callback_info info) {
  napi_value args[3];
  struct address address;
  struct bytes state;
  struct cells fds;
  struct failure failure;
  if (!get_args(env, info, "notifySend", 3, args) || !get_address(env, args[0], &address) ||
      !get_bytes(env, args[1], "state", &state) || !get_fds(env, args[2], &fds))
    return NULL;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    fail(&failure, "socket AF_UNIX", "%s", address.path);
    return throw_failure(env, &failure);
  }
  struct timeval timeout = {.tv_sec = NOTIFY_TIMEOUT_SECONDS};
  ssize_t sent = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (sent == 0) sent = send_message(fd, &address, &fds, state);
  if (sent < 0) fail(&failure, "sendmsg", "%s with %zu descriptors", address.path, fds.length);
  close(fd);
  return sent < 0 ? throw_failure(env, &failure) : NULL;
}

/* The descriptors of a message that came, into `fds` (room for MAX_FDS). */
static size_t take_fds(struct msghdr *message, int *fds) {
  size_t count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t more = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds + count, CMSG_DATA(header), more * sizeof(int));
    count += more;
  }
  return count;
}

static void close_all(const int *fds, size_t count) {
  for (size_t i = 0; i < count; i++)
    close(fds[i]);
}

napi_value receive_fds(napi_env env, napi_callback_info info) {
  napi_value args[2], result, list;
  int fd, fds[MAX_FDS];
  struct bytes buffer;
  struct failure failure;
  union control control;
  if (!get_args(env, info, "receiveFds", 2, args) || !get_fd(env, args[0], &fd) ||
      !get_bytes(env, args[1], "buffer", &buffer))
    return NULL;
  struct iovec part = {buffer.data, buffer.length};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control};
  ssize_t got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return NULL;
    fail(&failure, "recvmsg", "descriptor %d", fd);
    return throw_failure(env, &failure);
  }
  size_t count = take_fds(&message, fds);
  if (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
    /* Half a message is worse than none. The control buffer takes the most that can be sent: what did not fit
     * is our limit of open files. */
    close_all(fds, count);
    bool control_cut = message.msg_flags & MSG_CTRUNC;
    errno = control_cut ? EMFILE : EMSGSIZE;
    fail(&failure, "recvmsg", "descriptor %d, %s cut short", fd, control_cut ? "descriptors" : "payload");
    return throw_failure(env, &failure);
  }
  for (size_t i = 0; i < count; i++) {
    if (env_adopt(env, fds[i])) continue;
    close_all(fds + i + 1, count - i - 1);
    return NULL;
  }
  if (napi_create_object(env, &result) != napi_ok ||
      napi_create_array_with_length(env, count, &list) != napi_ok)
    return NULL;
  for (size_t i = 0; i < count; i++)
    napi_set_element(env, list, (uint32_t)i, from_int(env, fds[i]));
  napi_set_named_property(env, result, "fds", list);
  napi_set_named_property(env, result, "bytes", from_int(env, got));
  return result;
}

/* A descriptor that came by exec: ours from now on, and no child's. */
napi_value adopt_fd(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int fd;
  struct failure failure;
  if (!get_args(env, info, "adopt", 1, args) || !get_fd(env, args[0], &fd)) return NULL;
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
    fail(&failure, "fcntl F_SETFD", "descriptor %d", fd);
    return throw_failure(env, &failure);
  }
  env_adopt(env, fd);
  return NULL;
}
