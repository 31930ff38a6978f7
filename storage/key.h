/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for object keys, in one place, so that a key that one backend takes is taken by all. Any thread. */
#ifndef HADB_STORAGE_KEY_H
#define HADB_STORAGE_KEY_H
#include "hadb/storage.h"

/*
 * A key: 1..1024 bytes of [A-Za-z0-9._/-], no leading or trailing slash, no "//", no part that
 * starts with a dot (so "." and ".." never reach a file system, and backends may keep their own
 * files under dotted names). Returns 0 or HADB_EINVAL.
 */
int hadb__object_key_check(const char *key, struct hadb_error *err);

/* What a listing may start with or come after: "", or the beginning of a key. Returns 0 or HADB_EINVAL. */
int hadb__object_prefix_check(const char *prefix, struct hadb_error *err);
#endif
