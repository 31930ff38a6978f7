/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the HTTP side share. Loop thread only. */
#ifndef HADB_NODE_API_PRIVATE_H
#define HADB_NODE_API_PRIVATE_H

#include <jansson.h>

#include "node/kv_private.h"

/* A request that came over HTTP, with all that it borrows from. */
struct hadb_api_op {
    struct hadb_req req;
    struct hadb_node *node;
    struct hadb_http_exchange *exchange;
    struct hadb_buf key, start, end, prefix, body;
    struct hadb_kv_op *ops;
    struct hadb_buf *op_bytes; /* decoded keys and values of a batch */
    size_t op_bytes_len;
    json_t *json;
    struct hadb_lookup *lookup; /* hand-off by name */
};

/* NULL when out of memory: the exchange has been answered then. */
struct hadb_api_op *hadb__api_op_new(struct hadb_node *node, struct hadb_http_exchange *exchange);
void hadb__api_op_free(struct hadb_api_op *op);
/* Starts op->req (its request is set) with @done, or answers with an error and frees @op. */
void hadb__api_run(struct hadb_api_op *op, struct hadb_db *db,
                   const struct hadb_kv_options *options, void (*done)(struct hadb_req *req));
/* Answers an outcome or failure of a finished request. */
void hadb__api_outcome(struct hadb_api_op *op);
/* Headers Hadb-Version, Hadb-Bookmark, Hadb-Request-Id of a finished request. */
struct hadb_api_headers {
    struct hadb_http_header list[6];
    size_t len;
    char version[HADB_VERSION_TEXT_BYTES];
    char request_id[40];
    struct hadb_bookmark bookmark;
};
void hadb__api_headers(const struct hadb_req *req, struct hadb_api_headers *out);

void hadb__api_refuse(struct hadb_http_exchange *exchange, int r, const char *message);
void hadb__api_json(struct hadb_http_exchange *exchange, unsigned status,
                    struct hadb_buf *take_body);

/* api_args.c: query, headers and JSON members, read strictly; lists of names end with NULL.
 * HADB_EINVAL names what is wrong and what is allowed. */
/* Every parameter is in @names, there once, and percent-encoded properly. */
int hadb__api_check_query(struct hadb_slice query, const char *const *names,
                          struct hadb_error *err);
/* Every header that starts with "Hadb-" is known and there once. */
int hadb__api_check_headers(const struct hadb_http_exchange *exchange, struct hadb_error *err);
/* "name", "name=true", "name=false" (or 1, 0). */
int hadb__api_flag(struct hadb_slice query, const char *name, bool *out, struct hadb_error *err);
/* ?if_absent and ?if_version. */
int hadb__api_conditions(struct hadb_slice query, struct hadb_kv_options *options,
                         struct hadb_error *err);
/* Reads the Hadb-* headers into @options. */
int hadb__api_options(const struct hadb_http_exchange *exchange, struct hadb_kv_options *options,
                      struct hadb_error *err);
/* Parses an object with no members but @names; @form shows one in messages. Caller decrefs. */
int hadb__api_json_object(struct hadb_slice body, const char *const *names, const char *form,
                          json_t **out, struct hadb_error *err);
int hadb__api_json_members(json_t *object, const char *const *names, const char *where,
                           struct hadb_error *err);
/* Fills in op->ops and op->req.request. */
int hadb__api_batch_parse(struct hadb_api_op *op, struct hadb_slice body, struct hadb_error *err);

/* api_json.c: text that may not be UTF-8 */
/* Sets @name, or @name "_base64" when the bytes are not UTF-8. */
int hadb__json_set_bytes(json_t *object, const char *name, struct hadb_slice bytes);
/* Reads them back into @out (replaced): 0, HADB_ABSENT, HADB_EINVAL, HADB_ENOMEM. */
int hadb__json_get_bytes(const json_t *object, const char *name, struct hadb_buf *out);
#endif
