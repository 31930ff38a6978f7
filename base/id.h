/* SPDX-License-Identifier: Apache-2.0 */
/* UUIDs: version 7 (RFC 9562: 48-bit Unix milliseconds, then random) and version 4; text forms. */
#ifndef HADB_BASE_ID_H
#define HADB_BASE_ID_H
#include "base/env.h"

#define HADB_ID_TEXT_BYTES 37                                         /* 8-4-4-4-12 and NUL */
void hadb_id_random(const struct hadb_env *env, struct hadb_id *out); /* UUIDv4 */
void hadb_id_v7(const struct hadb_env *env, struct hadb_id *out);     /* ordered by wall clock */
void hadb_id_v7_at(const struct hadb_env *env, int64_t unix_ms, struct hadb_id *out);
void hadb_id_format(const struct hadb_id *id, char out[HADB_ID_TEXT_BYTES]);
bool hadb_id_parse(const char *text, struct hadb_id *out); /* the 36-character form, any case */
bool hadb_id_is_v7(const struct hadb_id *id);
int64_t hadb_id_v7_unix_ms(const struct hadb_id *id);
/* Node and database names: 1..64 of [A-Za-z0-9._-], not starting with a dot. */
bool hadb_name_valid(const char *name);
/* Addresses as seals and records carry them: printable ASCII without spaces; "" = none. The length is the caller's to
 * check, and only trying tells whether there is a host. */
bool hadb_address_valid(const char *address);
#endif
