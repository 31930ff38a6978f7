/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the rules for object keys.
 *
 * Thread: any; no state. Invariant: a key that passes is a safe relative path on every backend.
 * Happy path: one pass over the bytes. Failure modes: HADB_EINVAL with the reason.
 */
#include "storage/key.h"

#include <string.h>

#include "base/error.h"

static bool key_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-' || c == '/';
}

/* The rules that a key and the beginning of a key share; NULL = fine, else what is wrong. */
static const char *key_fault(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool part_start = i == 0 || key[i - 1] == '/';
        if (!key_byte(key[i])) {
            return "has a byte outside [A-Za-z0-9._/-]";
        }
        if (part_start && key[i] == '/') {
            return "starts with a slash or has two in a row";
        }
        if (part_start && key[i] == '.') {
            return "has a part that starts with a dot";
        }
    }
    return NULL;
}

int hadb__object_prefix_check(const char *prefix, struct hadb_error *err)
{
    if (!prefix) {
        return hadb_fail(err, HADB_EINVAL, "listing bound is missing");
    }
    size_t len = strnlen(prefix, HADB_OBJECT_KEY_BYTES_MAX + 1);
    if (len > HADB_OBJECT_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "listing bound is longer than %u bytes",
                         HADB_OBJECT_KEY_BYTES_MAX);
    }
    const char *fault = key_fault(prefix, len);
    return fault ? hadb_fail(err, HADB_EINVAL, "listing bound %s", fault) : 0;
}

int hadb__object_key_check(const char *key, struct hadb_error *err)
{
    size_t len = key ? strnlen(key, HADB_OBJECT_KEY_BYTES_MAX + 1) : 0;
    if (len == 0 || len > HADB_OBJECT_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "object key must have 1 to %u bytes",
                         HADB_OBJECT_KEY_BYTES_MAX);
    }
    const char *fault = key[len - 1] == '/' ? "ends with a slash" : key_fault(key, len);
    return fault ? hadb_fail(err, HADB_EINVAL, "object key %s", fault) : 0;
}
