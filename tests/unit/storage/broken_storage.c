/* SPDX-License-Identifier: Apache-2.0 */
/* The broken backends; see the header. */
#include "tests/unit/storage/broken_storage.h"

#include <string.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/thread.h"
#include "storage/wrapper_private.h"

#define SEEN_MAX 4096u
#define LARGE_BYTES 65536u

struct broken {
    struct hadb__wrapper w;
    enum broken_kind kind;
    struct hadb_mutex mu;
    unsigned creates; /* mu */
    struct {
        uint64_t key_hash;
        unsigned reads_left; /* that will say "absent" */
    } seen[SEEN_MAX];        /* mu */
    size_t seen_len;         /* mu */
};

static uint64_t hash_of(const char *key)
{
    uint64_t h = 14695981039346656037ull;
    for (; *key; key++) {
        h = (h ^ (uint8_t)*key) * 1099511628211ull;
    }
    return h;
}

/* Reads of @key still to be answered with "absent". Lock held. */
static unsigned *reads_left(struct broken *b, const char *key, unsigned initial)
{
    uint64_t h = hash_of(key);
    for (size_t i = 0; i < b->seen_len; i++) {
        if (b->seen[i].key_hash == h) {
            return &b->seen[i].reads_left;
        }
    }
    HADB_ASSERT(b->seen_len < SEEN_MAX);
    b->seen[b->seen_len].key_hash = h;
    b->seen[b->seen_len].reads_left = initial;
    return &b->seen[b->seen_len++].reads_left;
}

static bool pretend_absent(struct broken *b, const char *key, unsigned initial)
{
    hadb_mutex_lock(&b->mu);
    unsigned *left = reads_left(b, key, initial);
    bool absent = *left > 0;
    *left -= absent;
    hadb_mutex_unlock(&b->mu);
    return absent;
}

static int put(struct broken *b, const struct hadb__request *q, struct hadb_error *err)
{
    hadb_storage_delete_many(&b->w.inner, NULL, &q->key, 1, err);
    int r = hadb_storage_create(&b->w.inner, NULL, q->key, q->body, q->tag, err);
    return r == HADB_EXISTS ? 0 : r; /* two puts at once */
}

static bool there(struct broken *b, const char *key)
{
    struct hadb_object_meta meta = {0};
    return hadb_storage_head(&b->w.inner, NULL, key, &meta, NULL) == 0;
}

static int broken_create(struct broken *b, const struct hadb__request *q, struct hadb_error *err)
{
    int r = 0;
    switch (b->kind) {
    case BROKEN_CREATE_CHECKS_THEN_ACTS:
        if (there(b, q->key)) {
            return HADB_EXISTS;
        }
        hadb_sleep_ms(2, NULL); /* a window that races fall into for sure */
        return put(b, q, err);
    case BROKEN_CREATE_OVERWRITES:
        return put(b, q, err);
    case BROKEN_CREATE_LIES:
        r = hadb__request_send(&b->w.inner, q, err);
        return r == HADB_EXISTS ? 0 : r;
    case BROKEN_LOSES_REPLIES:
        hadb_mutex_lock(&b->mu);
        bool lose = ++b->creates % 3 == 0;
        hadb_mutex_unlock(&b->mu);
        r = hadb__request_send(&b->w.inner, q, err);
        return lose ? hadb_fail(err, HADB_ETIMEDOUT, "reply lost") : r;
    default:
        return hadb__request_send(&b->w.inner, q, err);
    }
}

static int broken_replace(struct broken *b, const struct hadb__request *q, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf now = {0};
    struct hadb_tag tag = {0};
    struct hadb_tag expected = *q->expected;
    switch (b->kind) {
    case BROKEN_REPLACE_IGNORES_TAG:
        return there(b, q->key) ? put(b, q, err) : HADB_CAS_LOST;
    case BROKEN_REPLACE_CHECKS_THEN_ACTS:
        if (hadb_storage_get(&b->w.inner, NULL, q->key, &now, &tag, err) != 0 ||
            strcmp(tag.s, expected.s) != 0) {
            return HADB_CAS_LOST;
        }
        hadb_sleep_ms(2, NULL);
        return put(b, q, err);
    case BROKEN_REPLACE_CREATES:
        return there(b, q->key) ? hadb__request_send(&b->w.inner, q, err) : put(b, q, err);
    case BROKEN_REPLACE_KEEPS_TAG: /* compares with bytes that it hides behind one tag */
        if (hadb_storage_get(&b->w.inner, NULL, q->key, &now, &tag, err) != 0 ||
            strcmp(expected.s, "always") != 0) {
            return HADB_CAS_LOST;
        }
        return put(b, q, err);
    default:
        return hadb__request_send(&b->w.inner, q, err);
    }
}

