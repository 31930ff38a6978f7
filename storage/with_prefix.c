/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns a part of a store: every key lives below a prefix that callers do not see.
 *
 * Thread: any; constant after it was made.
 * Invariants: no key outside "PREFIX/" is ever named to the inner backend; a listed key that does not
 * start with it never reaches the caller.
 * Happy path: put the prefix on, send, take it off. Failure modes: HADB_EINVAL when a key gets too long,
 * HADB_EPROTO when the inner backend lists what was not asked for, HADB_ENOMEM.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "storage/key.h"
#include "storage/wrap.h"
#include "storage/wrapper_private.h"

struct prefixed {
    struct hadb__wrapper w;
    size_t len;                                     /* const after init; with the slash */
    char prefix[HADB_STORAGE_PREFIX_BYTES_MAX + 2]; /* const after init; ends in a slash */
};

typedef char full_key[HADB_OBJECT_KEY_BYTES_MAX + 1];

static int put_on(const struct prefixed *p, const char *key, full_key out, struct hadb_error *err)
{
    size_t len = strlen(key);
    if (p->len + len > HADB_OBJECT_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "object key with its prefix is longer than %u bytes",
                         HADB_OBJECT_KEY_BYTES_MAX);
    }
    memcpy(out, p->prefix, p->len);
    memcpy(out + p->len, key, len + 1);
    return 0;
}

static int take_off(const struct prefixed *p, struct hadb_object_list *list, struct hadb_error *err)
{
    for (size_t i = 0; i < list->len; i++) {
        char *key = list->items[i].key;
        if (strncmp(key, p->prefix, p->len) != 0) {
            return hadb_fail(err, HADB_EPROTO, "listing has a key outside of its prefix");
        }
        memmove(key, key + p->len, strlen(key + p->len) + 1);
    }
    return 0;
}

static int send_list(struct prefixed *p, struct hadb__request *request, struct hadb_error *err)
{
    full_key after;
    int r = 0;
    if (request->after[0] != '\0') {
        r = put_on(p, request->after, after, err);
        request->after = after;
    }
    if (r == 0) {
        r = hadb__request_send(&p->w.inner, request, err);
    }
    return r ? r : take_off(p, request->list, err);
}

static int send_deletes(struct prefixed *p, struct hadb__request *request, struct hadb_error *err)
{
    char **keys = hadb_calloc(request->len, sizeof(*keys));
    full_key full;
    int r = keys ? 0 : hadb_fail_nomem(err);
    for (size_t i = 0; i < request->len && r == 0; i++) {
        r = put_on(p, request->keys[i], full, err);
        if (r == 0) {
            keys[i] = hadb_strdup(full);
            r = keys[i] ? 0 : hadb_fail_nomem(err);
        }
    }
    if (r == 0) {
        request->keys = (const char *const *)keys;
        r = hadb__request_send(&p->w.inner, request, err);
    }
    for (size_t i = 0; keys && i < request->len; i++) {
        hadb_free(keys[i]);
    }
    hadb_free(keys);
    return r;
}

static int prefix_around(void *self, const struct hadb__request *request, struct hadb_error *err)
{
    struct prefixed *p = self;
    struct hadb__request inner = *request;
    full_key key;
    if (request->op == HADB_STORAGE_OP_DELETE_MANY) {
        return send_deletes(p, &inner, err);
    }
    int r = put_on(p, request->key, key, err);
    if (r) {
        return r;
    }
    inner.key = key;
    return request->op == HADB_STORAGE_OP_LIST ? send_list(p, &inner, err)
                                               : hadb__request_send(&p->w.inner, &inner, err);
}

static const struct hadb_storage_ops prefix_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_prefix",
    .close = hadb__wrapper_close,
};

int hadb_storage_with_prefix(struct hadb_storage *take_inner, const char *prefix,
                             const struct hadb_env *env, struct hadb_storage *out,
                             struct hadb_error *err)
{
    int r = hadb_storage_check(take_inner, err);
    if (r) {
        return r;
    }
    r = hadb__object_key_check(prefix, err);
    if (r) {
        return hadb_wrap(err, r, "prefix");
    }
    size_t len = strlen(prefix);
    if (len > HADB_STORAGE_PREFIX_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "prefix has %zu bytes, at most %u are allowed", len,
                         HADB_STORAGE_PREFIX_BYTES_MAX);
    }
    struct prefixed *self =
        hadb__wrapper_new(sizeof(*self), take_inner, env, &prefix_ops, prefix_around, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    memcpy(self->prefix, prefix, len);
    self->prefix[len] = '/';
    self->len = len + 1;
    return 0;
}
