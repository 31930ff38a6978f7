/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request as a value, so that a wrapper which treats all operations alike is one function.
 * A wrapper puts struct hadb__wrapper first, names HADB__WRAPPER_METHODS in its table, and does its work in
 * around(), which calls hadb__request_send() as often as it sees fit.
 */
#ifndef HADB_STORAGE_WRAPPER_PRIVATE_H
#define HADB_STORAGE_WRAPPER_PRIVATE_H
#include "storage/counters.h"

/* Members that an operation does not have are zero. All are borrowed. */
struct hadb__request {
    enum hadb_storage_op op;
    const struct hadb_call *call;
    const char *key;                 /* list: the prefix; delete_many: NULL */
    struct hadb_buf *out;            /* get, get_range */
    struct hadb_tag *tag;            /* get, create, replace; may be NULL */
    uint64_t offset;                 /* get_range */
    size_t len;                      /* get_range: bytes; list: max; delete_many: keys */
    struct hadb_object_meta *meta;   /* head */
    struct hadb_slice body;          /* create, replace */
    const struct hadb_tag *expected; /* replace */
    const char *after;               /* list */
    struct hadb_object_list *list;   /* list */
    const char *const *keys;         /* delete_many */
};

struct hadb__wrapper {
    struct hadb_storage inner; /* owned */
    const struct hadb_env *env;
    int (*around)(void *self, const struct hadb__request *request, struct hadb_error *err);
};

/* Sends the request to @storage, through dispatch. */
int hadb__request_send(struct hadb_storage *storage, const struct hadb__request *request,
                       struct hadb_error *err);
/* Body bytes that a finished request moved. */
uint64_t hadb__request_bytes(const struct hadb__request *request);
/* May the request still start? As hadb__write_check for writes, hadb_call_check for reads. */
int hadb__request_check(const struct hadb__wrapper *w, const struct hadb__request *request,
                        struct hadb_error *err);

/*
 * Moves *take_inner into a new wrapper of @size bytes, which starts with struct hadb__wrapper, and the
 * wrapper into *out. @out may be @take_inner. Returns the wrapper, NULL when out of memory.
 */
void *hadb__wrapper_new(size_t size, struct hadb_storage *take_inner, const struct hadb_env *env,
                        const struct hadb_storage_ops *ops,
                        int (*around)(void *self, const struct hadb__request *request,
                                      struct hadb_error *err),
                        struct hadb_storage *out);
/* Closes the inner backend and frees the wrapper. */
void hadb__wrapper_close(void *self);

int hadb__wrapper_get(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err);
int hadb__wrapper_get_range(void *self, const struct hadb_call *call, const char *key,
                            uint64_t offset, size_t len, struct hadb_buf *out,
                            struct hadb_error *err);
int hadb__wrapper_head(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_object_meta *out, struct hadb_error *err);
int hadb__wrapper_create(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err);
int hadb__wrapper_replace(void *self, const struct hadb_call *call, const char *key,
                          struct hadb_slice body, const struct hadb_tag *expected,
                          struct hadb_tag *tag, struct hadb_error *err);
int hadb__wrapper_list(void *self, const struct hadb_call *call, const char *prefix,
                       const char *after, size_t max, struct hadb_object_list *out,
                       struct hadb_error *err);
int hadb__wrapper_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                              size_t len, struct hadb_error *err);
uint32_t hadb__wrapper_caps(void *self);
void hadb__wrapper_usage(void *self, struct hadb_storage_usage *out);

#define HADB__WRAPPER_METHODS                                                                     \
    .abi = HADB_STORAGE_ABI, .get = hadb__wrapper_get, .get_range = hadb__wrapper_get_range,      \
    .head = hadb__wrapper_head, .create = hadb__wrapper_create, .replace = hadb__wrapper_replace, \
    .list = hadb__wrapper_list, .delete_many = hadb__wrapper_delete_many,                         \
    .caps = hadb__wrapper_caps, .usage = hadb__wrapper_usage
#endif
