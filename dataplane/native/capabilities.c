/* Giving up privileges (capabilities(7)), for the calling thread, the threads it makes and the programs it
 * starts. */
#include "tortie.h"
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static napi_value refuse(napi_env env, const char *call) {
  struct failure failure;
  fail(&failure, call, "%s", "own capabilities");
  return throw_failure(env, &failure);
}

/* keepCapabilities(mask): all others are gone, for good; so is what set-user-ID programs would give
 * (no_new_privs). */
napi_value keep_capabilities(napi_env env, napi_callback_info info) {
  napi_value args[1];
  int64_t keep;
  if (!get_args(env, info, "keepCapabilities", 1, args) ||
      !get_int(env, args[0], "mask", 0, ((int64_t)1 << 52) - 1, &keep))
    return NULL;
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
    if (keep >> capability & 1) continue;
    /* Without CAP_SETPCAP nothing can be taken from the bounding set: the sets below go all the same. */
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EPERM)
      return refuse(env, "prctl PR_CAPBSET_DROP");
  }
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2];
  memset(data, 0, sizeof data);
  if (syscall(SYS_capget, &header, data) < 0) return refuse(env, "capget");
  for (int word = 0; word < 2; word++) {
    uint32_t mask = (uint32_t)(keep >> (32 * word));
    data[word].permitted &= mask;
    data[word].effective &= mask;
    data[word].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data) < 0) return refuse(env, "capset");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return refuse(env, "prctl PR_SET_NO_NEW_PRIVS");
  return NULL;
}
