/* SPDX-License-Identifier: Apache-2.0 */
/* What backends that speak HTTP share: ranges, outputs of a finished request, counting. Any thread. */
#ifndef HADB_STORAGE_HTTP_IO_H
#define HADB_STORAGE_HTTP_IO_H
#include "base/http.h"
#include "hadb/storage.h"

#define HADB_HTTP_RANGE_BYTES 64u

/* Value of the header Range for a get_range; false where no such range can be asked for: the object is looked at alone. */
bool hadb__http_range(const struct hadb_storage_io *io, char out[HADB_HTTP_RANGE_BYTES]);
/* After an answer (200, 206, 416) to that: which part of the body is it? 0, HADB_EIO (it is another range). */
int hadb__http_range_of(const struct hadb_storage_io *io, const struct hadb__http_reply *reply,
                        struct hadb_slice *out, struct hadb_error *err);

/* The memory of an empty output holds the body of the reply, and comes back when there is none. */
void hadb__http_io_lend(const struct hadb_storage_io *io, struct hadb__http_reply *reply);
void hadb__http_io_return(const struct hadb_storage_io *io, struct hadb__http_reply *reply);
/* After an outcome of 0: the outputs. HADB_EIO (another range), HADB_ENOMEM. */
int hadb__http_io_take(const struct hadb_storage_io *io, struct hadb__http_reply *reply,
                       struct hadb_error *err);

/* Counts a finished request, if it was sent; @lists: a GET that costs as much as a PUT. @live is atomic. */
void hadb__http_count(struct hadb_storage_usage *live, const char *method, bool lists,
                      size_t body_bytes, const struct hadb__http_reply *reply, int64_t now_unix_s);
void hadb__http_usage(const struct hadb_storage_usage *live, struct hadb_storage_usage *out);
#endif
