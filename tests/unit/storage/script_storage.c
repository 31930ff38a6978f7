/* SPDX-License-Identifier: Apache-2.0 */
/* The scripted backend; see the header. */
#include "tests/unit/storage/script_storage.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "storage/storage_private.h"

void script_init(struct script *s)
{
    *s = (struct script){0};
    hadb_mutex_init(&s->mu, 0);
    hadb_cond_init(&s->moved);
}

void script_deinit(struct script *s)
{
    hadb_cond_deinit(&s->moved);
    hadb_mutex_deinit(&s->mu);
}

void script_add(struct script *s, int result, size_t times)
{
    for (; times > 0; times--) {
        HADB_ASSERT(s->len < SCRIPT_LEN_MAX);
        s->answers[s->len++].result = result;
    }
}

void script_hold(struct script *s, bool hold)
{
    hadb_mutex_lock(&s->mu);
    s->hold = hold;
    hadb_cond_broadcast(&s->moved);
    hadb_mutex_unlock(&s->mu);
}

void script_await(struct script *s, unsigned inside)
{
    hadb_mutex_lock(&s->mu);
    while (s->inside < inside) {
        hadb_cond_wait(&s->moved, &s->mu);
    }
    hadb_mutex_unlock(&s->mu);
}

size_t script_calls(struct script *s)
{
    hadb_mutex_lock(&s->mu);
    size_t calls = s->calls;
    hadb_mutex_unlock(&s->mu);
    return calls;
}

static int answer(struct script *s, const char *key, const char *after, struct hadb_error *err)
{
    hadb_mutex_lock(&s->mu);
    size_t at = s->calls++;
    snprintf(s->last_key, sizeof(s->last_key), "%s", key);
    snprintf(s->last_after, sizeof(s->last_after), "%s", after);
    if (at < SCRIPT_LEN_MAX) {
        s->order[at] = key[0];
    }
    s->inside++;
    s->inside_max = HADB_MAX(s->inside_max, s->inside);
    hadb_cond_broadcast(&s->moved);
    while (s->hold) {
        hadb_cond_wait(&s->moved, &s->mu);
    }
    s->inside--;
    int r = at < s->len ? s->answers[at].result : 0;
    bool flip = at < s->len && s->answers[at].flip_retryable;
    int http_status = at < s->len ? s->answers[at].http_status : 0;
    hadb_mutex_unlock(&s->mu);
    if (r < 0) {
        hadb_fail(err, r, "answer %zu of the script", at);
        if (flip && err) {
            err->retryable = !err->retryable;
        }
        if (err) {
            err->http_status = http_status;
        }
    }
    return r;
}

static int script_get(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    (void)tag;
    int r = answer(self, key, "", err);
    if (r == 0) {
        hadb_buf_clear(out);
        r = hadb_buf_append_str(out, "scripted");
    }
    return r;
}

static int script_head(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_object_meta *out, struct hadb_error *err)
{
    (void)call;
    (void)out;
    return answer(self, key, "", err);
}

static int script_create(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    (void)body;
    (void)tag;
    return answer(self, key, "", err);
}

static int script_replace(void *self, const struct hadb_call *call, const char *key,
                          struct hadb_slice body, const struct hadb_tag *expected,
                          struct hadb_tag *tag, struct hadb_error *err)
{
    (void)call;
    (void)body;
    (void)expected;
    (void)tag;
    return answer(self, key, "", err);
}

static int script_list(void *self, const struct hadb_call *call, const char *prefix,
                       const char *after, size_t max, struct hadb_object_list *out,
                       struct hadb_error *err)
{
    struct script *s = self;
    (void)call;
    (void)max;
    int r = answer(s, prefix, after, err);
    if (r == 0 && s->list_key) {
        r = hadb__object_list_add(out, hadb_slice_str(s->list_key), 1, err);
    }
    return r;
}

static int script_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                              size_t len, struct hadb_error *err)
{
    (void)call;
    return answer(self, keys[len - 1], "", err);
}

static uint32_t script_caps(void *self)
{
    (void)self;
    return HADB_STORAGE_CAP_REPLACE | HADB_STORAGE_CAP_SHARED;
}

static void script_close(void *self)
{
    struct script *s = self;
    hadb_mutex_lock(&s->mu);
    s->closed++;
    hadb_mutex_unlock(&s->mu);
}

static const struct hadb_storage_ops script_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "script",
    .get = script_get,
    .head = script_head,
    .create = script_create,
    .replace = script_replace,
    .list = script_list,
    .delete_many = script_delete_many,
    .caps = script_caps,
    .close = script_close,
};

struct hadb_storage script_storage(struct script *s)
{
    return (struct hadb_storage){.ops = &script_ops, .self = s};
}

static void ask_elsewhere(void *arg)
{
    struct asker *a = arg;
    struct hadb_buf got = {0};
    a->result = hadb_storage_get(a->s, a->call, a->key, &got, NULL, NULL);
    hadb_buf_deinit(&got);
}

void asker_start(struct asker *a, struct hadb_storage *s, const char *key,
                 const struct hadb_call *call)
{
    *a = (struct asker){.s = s, .key = key, .call = call};
    HADB_ASSERT(hadb_thread_start(&a->thread, "asker", ask_elsewhere, a, NULL) == 0);
}
