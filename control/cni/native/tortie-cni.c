/*
 * The CNI plugin as container runtimes start it, `tortie-cni`, and under the name `tortie-ipam` the delegated
 * one: it takes what the runtime says (CNI_* and standard input), opens the pod's network namespace, hands
 * both to the agent over a Unix socket, and carries the agent's answer back. All sense is in the agent
 * (control/cni/). Messages: control/cni/wire.ts.
 *
 * The agent's socket is the configuration's "tortie_socket", or TORTIE_CNI_SOCKET, or that of the
 * configuration's "nodename", or the only one that is there. An agent that does not answer: CNI error 11,
 * after TORTIE_CNI_TIMEOUT seconds at most (default 60).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_INPUT = 4 << 20, MAX_ANSWER = 4 << 20, MAX_HEADER = 64 << 10, CHUNK = 32 << 10, TEXT_SIZE = 512 };
enum { DEFAULT_TIMEOUT = 60, MAX_TIMEOUT = 600 };
/* Error codes of the CNI specification. */
enum {
  INVALID_ENVIRONMENT = 4,
  IO_FAILURE = 5,
  DECODE = 6,
  INVALID_CONFIG = 7,
  TRY_AGAIN = 11,
  LIMITED = 51
};

extern char **environ;
static char *input;
static size_t input_length;
static char version[16] = "1.1.0";
/* Written out by the signal handler, which may not compose a text. */
static char late[TEXT_SIZE];

/* The string that a key of the configuration has, as far as one who reads no JSON can tell: its first `"key":
 * "..."`. */
static bool config_string(const char *key, char *value, size_t size) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "\"%s\"", key);
  for (const char *at = strstr(input, quoted); at; at = strstr(at + 1, quoted)) {
    const char *from = at + strlen(quoted);
    from += strspn(from, " \t\r\n");
    if (*from++ != ':') continue;
    from += strspn(from, " \t\r\n");
    if (*from++ != '"') continue;
    size_t length = 0;
    for (; *from && *from != '"' && length + 1 < size; length++) {
      if (*from == '\\') from++;
      value[length] = *from++;
    }
    value[length] = 0;
    if (*from == '"') return length > 0;
  }
  return false;
}

/* The error object of the specification, into `text`. */
static void describe(char *text, size_t size, int code, const char *message) {
  char quoted[TEXT_SIZE / 2];
  size_t length = 0;
  for (; *message && length + 2 < sizeof quoted; message++) {
    if (*message == '"' || *message == '\\') quoted[length++] = '\\';
    quoted[length++] = iscntrl((unsigned char)*message) ? ' ' : *message;
  }
  quoted[length] = 0;
  snprintf(text, size, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\"}\n", version, code, quoted);
}

static void put(const char *text, size_t length) {
  while (length > 0) {
    ssize_t wrote = write(STDOUT_FILENO, text, length);
    if (wrote < 0 && errno != EINTR) _exit(1);
    if (wrote > 0) text += wrote, length -= (size_t)wrote;
  }
}

__attribute__((noreturn, format(printf, 2, 3))) static void fail(int code, const char *format, ...) {
  char message[TEXT_SIZE / 2], text[TEXT_SIZE];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  describe(text, sizeof text, code, message);
  put(text, strlen(text));
  exit(1);
}

/* What an agent that is not there means: to STATUS, that pods have no network either. */
static int absent(void) {
  const char *command = getenv("CNI_COMMAND");
  return command && strcmp(command, "STATUS") == 0 ? LIMITED : TRY_AGAIN;
}

static void on_alarm(int signal) {
  (void)signal;
  put(late, strlen(late));
  _exit(1);
}

/* Not to hang, whoever is at fault: from now on this is what we end with when the time is over. */
static void set_deadline(int code, const char *reason) {
  const char *text = getenv("TORTIE_CNI_TIMEOUT");
  int seconds = text ? atoi(text) : DEFAULT_TIMEOUT;
  if (seconds < 1 || seconds > MAX_TIMEOUT) seconds = DEFAULT_TIMEOUT;
  char message[TEXT_SIZE / 2];
  snprintf(message, sizeof message, "%s for %d seconds", reason, seconds);
  alarm(0);
  describe(late, sizeof late, code, message);
  signal(SIGALRM, on_alarm);
  alarm((unsigned)seconds);
}

static void read_input(void) {
  input = malloc(MAX_INPUT + 1);
  if (!input) fail(IO_FAILURE, "out of memory");
  for (ssize_t got; (got = read(STDIN_FILENO, input + input_length, MAX_INPUT + 1 - input_length)) != 0;) {
    if (got < 0 && errno != EINTR) fail(IO_FAILURE, "cannot read standard input: %s", strerror(errno));
    if (got > 0) input_length += (size_t)got;
    if (input_length > MAX_INPUT) {
      input[0] = 0;
      fail(DECODE, "the configuration on standard input is larger than %d bytes", MAX_INPUT);
    }
  }
  input[input_length] = 0;
}

