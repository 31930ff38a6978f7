/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a blob service and what its replies mean (docs/storage-http.md): functions of their arguments. Any thread. */
#ifndef HADB_STORAGE_BLOB_WIRE_H
#define HADB_STORAGE_BLOB_WIRE_H
#include "base/rest.h"
#include "storage/counters.h"
#include "storage/http_io.h"

#define HADB_BLOB_DIGEST_BYTES 56u             /* "sha-256=:", 44 of base64, ":" and a NUL */
#define HADB_BLOB_DELETE_LEN_MAX 1000u         /* keys of one request */
#define HADB_BLOB_LISTING_BYTES_MAX (2u << 20) /* 1000 of the longest keys fit */

/* One request; zero = empty. Stays where it is once built. */
struct hadb__blob_request {
    enum hadb_storage_op op;
    struct hadb__rest_request rest;
    struct hadb_buf own_body; /* behind the body, where it was made here */
    char digest[HADB_BLOB_DIGEST_BYTES];
    char range[HADB_HTTP_RANGE_BYTES];
};

/* What to ask for: 0, HADB_ENOMEM. @rest, @io and what it points to outlive the request. */
int hadb__blob_build(const struct hadb__rest *rest, const struct hadb_storage_io *io,
                     struct hadb__blob_request *out, struct hadb_error *err);
int hadb__blob_build_list(const struct hadb__rest *rest, const struct hadb_call *call,
                          const char *prefix, const char *after, size_t max,
                          struct hadb__blob_request *out, struct hadb_error *err);
int hadb__blob_build_delete(const struct hadb__rest *rest, const struct hadb_call *call,
                            const char *const *keys, size_t len, struct hadb__blob_request *out,
                            struct hadb_error *err);
void hadb__blob_request_deinit(struct hadb__blob_request *request);

/*
 * The outcome of a finished request, by the rule of include/hadb/storage.h: 0, HADB_ABSENT, HADB_EXISTS,
 * HADB_CAS_LOST, or a failure. After 0 a body is whole, and a tag is there wherever one is needed.
 */
int hadb__blob_outcome(const struct hadb__rest *rest, const struct hadb__blob_request *request,
                       const struct hadb__http_reply *reply, struct hadb_error *err);

/* Reads a listing, which must be what was asked for. 0, HADB_ECORRUPT, HADB_ENOMEM; then @out may hold a part. */
int hadb__blob_list(struct hadb_slice json, const char *prefix, const char *after, size_t max,
                    struct hadb_object_list *out, struct hadb_error *err);

/* Content-Digest (RFC 9530) of a body: its SHA-256. */
void hadb__blob_digest(struct hadb_slice body, char out[HADB_BLOB_DIGEST_BYTES]);
/* False when @header has a SHA-256, and it is another one. */
bool hadb__blob_digest_fits(const char *header, struct hadb_slice body);
#endif