static int broken_read(struct broken *b, const struct hadb__request *q, struct hadb_error *err)
{
    struct hadb__request inner = *q;
    bool object = q->op != HADB_STORAGE_OP_LIST;
    if (b->kind == BROKEN_RANGE && q->op == HADB_STORAGE_OP_GET_RANGE) {
        inner.offset = 0;
    }
    if (b->kind == BROKEN_LATE_VISIBLE && object && there(b, q->key) &&
        pretend_absent(b, q->key, 1)) {
        return HADB_ABSENT;
    }
    if (b->kind == BROKEN_STALE_ABSENT && object) {
        bool is_there = there(b, q->key);
        if (pretend_absent(b, q->key, is_there ? 0 : 4) || !is_there) {
            return HADB_ABSENT;
        }
    }
    int r = hadb__request_send(&b->w.inner, &inner, err);
    if (r == 0 && q->op == HADB_STORAGE_OP_GET && q->out->len >= LARGE_BYTES) {
        q->out->len -= b->kind == BROKEN_TRUNCATES;
        q->out->data[q->out->len / 3] ^= b->kind == BROKEN_FLIPS;
    }
    if (r == 0 && b->kind == BROKEN_HEAD && q->op == HADB_STORAGE_OP_HEAD) {
        q->meta->size_bytes++;
    }
    if (r == 0 && b->kind == BROKEN_REPLACE_KEEPS_TAG && q->tag) {
        strcpy(q->tag->s, "always");
    }
    return r;
}

static int broken_around(void *self, const struct hadb__request *q, struct hadb_error *err)
{
    struct broken *b = self;
    if (b->kind == BROKEN_REFUSES) {
        return hadb_fail(err, HADB_EAUTH, "access denied");
    }
    switch (q->op) {
    case HADB_STORAGE_OP_CREATE:
        return broken_create(b, q, err);
    case HADB_STORAGE_OP_REPLACE:
        return broken_replace(b, q, err);
    case HADB_STORAGE_OP_DELETE_MANY:
        if (b->kind == BROKEN_KEEPS) {
            return hadb_fail(err, HADB_EAUTH, "deleting is not allowed");
        }
        return hadb__request_send(&b->w.inner, q, err);
    default:
        return broken_read(b, q, err);
    }
}

static uint32_t broken_caps(void *self)
{
    struct broken *b = self;
    uint32_t caps = hadb_storage_caps(&b->w.inner);
    return b->kind == BROKEN_NO_REPLACE ? caps & ~HADB_STORAGE_CAP_REPLACE : caps;
}

static void broken_deinit(void *self)
{
    struct broken *b = self;
    hadb_mutex_deinit(&b->mu);
}

static const struct hadb__steps broken_steps = {.send = broken_around, .deinit = broken_deinit};

static const struct hadb_storage_ops broken_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "broken",
    .get = hadb__wrapper_get,
    .get_range = hadb__wrapper_get_range,
    .head = hadb__wrapper_head,
    .create = hadb__wrapper_create,
    .replace = hadb__wrapper_replace,
    .list = hadb__wrapper_list,
    .delete_many = hadb__wrapper_delete_many,
    .caps = broken_caps,
    .close = hadb__wrapper_close,
};

struct hadb_storage broken_storage(enum broken_kind kind)
{
    struct hadb_storage s = {0};
    HADB_ASSERT(hadb_storage_open("mem:", NULL, &s, NULL) == 0);
    struct broken *b = hadb__wrapper_new(sizeof(*b), &s, NULL, &broken_ops, &broken_steps, &s);
    HADB_ASSERT(b);
    b->kind = kind;
    hadb_mutex_init(&b->mu, 0);
    return s;
}
