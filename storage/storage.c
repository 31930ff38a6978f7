/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns dispatch: the only file that calls a method of struct hadb_storage_ops.
 *
 * Thread: any; no state of its own.
 * Invariants: no backend sees a bad key, an oversize body or a bad tag; no caller sees a result that
 * the contract does not list (asserted, since the caller switches on it).
 * Happy path: check the arguments, call the method or its default, assert the result.
 * Failure modes: HADB_EINVAL and HADB_ETOOBIG for arguments, else what the backend says.
 */
#include "hadb/storage.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/key.h"
#include "storage/storage_private.h"

#define HADB_HAS(ops, method, since_abi) ((ops)->abi >= (since_abi) && (ops)->method != NULL)

int hadb_storage_check(const struct hadb_storage *storage, struct hadb_error *err)
{
    if (!storage || !storage->ops) {
        return hadb_fail(err, HADB_EINVAL, "storage has no method table");
    }
    const struct hadb_storage_ops *ops = storage->ops;
    if (ops->abi < 1) {
        return hadb_fail(err, HADB_EINVAL, "storage method table has abi %u", ops->abi);
    }
    const char *missing = !ops->scheme        ? "scheme"
                          : !ops->get         ? "get"
                          : !ops->create      ? "create"
                          : !ops->replace     ? "replace"
                          : !ops->list        ? "list"
                          : !ops->delete_many ? "delete_many"
                          : !ops->caps        ? "caps"
                          : !ops->close       ? "close"
                          : !ops->submit != !ops->fd || !ops->submit != !ops->drive
                              ? "one of submit, fd and drive"
                              : NULL;
    return missing ? hadb_fail(err, HADB_EINVAL, "storage method table misses %s", missing) : 0;
}

void hadb_storage_close(struct hadb_storage *storage)
{
    if (storage && storage->ops) {
        storage->ops->close(storage->self);
        *storage = (struct hadb_storage){0};
    }
}

static int body_check(struct hadb_slice body, struct hadb_error *err)
{
    if (body.len > HADB_OBJECT_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "object of %zu bytes is over the limit of %u", body.len,
                         HADB_OBJECT_BYTES_MAX);
    }
    return body.len > 0 && !body.data ? hadb_fail(err, HADB_EINVAL, "object body is missing") : 0;
}

static int tag_check(const struct hadb_tag *tag, struct hadb_error *err)
{
    if (!tag || tag->s[0] == '\0' || !memchr(tag->s, '\0', sizeof(tag->s))) {
        return hadb_fail(err, HADB_EINVAL, "replace needs the tag that was read");
    }
    return 0;
}

