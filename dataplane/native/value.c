/* Arguments from JavaScript, none of them trusted: a wrong type is a TypeError, a wrong value a RangeError.
 */
#include "tortie.h"

#include <stdio.h>
#include <string.h>

bool get_args(napi_env env, napi_callback_info info, const char *call, size_t count, napi_value *args) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, args, NULL, NULL) != napi_ok) return false;
  if (given >= count) return true;
  throw_type(env, "%s takes %zu arguments, %zu given", call, count, given);
  return false;
}

bool get_int(napi_env env, napi_value value, const char *name, int64_t min, int64_t max, int64_t *result) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) {
    throw_type(env, "%s must be a number", name);
    return false;
  }
  /* Compared as doubles first: converting one that does not fit is undefined. NaN fails too. */
  if (!(number >= (double)min && number <= (double)max) || number != (double)(int64_t)number) {
    throw_range(env, "%s must be an integer from %lld to %lld", name, (long long)min, (long long)max);
    return false;
  }
  *result = (int64_t)number;
  return true;
}

bool get_fd(napi_env env, napi_value value, int *fd) {
  int64_t number;
  if (!get_int(env, value, "a descriptor", 0, INT32_MAX, &number)) return false;
  *fd = (int)number;
  return true;
}

bool get_string(napi_env env, napi_value value, const char *name, char *result, size_t size) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    throw_type(env, "%s must be a string", name);
    return false;
  }
  if (length >= size) {
    throw_range(env, "%s has %zu bytes, at most %zu are possible", name, length, size - 1);
    return false;
  }
  if (napi_get_value_string_utf8(env, value, result, size, &length) != napi_ok) return false;
  if (strlen(result) == length) return true;
  throw_range(env, "%s contains a NUL", name);
  return false;
}

bool get_object(napi_env env, napi_value value, const char *call) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_object) return true;
  throw_type(env, "%s takes an options object", call);
  return false;
}

/* The member, and whether it is there (undefined counts as absent). False: a getter threw. */
static bool member(napi_env env, napi_value object, const char *key, napi_value *value, bool *given) {
  napi_valuetype type;
  if (napi_get_named_property(env, object, key, value) != napi_ok ||
      napi_typeof(env, *value, &type) != napi_ok)
    return false;
  *given = type != napi_undefined;
  return true;
}

static bool missing(napi_env env, const char *key) {
  throw_type(env, "%s is missing", key);
  return false;
}

bool option_int(napi_env env, napi_value object, const char *key, int64_t min, int64_t max, int64_t *result,
                bool *given) {
  napi_value value;
  bool present;
  if (!member(env, object, key, &value, &present)) return false;
  if (given) *given = present;
  if (!present) return given ? true : missing(env, key);
  return get_int(env, value, key, min, max, result);
}

bool option_bool(napi_env env, napi_value object, const char *key, bool *result, bool *given) {
  napi_value value;
  bool present;
  if (!member(env, object, key, &value, &present)) return false;
  if (given) *given = present;
  if (!present) return true;
  if (napi_get_value_bool(env, value, result) == napi_ok) return true;
  throw_type(env, "%s must be true or false", key);
  return false;
}

bool option_string(napi_env env, napi_value object, const char *key, char *result, size_t size, bool *given) {
  napi_value value;
  bool present;
  result[0] = 0;
  if (!member(env, object, key, &value, &present)) return false;
  if (given) *given = present;
  if (!present) return given ? true : missing(env, key);
  return get_string(env, value, key, result, size);
}

bool option_mac(napi_env env, napi_value object, uint8_t *mac, bool *given) {
  napi_value value;
  struct bytes bytes;
  if (!member(env, object, "mac", &value, given)) return false;
  if (!*given) return true;
  if (!get_bytes(env, value, "mac", &bytes)) return false;
  if (bytes.length != MAC_LENGTH) {
    throw_range(env, "mac must have 6 bytes, not %zu", bytes.length);
    return false;
  }
  memcpy(mac, bytes.data, MAC_LENGTH);
  return true;
}

bool option_name(napi_env env, napi_value object, char *name) {
  if (!option_string(env, object, "name", name, NAME_SIZE, NULL)) return false;
  /* The kernel refuses the rest; "%d" it would replace by a number. */
  if (name[0] && !strchr(name, '%')) return true;
  throw_range(env, "name must be an interface name");
  return false;
}

bool option_address(napi_env env, napi_value object, const char *key, uint32_t *address) {
  int64_t value;
  if (!option_int(env, object, key, INT32_MIN, UINT32_MAX, &value, NULL)) return false;
  *address = (uint32_t)value;
  return true;
}

static bool get_typed(napi_env env, napi_value value, const char *name, napi_typedarray_type wanted,
                      void **data, size_t *length) {
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == wanted)
    return true;
  const char *kind = wanted == napi_int32_array   ? "an Int32Array"
                     : wanted == napi_uint8_array ? "a Uint8Array"
                                                  : "a Float64Array";
  throw_type(env, "%s must be %s", name, kind);
  return false;
}

bool get_bytes(napi_env env, napi_value value, const char *name, struct bytes *bytes) {
  void *data;
  if (!get_typed(env, value, name, napi_uint8_array, &data, &bytes->length)) return false;
  bytes->data = data;
  return true;
}

bool get_cells(napi_env env, napi_value value, const char *name, struct cells *cells) {
  void *data;
  if (!get_typed(env, value, name, napi_int32_array, &data, &cells->length)) return false;
  cells->data = data;
  return true;
}

bool get_doubles(napi_env env, napi_value value, const char *name, size_t least, double **doubles) {
  void *data;
  size_t length;
  if (!get_typed(env, value, name, napi_float64_array, &data, &length)) return false;
  *doubles = data;
  if (length >= least) return true;
  throw_range(env, "%s must have room for %zu numbers", name, least);
  return false;
}

napi_value from_int(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int64(env, value, &result);
  return result;
}
