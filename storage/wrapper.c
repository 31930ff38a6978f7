/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns what the wrappers share: methods that turn a call into a value, the way back, and the blocking
 * form of a request: before, send, after, until after is content. The asynchronous form is in wrapper_async.c.
 *
 * Thread: any; constant after it was made.
 * Invariants: a wrapper owns its inner backend and reaches it only through dispatch; the inner one is taken
 * over only when the wrapper exists. Failure modes: none but HADB_ENOMEM when it is made.
 */
#include "storage/wrapper_private.h"

#include "base/alloc.h"
#include "base/env.h"
#include "base/util.h"
#include "storage/storage_private.h"

static int around(void *self, const struct hadb__request *request, struct hadb_error *err)
{
    struct hadb__wrapper *w = self;
    const struct hadb__steps *steps = w->steps;
    struct hadb__frame f = {.w = w, .request = *request};
    bool again = true;
    while (again) {
        f.r = steps->before ? steps->before(&f) : 0;
        if (f.r != 0) {
            HADB_ASSERT(f.r < 0);
            break;
        }
        f.err = (struct hadb_error){0};
        f.r = steps->send ? steps->send(w, &f.request, &f.err)
                          : hadb__request_send(&w->inner, &f.request, &f.err);
        again = steps->after && steps->after(&f);
        if (again) {
            steps->pause(&f);
        }
    }
    if (err && f.r < 0) {
        *err = f.err;
    }
    return f.r;
}

int hadb__wrapper_get(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__request request = {
        .op = HADB_STORAGE_OP_GET, .call = call, .key = key, .out = out, .tag = tag};
    return around(self, &request, err);
}

int hadb__wrapper_get_range(void *self, const struct hadb_call *call, const char *key,
                            uint64_t offset, size_t len, struct hadb_buf *out,
                            struct hadb_error *err)
{
    struct hadb__request request = {.op = HADB_STORAGE_OP_GET_RANGE,
                                    .call = call,
                                    .key = key,
                                    .offset = offset,
                                    .len = len,
                                    .out = out};
    return around(self, &request, err);
}

int hadb__wrapper_head(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_object_meta *out, struct hadb_error *err)
{
    struct hadb__request request = {
        .op = HADB_STORAGE_OP_HEAD, .call = call, .key = key, .meta = out};
    return around(self, &request, err);
}

int hadb__wrapper_create(void *self, const struct hadb_call *call, const char *key,
                         struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__request request = {
        .op = HADB_STORAGE_OP_CREATE, .call = call, .key = key, .body = body, .tag = tag};
    return around(self, &request, err);
}

int hadb__wrapper_replace(void *self, const struct hadb_call *call, const char *key,
                          struct hadb_slice body, const struct hadb_tag *expected,
                          struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb__request request = {.op = HADB_STORAGE_OP_REPLACE,
                                    .call = call,
                                    .key = key,
                                    .body = body,
                                    .expected = expected,
                                    .tag = tag};
    return around(self, &request, err);
}

int hadb__wrapper_list(void *self, const struct hadb_call *call, const char *prefix,
                       const char *after, size_t max, struct hadb_object_list *out,
                       struct hadb_error *err)
{
    struct hadb__request request = {.op = HADB_STORAGE_OP_LIST,
                                    .call = call,
                                    .key = prefix,
                                    .after = after,
                                    .len = max,
                                    .list = out};
    return around(self, &request, err);
}

int hadb__wrapper_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                              size_t len, struct hadb_error *err)
{
    struct hadb__request request = {
        .op = HADB_STORAGE_OP_DELETE_MANY, .call = call, .keys = keys, .len = len};
    return around(self, &request, err);
}

uint32_t hadb__wrapper_caps(void *self)
{
    return hadb_storage_caps(&((struct hadb__wrapper *)self)->inner);
}

void hadb__wrapper_usage(void *self, struct hadb_storage_usage *out)
{
    hadb_storage_usage(&((struct hadb__wrapper *)self)->inner, out);
}

int hadb__request_send(struct hadb_storage *s, const struct hadb__request *q,
                       struct hadb_error *err)
{
    switch (q->op) {
    case HADB_STORAGE_OP_GET:
        return hadb_storage_get(s, q->call, q->key, q->out, q->tag, err);
    case HADB_STORAGE_OP_GET_RANGE:
        return hadb_storage_get_range(s, q->call, q->key, q->offset, q->len, q->out, err);
    case HADB_STORAGE_OP_HEAD:
        return hadb_storage_head(s, q->call, q->key, q->meta, err);
    case HADB_STORAGE_OP_CREATE:
        return hadb_storage_create(s, q->call, q->key, q->body, q->tag, err);
    case HADB_STORAGE_OP_REPLACE:
        return hadb_storage_replace(s, q->call, q->key, q->body, q->expected, q->tag, err);
    case HADB_STORAGE_OP_LIST:
        return hadb_storage_list(s, q->call, q->key, q->after, q->len, q->list, err);
    case HADB_STORAGE_OP_DELETE_MANY:
        return hadb_storage_delete_many(s, q->call, q->keys, q->len, err);
    case HADB_STORAGE_OP_LEN:
        break;
    }
    HADB_ASSERT(!"an operation that exists");
    return HADB_EINVAL;
}

uint64_t hadb__request_bytes(const struct hadb__request *request)
{
    return request->out ? request->out->len : request->body.len;
}

int hadb__request_check(const struct hadb__wrapper *w, const struct hadb__request *request,
                        struct hadb_error *err)
{
    return hadb_storage_op_writes(request->op) ? hadb__write_check(w->env, request->call, err)
                                               : hadb_call_check(w->env, request->call, err);
}

void *hadb__wrapper_new(size_t size, struct hadb_storage *take_inner, const struct hadb_env *env,
                        const struct hadb_storage_ops *ops, const struct hadb__steps *steps,
                        struct hadb_storage *out)
{
    HADB_ASSERT(take_inner && out && size >= sizeof(struct hadb__wrapper));
    HADB_ASSERT(hadb_storage_check(take_inner, NULL) == 0);
    struct hadb__wrapper *w = hadb_calloc(1, size);
    if (!w) {
        return NULL;
    }
    w->inner = *take_inner;
    w->env = hadb_env_or_host(env);
    w->steps = steps;
    w->epoll_fd = w->timer_fd = w->wake_fd = -1;
    *take_inner = (struct hadb_storage){0};
    *out = (struct hadb_storage){.ops = ops, .self = w};
    return w;
}

void hadb__wrapper_close(void *self)
{
    struct hadb__wrapper *w = self;
    hadb__wrapper_end_frames(w);
    hadb_storage_close(&w->inner); /* reports what is still inside */
    HADB_ASSERT(w->frames_len == 0);
    hadb__wrapper_close_fds(w);
    if (w->steps->deinit) {
        w->steps->deinit(w);
    }
    hadb_free(w);
}
