/* Arguments from JavaScript: each is checked, and a wrong one is an exception that names it. */
#include "addon.h"
#include <stdio.h>
#include <string.h>

static bool wrong_type(napi_env env, const char *name, const char *wanted) {
  char text[128];
  snprintf(text, sizeof text, "%s must be %s", name, wanted);
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", text);
  return false;
}

bool args_get(napi_env env, napi_callback_info info, size_t count, napi_value *args) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, args, NULL, NULL) != napi_ok || given < count) {
    return wrong_type(env, "the call", "given all its arguments");
  }
  return true;
}

bool arg_int(napi_env env, napi_value value, const char *name, int32_t *out) {
  return napi_get_value_int32(env, value, out) == napi_ok || wrong_type(env, name, "an integer");
}

bool arg_uint(napi_env env, napi_value value, const char *name, uint32_t *out) {
  int32_t number;
  if (!arg_int(env, value, name, &number)) return false;
  if (number < 0) return wrong_type(env, name, "a non-negative integer");
  *out = (uint32_t)number;
  return true;
}

static bool typed_array(napi_env env, napi_value value, napi_typedarray_type wanted, void **data,
                        size_t *length) {
  napi_typedarray_type type;
  return napi_get_typedarray_info(env, value, &type, length, data, NULL, NULL) == napi_ok && type == wanted;
}

bool arg_bytes(napi_env env, napi_value value, const char *name, struct bytes *out) {
  return typed_array(env, value, napi_uint8_array, (void **)&out->data, &out->length) ||
         wrong_type(env, name, "a Uint8Array");
}

bool arg_ints(napi_env env, napi_value value, const char *name, struct ints *out) {
  return typed_array(env, value, napi_int32_array, (void **)&out->data, &out->length) ||
         wrong_type(env, name, "an Int32Array");
}

/* The property, or false without an exception if it is absent or undefined. */
static bool property(napi_env env, napi_value object, const char *name, napi_value *out) {
  napi_valuetype type;
  return napi_get_named_property(env, object, name, out) == napi_ok &&
         napi_typeof(env, *out, &type) == napi_ok && type != napi_undefined;
}

bool prop_int(napi_env env, napi_value object, const char *name, int32_t *out) {
  napi_value value;
  return !property(env, object, name, &value) || arg_int(env, value, name, out);
}

bool prop_bool(napi_env env, napi_value object, const char *name, bool *out) {
  napi_value value;
  if (!property(env, object, name, &value)) return true;
  return napi_get_value_bool(env, value, out) == napi_ok || wrong_type(env, name, "a boolean");
}

bool prop_string(napi_env env, napi_value object, const char *name, char *out, size_t size) {
  napi_value value;
  if (!property(env, object, name, &value)) return true;
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    return wrong_type(env, name, "a string");
  }
  if (length >= size) {
    char text[128];
    snprintf(text, sizeof text, "%s is %zu bytes long; at most %zu are taken", name, length, size - 1);
    throw_range(env, text);
    return false;
  }
  napi_get_value_string_utf8(env, value, out, size, &length);
  if (strlen(out) != length) return wrong_type(env, name, "a string without NUL");
  return true;
}

bool prop_bytes(napi_env env, napi_value object, const char *name, uint8_t *out, size_t length, bool *found) {
  napi_value value;
  *found = property(env, object, name, &value);
  if (!*found) return true;
  struct bytes bytes;
  if (!arg_bytes(env, value, name, &bytes)) return false;
  if (bytes.length != length) {
    throw_range(env, "an array of bytes has the wrong length");
    return false;
  }
  memcpy(out, bytes.data, length);
  return true;
}

napi_value make_int(napi_env env, int64_t value) {
  napi_value result;
  napi_create_int64(env, value, &result);
  return result;
}

void set_prop(napi_env env, napi_value object, const char *name, napi_value value) {
  napi_set_named_property(env, object, name, value);
}