/* A version that was asked for is repeated, even one that we do not speak: an error must be read by who sent
 * it. */
static void learn_version(void) {
  char asked[sizeof version];
  if (config_string("cniVersion", asked, sizeof asked) && strspn(asked, "0123456789.") == strlen(asked))
    strcpy(version, asked);
}

static void find_socket(char *path, size_t size) {
  char node[TEXT_SIZE / 4];
  const char *given = getenv("TORTIE_CNI_SOCKET");
  if (config_string("tortie_socket", path, size)) return;
  if (given && *given) {
    snprintf(path, size, "%s", given);
    return;
  }
  if (config_string("nodename", node, sizeof node) && !strchr(node, '/')) {
    snprintf(path, size, "/run/tortie/%s/cni.sock", node);
    if (access(path, F_OK) == 0) return;
  }
  glob_t found;
  if (glob("/run/tortie/*/cni.sock", 0, NULL, &found) != 0)
    fail(absent(), "no agent of tortie has a socket /run/tortie/NODE/cni.sock; is it running?");
  if (found.gl_pathc > 1)
    fail(INVALID_CONFIG, "several agents of tortie run here; name the socket of one as \"tortie_socket\"");
  snprintf(path, size, "%s", found.gl_pathv[0]);
}

static int connect_agent(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char path[TEXT_SIZE / 2];
  find_socket(path, sizeof path);
  if (strlen(path) >= sizeof address.sun_path)
    fail(INVALID_CONFIG, "tortie_socket %.100s... is too long for a socket", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) fail(IO_FAILURE, "socket: %s", strerror(errno));
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
    fail(absent(), "the agent of tortie does not answer on %s: %s", path, strerror(errno));
  return fd;
}

static void send_message(int agent, const char *text, size_t length, int fd) {
  union {
    struct cmsghdr header; /* for its alignment */
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct iovec part = {(void *)text, length};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  if (sendmsg(agent, &message, MSG_NOSIGNAL) >= 0) return;
  /* It may have refused us, and told us why. */
  if (errno == EPIPE || errno == ECONNRESET) return;
  fail(errno == ENOBUFS || errno == ENOMEM ? TRY_AGAIN : IO_FAILURE, "the agent of tortie cannot be told: %s",
       strerror(errno));
}

/* NAME=VALUE, each with a NUL behind it. */
static void send_header(int agent, const char *program) {
  static char header[MAX_HEADER];
  size_t length = 0;
  const char *path = getenv("CNI_NETNS");
  int netns = path && *path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  int error = path && *path && netns < 0 ? errno : 0;
  length += 1 + (size_t)sprintf(header, "protocol=1");
  length += 1 + (size_t)snprintf(header + length, 256, "plugin=%.200s", program);
  length += 1 + (size_t)sprintf(header + length, "length=%zu", input_length);
  if (error) length += 1 + (size_t)snprintf(header + length, 256, "netns_error=%.200s", strerror(error));
  for (char **variable = environ; *variable; variable++) {
    if (strncmp(*variable, "CNI_", 4) != 0) continue;
    size_t more = strlen(*variable) + 1;
    if (length + more > sizeof header) fail(INVALID_ENVIRONMENT, "the CNI_ variables are too long together");
    memcpy(header + length, *variable, more);
    length += more;
  }
  send_message(agent, header, length, netns);
}

/* "EXIT LENGTH", then as many bytes for standard output. */
static int carry_answer(int agent) {
  static char answer[MAX_ANSWER];
  char head[64] = "";
  int status = 0;
  size_t length = 0, have = 0;
  ssize_t got = recv(agent, head, sizeof head - 1, 0);
  if (got <= 0 || sscanf(head, "%d %zu", &status, &length) != 2 || length > sizeof answer)
    fail(absent(), "the agent of tortie ended before it answered");
  while (have < length) {
    got = recv(agent, answer + have, length - have, 0);
    if (got <= 0) fail(absent(), "the agent of tortie ended in the middle of its answer");
    have += (size_t)got;
  }
  put(answer, length);
  return status;
}

int main(int argc, char **argv) {
  const char *command = getenv("CNI_COMMAND");
  const char *program = argc > 0 ? basename(argv[0]) : "tortie-cni";
  set_deadline(IO_FAILURE, "standard input has not ended");
  read_input();
  learn_version();
  set_deadline(absent(), "the agent of tortie has not answered");
  if (command && strcmp(command, "VERSION") == 0) {
    printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n",
           version);
    return 0;
  }
  int agent = connect_agent();
  send_header(agent, program);
  for (size_t at = 0; at < input_length; at += CHUNK)
    send_message(agent, input + at, input_length - at < CHUNK ? input_length - at : CHUNK, -1);
  return carry_answer(agent);
}