int hadb_storage_get(struct hadb_storage *storage, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    if (!storage || !storage->ops || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = hadb__object_key_check(key, err);
    if (r) {
        return r;
    }
    r = storage->ops->get(storage->self, call, key, out, tag, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    return r;
}

/* Default of get_range: the whole object, then the part. */
static int range_by_get(struct hadb_storage *storage, const struct hadb_call *call, const char *key,
                        uint64_t offset, size_t len, struct hadb_buf *out, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf whole = {0};
    int r = hadb_storage_get(storage, call, key, &whole, NULL, err);
    if (r) {
        return r;
    }
    size_t from = offset < whole.len ? (size_t)offset : whole.len;
    len = HADB_MIN(len, whole.len - from);
    hadb_buf_clear(out);
    return hadb_buf_append(out, whole.data + from, len) ? hadb_fail_nomem(err) : 0;
}

int hadb_storage_get_range(struct hadb_storage *storage, const struct hadb_call *call,
                           const char *key, uint64_t offset, size_t len, struct hadb_buf *out,
                           struct hadb_error *err)
{
    if (!storage || !storage->ops || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = hadb__object_key_check(key, err);
    if (r) {
        return r;
    }
    if (len > HADB_OBJECT_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "range of %zu bytes is over the limit of %u", len,
                         HADB_OBJECT_BYTES_MAX);
    }
    if (!HADB_HAS(storage->ops, get_range, 1)) {
        return range_by_get(storage, call, key, offset, len, out, err);
    }
    r = storage->ops->get_range(storage->self, call, key, offset, len, out, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    HADB_ASSERT(r != 0 || out->len <= len);
    return r;
}

int hadb_storage_head(struct hadb_storage *storage, const struct hadb_call *call, const char *key,
                      struct hadb_object_meta *out, struct hadb_error *err)
{
    if (!storage || !storage->ops || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = hadb__object_key_check(key, err);
    if (r) {
        return r;
    }
    if (!HADB_HAS(storage->ops, head, 1)) {
        HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf whole = {0};
        struct hadb_tag tag = {0};
        r = hadb_storage_get(storage, call, key, &whole, &tag, err);
        if (r == 0) {
            *out = (struct hadb_object_meta){.size_bytes = whole.len, .tag = tag};
        }
        return r;
    }
    r = storage->ops->head(storage->self, call, key, out, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    return r;
}

int hadb_storage_create(struct hadb_storage *storage, const struct hadb_call *call, const char *key,
                        struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    if (!storage || !storage->ops) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = hadb__object_key_check(key, err);
    if (r == 0) {
        r = body_check(body, err);
    }
    if (r) {
        return r;
    }
    r = storage->ops->create(storage->self, call, key, body, tag, err);
    HADB_ASSERT(r <= 0 || r == HADB_EXISTS);
    return r;
}

int hadb_storage_replace(struct hadb_storage *storage, const struct hadb_call *call,
                         const char *key, struct hadb_slice body, const struct hadb_tag *expected,
                         struct hadb_tag *tag, struct hadb_error *err)
{
    if (!storage || !storage->ops) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = hadb__object_key_check(key, err);
    if (r == 0) {
        r = body_check(body, err);
    }
    if (r == 0) {
        r = tag_check(expected, err);
    }
    if (r) {
        return r;
    }
    r = storage->ops->replace(storage->self, call, key, body, expected, tag, err);
    HADB_ASSERT(r <= 0 || r == HADB_CAS_LOST);
    return r;
}

int hadb_storage_list(struct hadb_storage *storage, const struct hadb_call *call,
                      const char *prefix, const char *after, size_t max,
                      struct hadb_object_list *out, struct hadb_error *err)
{
    if (!storage || !storage->ops || !out) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = hadb__object_prefix_check(prefix, err);
    if (r == 0) {
        r = hadb__object_prefix_check(after, err);
    }
    if (r) {
        return r;
    }
    if (max == 0 || max > HADB_LIST_LEN_MAX) {
        return hadb_fail(err, HADB_EINVAL, "a page of a listing has 1 to %u keys, not %zu",
                         HADB_LIST_LEN_MAX, max);
    }
    struct hadb_object_list page = {0};
    r = storage->ops->list(storage->self, call, prefix, after, max, &page, err);
    HADB_ASSERT(r <= 0);
    if (r) {
        hadb_object_list_deinit(&page);
        return r;
    }
    HADB_ASSERT(page.len <= max);
    *out = page;
    return 0;
}

int hadb_storage_delete_many(struct hadb_storage *storage, const struct hadb_call *call,
                             const char *const *keys, size_t len, struct hadb_error *err)
{
    if (!storage || !storage->ops || (!keys && len > 0)) {
        return hadb_fail_misuse(err, __func__);
    }
    for (size_t i = 0; i < len; i++) {
        int r = hadb__object_key_check(keys[i], err);
        if (r) {
            return r;
        }
    }
    if (len == 0) {
        return 0;
    }
    int r = storage->ops->delete_many(storage->self, call, keys, len, err);
    HADB_ASSERT(r <= 0);
    return r;
}

/* --- the asynchronous path ---------------------------------------------------------------------- */

static int io_check(const struct hadb_storage_io *io, struct hadb_error *err)
{
    int r = hadb__object_key_check(io->key, err);
    if (r == 0 && (io->type == HADB_IO_CREATE || io->type == HADB_IO_REPLACE)) {
        r = body_check(io->body, err);
    }
    if (r == 0 && io->type == HADB_IO_REPLACE) {
        r = tag_check(io->expected, err);
    }
    if (r == 0 && io->type == HADB_IO_GET_RANGE && io->len > HADB_OBJECT_BYTES_MAX) {
        r = hadb_fail(err, HADB_ETOOBIG, "range of %zu bytes is over the limit of %u", io->len,
                      HADB_OBJECT_BYTES_MAX);
    }
    return r;
}

static bool io_usable(const struct hadb_storage_io *io)
{
    bool reads = io->type == HADB_IO_GET || io->type == HADB_IO_GET_RANGE;
    return io->done && io->type >= HADB_IO_GET && io->type <= HADB_IO_REPLACE &&
           (io->out || !reads) && (io->meta || io->type != HADB_IO_HEAD);
}

int hadb_storage_submit(struct hadb_storage *storage, struct hadb_storage_io *io,
                        struct hadb_error *err)
{
    if (!storage || !storage->ops || !io || !io_usable(io)) {
        return hadb_fail_misuse(err, __func__);
    }
    if (!HADB_HAS(storage->ops, submit, 1)) {
        return hadb_fail(err, HADB_ENOTSUP, "storage %s has no asynchronous path",
                         storage->ops->scheme);
    }
    int r = io_check(io, err);
    r = r ? r : storage->ops->submit(storage->self, io, err);
    HADB_ASSERT(r <= 0);
    return r;
}

void hadb__storage_io_done(struct hadb_storage_io *io, int r)
{
    HADB_ASSERT(r <= 0 || r == (io->type == HADB_IO_CREATE    ? HADB_EXISTS
                                : io->type == HADB_IO_REPLACE ? HADB_CAS_LOST
                                                              : HADB_ABSENT));
    HADB_ASSERT(r != 0 || io->type != HADB_IO_GET_RANGE || io->out->len <= io->len);
    io->result = r;
    io->done(io);
}

int hadb_storage_fd(struct hadb_storage *storage)
{
    return storage && storage->ops && HADB_HAS(storage->ops, fd, 1)
               ? storage->ops->fd(storage->self)
               : -1;
}

size_t hadb_storage_drive(struct hadb_storage *storage)
{
    return storage && storage->ops && HADB_HAS(storage->ops, drive, 1)
               ? storage->ops->drive(storage->self)
               : 0;
}

void hadb_storage_usage(const struct hadb_storage *storage, struct hadb_storage_usage *out)
{
    if (!out) {
        return;
    }
    *out = (struct hadb_storage_usage){0};
    if (storage && storage->ops && HADB_HAS(storage->ops, usage, 1)) {
        storage->ops->usage(storage->self, out);
    }
}

uint64_t hadb_storage_cost_nusd(const struct hadb_storage_usage *usage)
{
    return !usage ? 0 : usage->puts * HADB_PRICE_PUT_NUSD + usage->gets * HADB_PRICE_GET_NUSD;
}

uint32_t hadb_storage_caps(const struct hadb_storage *storage)
{
    return storage && storage->ops ? storage->ops->caps(storage->self) : 0;
}

void hadb_object_list_deinit(struct hadb_object_list *list)
{
    if (!list) {
        return;
    }
    for (size_t i = 0; i < list->len; i++) {
        hadb_free(list->items[i].key);
    }
    hadb_free(list->items);
    *list = (struct hadb_object_list){0};
}

int hadb__object_list_add(struct hadb_object_list *list, struct hadb_slice key, uint64_t size_bytes,
                          struct hadb_error *err)
{
    HADB_ASSERT(key.len > 0 && list->len < HADB_LIST_LEN_MAX);
    if ((list->len & (list->len - 1)) == 0) { /* room doubles whenever len is a power of two */
        size_t room = list->len ? 2 * list->len : 1;
        void *items = hadb_realloc(list->items, room * sizeof(*list->items));
        if (!items) {
            return hadb_fail_nomem(err);
        }
        list->items = items;
    }
    char *copy = hadb_malloc(key.len + 1);
    if (!copy) {
        return hadb_fail_nomem(err);
    }
    memcpy(copy, key.data, key.len);
    copy[key.len] = '\0';
    list->items[list->len].key = copy;
    list->items[list->len].size_bytes = size_bytes;
    list->len++;
    return 0;
}

int hadb__write_check(const struct hadb_env *env, const struct hadb_call *call,
                      struct hadb_error *err)
{
    int r = hadb_call_check(env, call, err);
    if (r == HADB_ETIMEDOUT) {
        return hadb_fail(err, HADB_EUNAVAIL, "deadline passed before the write, nothing written");
    }
    return r;
}
