/* SPDX-License-Identifier: Apache-2.0 */
/* See flaky.h. Any thread. */
#include "tests/integration/flaky.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "tests/support/async_storage.h"

static bool take(int *count)
{
    int left = __atomic_load_n(count, __ATOMIC_SEQ_CST);
    while (left > 0) {
        if (__atomic_compare_exchange_n(count, &left, left - 1, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST)) {
            return true;
        }
    }
    return false;
}

/* No request gets in while it is down, or refuses. */
static bool is_down(struct flaky *f)
{
    bool down = __atomic_load_n(&f->down, __ATOMIC_SEQ_CST) != 0;
    if (down) {
        __atomic_fetch_add(&f->asked_down, 1, __ATOMIC_SEQ_CST);
    }
    return down || __atomic_load_n(&f->refuse, __ATOMIC_SEQ_CST) != 0;
}

static int lost(struct hadb_error *err)
{
    return hadb_fail(err, HADB_ETIMEDOUT, "the store does not answer");
}

static bool is_full(struct flaky *f)
{
    return __atomic_load_n(&f->full, __ATOMIC_SEQ_CST) != 0;
}

static int no_space(struct hadb_error *err)
{
    return hadb_fail(err, HADB_ENOSPC, "the store is full");
}

static int no_answer(struct flaky *f, struct hadb_error *err)
{
    return __atomic_load_n(&f->down, __ATOMIC_SEQ_CST)
               ? lost(err)
               : hadb_fail(err, HADB_EAUTH, "not with these credentials");
}

static bool in_log(const char *key)
{
    return strstr(key, "/log/") != NULL;
}

/* The reply is on its way until the test lets it through, half a minute at most. */
static void hold(struct flaky *f)
{
    __atomic_fetch_add(&f->held, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 15000 && __atomic_load_n(&f->hold_replies, __ATOMIC_SEQ_CST) >= 0; i++) {
        struct timespec wait = {.tv_nsec = 2000000};
        nanosleep(&wait, NULL);
    }
    __atomic_fetch_sub(&f->held, 1, __ATOMIC_SEQ_CST);
}

static int flaky_get(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct flaky *f = self;
    if (is_down(f)) {
        return no_answer(f, err);
    }
    int r = hadb_storage_get(&f->inner, call, key, out, tag, err);
    if (in_log(key)) {
        __atomic_fetch_add(&f->log_gets, 1, __ATOMIC_SEQ_CST);
    }
    if (r == 0 && in_log(key) && out->len > 0 && take(&f->corrupt_gets)) {
        out->data[out->len / 2] ^= 1;
    }
    if (r == 0 && strstr(key, "/snap/") &&
        __atomic_load_n(&f->garble_snapshots, __ATOMIC_SEQ_CST)) {
        out->data[out->len / 2] ^= 1;
    }
    return r;
}

static int flaky_create(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    struct flaky *f = self;
    if (is_down(f)) {
        return no_answer(f, err);
    }
    if (is_full(f)) {
        return no_space(err);
    }
    if (strstr(key, "/snap/") && __atomic_load_n(&f->refuse_snapshots, __ATOMIC_SEQ_CST)) {
        return hadb_fail(err, HADB_EAUTH, "no snapshots today");
    }
    int r = hadb_storage_create(&f->inner, call, key, body, tag, err);
    if (r == 0 && in_log(key) && take(&f->hold_replies)) {
        hold(f);
    }
    if (r == HADB_EXISTS && __atomic_load_n(&f->racy, __ATOMIC_SEQ_CST)) {
        return 0;
    }
    return r == 0 && in_log(key) && take(&f->lose_replies) ? lost(err) : r;
}

static int flaky_replace(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, const struct hadb_tag *expected,
                         struct hadb_tag *tag, struct hadb_error *err)
{
    struct flaky *f = self;
    if (is_down(f)) {
        return no_answer(f, err);
    }
    if (is_full(f)) {
        return no_space(err);
    }
    int r = hadb_storage_replace(&f->inner, call, key, body, expected, tag, err);
    return r == 0 && strstr(key, "/manifest") && take(&f->lose_cas) ? lost(err) : r;
}

static int flaky_list(void *self, const struct hadb_call *call, const char *prefix,
                      const char *after, size_t max, struct hadb_object_list *out,
                      struct hadb_error *err)
{
    struct flaky *f = self;
    return is_down(f) ? no_answer(f, err)
                      : hadb_storage_list(&f->inner, call, prefix, after, max, out, err);
}

static int flaky_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                             size_t len, struct hadb_error *err)
{
    struct flaky *f = self;
    return is_down(f) ? no_answer(f, err)
                      : hadb_storage_delete_many(&f->inner, call, keys, len, err);
}

static uint32_t flaky_caps(void *self)
{
    struct flaky *f = self;
    return hadb_storage_caps(&f->inner);
}

static void flaky_close(void *self)
{
    struct flaky *f = self;
    hadb_storage_close(&f->inner);
}

static const struct hadb_storage_ops flaky_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "flaky",
    .get = flaky_get,
    .create = flaky_create,
    .replace = flaky_replace,
    .list = flaky_list,
    .delete_many = flaky_delete_many,
    .caps = flaky_caps,
    .close = flaky_close,
};

void flaky_open(struct flaky *flaky, const char *url, struct hadb_storage *out)
{
    *flaky = (struct flaky){0};
    if (hadb_storage_open(url, NULL, &flaky->inner, NULL) != 0) {
        abort();
    }
    *out = (struct hadb_storage){.ops = &flaky_ops, .self = flaky};
    test_async_storage_if_asked(out);
}
