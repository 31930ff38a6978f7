/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes in JSON: as a string where they are UTF-8, else as base64 (RFC 4648, with padding) under
 * the same name with "_base64" behind it.
 *
 * Thread: any; pure.
 */
#include "node/api_private.h"

#include <stdio.h>

#include "base/base64.h"

int hadb__json_set_bytes(json_t *object, const char *name, struct hadb_slice bytes)
{
    json_t *text = json_stringn(bytes.len ? bytes.data : "", bytes.len);
    if (text) {
        return json_object_set_new(object, name, text) == 0 ? 0 : HADB_ENOMEM;
    }
    char long_name[64];
    struct hadb_buf encoded HADB_CLEANUP(hadb_buf_deinit) = {0};
    snprintf(long_name, sizeof long_name, "%s_base64", name);
    if (hadb__base64_encode(bytes, &encoded) < 0) {
        return HADB_ENOMEM;
    }
    text = json_stringn((const char *)encoded.data, encoded.len);
    return text && json_object_set_new(object, long_name, text) == 0 ? 0 : HADB_ENOMEM;
}

int hadb__json_get_bytes(const json_t *object, const char *name, struct hadb_buf *out)
{
    hadb_buf_clear(out);
    const json_t *text = json_object_get(object, name);
    if (text) {
        return !json_is_string(text)
                   ? HADB_EINVAL
                   : hadb_buf_append(out, json_string_value(text), json_string_length(text));
    }
    char long_name[64];
    snprintf(long_name, sizeof long_name, "%s_base64", name);
    text = json_object_get(object, long_name);
    if (!text) {
        return HADB_ABSENT;
    }
    if (!json_is_string(text)) {
        return HADB_EINVAL;
    }
    size_t len = json_string_length(text);
    if (hadb_buf_reserve(out, len / 4 * 3 + 1)) { /* then decoding fails for what it reads alone */
        return HADB_ENOMEM;
    }
    return hadb__base64_decode(json_string_value(text), len, out) ? 0 : HADB_EINVAL;
}
