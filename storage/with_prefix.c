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

static int put_on(const struct prefixed *p, const char *key, char **out, struct hadb_error *err)
{
    size_t len = strlen(key);
    if (p->len + len > HADB_OBJECT_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "object key with its prefix is longer than %u bytes",
                         HADB_OBJECT_KEY_BYTES_MAX);
    }
    *out = hadb_malloc(p->len + len + 1);
    if (!*out) {
        return hadb_fail_nomem(err);
    }
    memcpy(*out, p->prefix, p->len);
    memcpy(*out + p->len, key, len + 1);
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

static void frame_free(struct hadb__frame *f)
{
    for (size_t i = 0; f->keys && i < f->request.len; i++) {
        hadb_free(f->keys[i]);
    }
    hadb_free(f->keys);
    hadb_free(f->key);
    hadb_free(f->after);
    f->keys = NULL;
    f->key = f->after = NULL;
}

static int put_on_all(const struct prefixed *p, struct hadb__frame *f)
{
    f->keys = hadb_calloc(f->request.len, sizeof *f->keys);
    int r = f->keys ? 0 : hadb_fail_nomem(&f->err);
    for (size_t i = 0; i < f->request.len && r == 0; i++) {
        r = put_on(p, f->request.keys[i], &f->keys[i], &f->err);
    }
    f->request.keys = (const char *const *)f->keys;
    return r;
}

static int prefix_before(struct hadb__frame *f)
{
    const struct prefixed *p = (const struct prefixed *)f->w;
    struct hadb__request *q = &f->request;
    int r = 0;
    if (q->op == HADB_STORAGE_OP_DELETE_MANY) {
        r = put_on_all(p, f);
    } else {
        r = put_on(p, q->key, &f->key, &f->err);
        q->key = f->key;
    }
    if (r == 0 && q->op == HADB_STORAGE_OP_LIST && q->after[0] != '\0') {
        r = put_on(p, q->after, &f->after, &f->err);
        q->after = f->after;
    }
    if (r != 0) {
        frame_free(f);
    }
    return r;
}

static bool prefix_after(struct hadb__frame *f)
{
    if (f->r == 0 && f->request.op == HADB_STORAGE_OP_LIST) {
        f->r = take_off((const struct prefixed *)f->w, f->request.list, &f->err);
    }
    frame_free(f);
    return false;
}

static const struct hadb__steps prefix_steps = {.before = prefix_before, .after = prefix_after};

static const struct hadb_storage_ops prefix_ops = {
    HADB__WRAPPER_METHODS,
    .scheme = "with_prefix",
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
        hadb__wrapper_new(sizeof(*self), take_inner, env, &prefix_ops, &prefix_steps, out);
    if (!self) {
        return hadb_fail_nomem(err);
    }
    memcpy(self->prefix, prefix, len);
    self->prefix[len] = '/';
    self->len = len + 1;
    return 0;
}
