/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Hop 4 of 8, from the outside: what an object in storage holds, for people and for scripts.
 */
#ifndef HADB_PUBLIC_CHANGESET_H
#define HADB_PUBLIC_CHANGESET_H

#include "hadb/error.h"

HADB_BEGIN_DECLS

/* Transactions, operations and items that one description lists; the rest is counted. */
#define HADB_INSPECT_LINES_MAX 10000u
/* Bytes of a key that are shown; the rest is counted. */
#define HADB_INSPECT_KEY_BYTES_MAX 256u

/**
 * Describe one object of a store: log entry, snapshot part, meta, manifest or name. Verifies all its
 * hashes. Values are never shown, keys are: printable ASCII as it is, other bytes as \xNN.
 *
 * @stored    the whole object
 * @json      one JSON object and a line feed, else indented text for people
 * @out       appended to; untouched on failure
 * Returns    0
 * Errors     HADB_ECORRUPT, HADB_EVERSION, HADB_ENOTSUP (encrypted), HADB_ENOMEM
 * Threads    any thread
 * Since      0.1
 */
HADB_API int hadb_inspect(struct hadb_slice stored, bool json, struct hadb_buf *out,
                          struct hadb_error *err);
/**
 * hadb_inspect() of a file on this host.
 *
 * Returns    0; HADB_ABSENT there is no such file
 * Errors     those of hadb_inspect(), HADB_EIO, HADB_EAUTH, HADB_ETOOBIG (larger than any object can be)
 * Threads    any thread
 * Since      0.1
 */
HADB_API int hadb_inspect_file(const char *path, bool json, struct hadb_buf *out,
                               struct hadb_error *err);

HADB_END_DECLS
#endif
