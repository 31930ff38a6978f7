/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the backend "http(s)://[user:password@|token@]host[:port][/base][?prefix=P]": the REST service of
 * docs/storage-http.md, which `hadb storage-server` provides.
 *
 * Thread: any; constant after open but for the pool of connections, the counters, and the engine, which belongs to the
 * thread of submit and drive.
 * Invariants: one call is one request, sent once (delete_many: one per 1000 keys). The tag is the server's ETag, quotes
 * and all. done is called from drive or close, once per accepted request.
 * Happy path: build → perform, or submit and drive → outcome → outputs.
 * Failure modes: storage/blob_wire.c.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/blob_wire.h"
#include "storage/http_engine.h"
#include "storage/storage_private.h"
#include "storage/wrap.h"

struct store {
    struct hadb__rest rest;
    struct hadb__engine *engine;     /* thread of submit and drive */
    struct hadb_storage_usage usage; /* atomic */
};

static int may_start(const struct store *s, const struct hadb_call *call, enum hadb_storage_op op,
                     struct hadb_error *err)
{
    return hadb_storage_op_writes(op) ? hadb__write_check(s->rest.env, call, err)
                                      : hadb_call_check(s->rest.env, call, err);
}

static void count(struct store *s, const struct hadb__blob_request *q,
                  const struct hadb__http_reply *reply)
{
    hadb__http_count(&s->usage, q->rest.http.method, q->op == HADB_STORAGE_OP_LIST,
                     q->rest.http.body.len, reply, hadb_now_unix_ms(s->rest.env) / 1000);
}

/* Room for what a write may be answered, before it leaves. */
static int make_room(const struct hadb__blob_request *q, struct hadb__http_reply *reply,
                     struct hadb_error *err)
{
    bool full =
        q->rest.http.writes && hadb_buf_reserve(&reply->body, HADB_REST_WRITE_REPLY_BYTES_MAX);
    return full ? hadb_fail_nomem(err) : 0;
}

/* Performs a request that was built, and judges it. */
static int perform(struct store *s, const struct hadb_call *call, struct hadb__blob_request *q,
                   struct hadb__http_reply *reply, struct hadb_error *err)
{
    int r = may_start(s, call, q->op, err);
    r = r ? r : make_room(q, reply, err);
    if (r) {
        return r;
    }
    hadb__http_perform(s->rest.http, &q->rest.http, call, reply);
    count(s, q, reply);
    return hadb__blob_outcome(&s->rest, q, reply, err);
}

/* --- operations on one object -------------------------------------------------------------------- */

/* A tag of another store is nobody's here, and no header either. */
static bool is_foreign(const struct hadb_storage_io *io)
{
    return io->type == HADB_IO_REPLACE && !hadb__rest_tag_is_strong(io->expected->s);
}

static int run(struct store *s, const struct hadb_storage_io *io, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__blob_request_deinit) struct hadb__blob_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    if (is_foreign(io)) {
        int r = may_start(s, io->call, HADB_STORAGE_OP_REPLACE, err);
        return r ? r : HADB_CAS_LOST;
    }
    int r = hadb__blob_build(&s->rest, io, &q, err);
    if (r) {
        return r;
    }
    hadb__http_io_lend(io, &reply);
    r = perform(s, io->call, &q, &reply, err);
    r = r ? r : hadb__http_io_take(io, &reply, err);
    if (r) {
        hadb__http_io_return(io, &reply);
    }
    return r;
}

static int http_get(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
                    struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb_storage_io io = {
        .type = HADB_IO_GET, .call = call, .key = key, .out = out, .tag = tag};
    return run(self, &io, err);
}

static int http_get_range(void *self, const struct hadb_call *call, const char *key,
                          uint64_t offset, size_t len, struct hadb_buf *out, struct hadb_error *err)
{
    struct hadb_storage_io io = {.type = HADB_IO_GET_RANGE,
                                 .call = call,
                                 .key = key,
                                 .offset = offset,
                                 .len = len,
                                 .out = out};
    return run(self, &io, err);
}

static int http_head(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_object_meta *out, struct hadb_error *err)
{
    struct hadb_storage_io io = {.type = HADB_IO_HEAD, .call = call, .key = key, .meta = out};
    return run(self, &io, err);
}

static int http_create(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb_storage_io io = {
        .type = HADB_IO_CREATE, .call = call, .key = key, .body = body, .tag = tag};
    return run(self, &io, err);
}

static int http_replace(void *self, const struct hadb_call *call, const char *key,
                        struct hadb_slice body, const struct hadb_tag *expected,
                        struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb_storage_io io = {.type = HADB_IO_REPLACE,
                                 .call = call,
                                 .key = key,
                                 .body = body,
                                 .expected = expected,
                                 .tag = tag};
    return run(self, &io, err);
}

/* --- many objects ------------------------------------------------------------------------------- */

static int http_list(void *self, const struct hadb_call *call, const char *prefix,
                     const char *after, size_t max, struct hadb_object_list *out,
                     struct hadb_error *err)
{
    struct store *s = self;
    HADB_CLEANUP(hadb__blob_request_deinit) struct hadb__blob_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    int r = hadb__blob_build_list(&s->rest, call, prefix, after, max, &q, err);
    r = r ? r : perform(s, call, &q, &reply, err);
    if (r) {
        return r;
    }
    r = hadb__blob_list(hadb_buf_slice(&reply.body), prefix, after, max, out, err);
    return hadb__rest_wrap(&s->rest, hadb_storage_op_name(q.op), r, err);
}

static int http_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                            size_t len, struct hadb_error *err)
{
    struct store *s = self;
    int r = 0;
    for (size_t i = 0; i < len && r == 0; i += HADB_BLOB_DELETE_LEN_MAX) {
        HADB_CLEANUP(hadb__blob_request_deinit) struct hadb__blob_request q = {0};
        HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
        size_t batch = HADB_MIN(len - i, (size_t)HADB_BLOB_DELETE_LEN_MAX);
        r = hadb__blob_build_delete(&s->rest, call, keys + i, batch, &q, err);
        r = r ? r : perform(s, call, &q, &reply, err);
    }
    return r;
}

/* --- without blocking --------------------------------------------------------------------------- */

struct op {
    struct store *s;
    struct hadb_storage_io *io;
    struct hadb__task task;
    struct hadb__blob_request q;
    struct hadb__http_reply reply;
};

static void op_free(struct op *op)
{
    hadb__blob_request_deinit(&op->q);
    hadb__http_reply_deinit(&op->reply);
    hadb_free(op);
}

static void on_done(struct hadb__task *task)
{
    struct op *op = task->arg;
    struct hadb_storage_io *io = op->io;
    count(op->s, &op->q, &op->reply);
    int r = hadb__blob_outcome(&op->s->rest, &op->q, &op->reply, &io->err);
    r = r ? r : hadb__http_io_take(io, &op->reply, &io->err);
    if (r) {
        hadb__http_io_return(io, &op->reply);
    }
    op_free(op);
    hadb__storage_io_done(io, r);
}

static int start(struct op *op, struct hadb_error *err)
{
    struct store *s = op->s;
    int r = hadb__blob_build(&s->rest, op->io, &op->q, err);
    r = r ? r : may_start(s, op->io->call, op->q.op, err);
    r = r ? r : make_room(&op->q, &op->reply, err);
    op->task = (struct hadb__task){.request = op->q.rest.http,
                                   .call = op->io->call,
                                   .reply = &op->reply,
                                   .done = on_done,
                                   .arg = op};
    return r ? r : hadb__engine_start(s->engine, &op->task, err);
}

static int http_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err)
{
    if (is_foreign(io)) {
        return hadb_fail(err, HADB_EBUSY, "a tag of another store: use the blocking method");
    }
    struct op *op = hadb_calloc(1, sizeof(*op));
    if (!op) {
        return hadb_fail_nomem(err);
    }
    op->s = self;
    op->io = io;
    io->err = (struct hadb_error){0};
    hadb__http_io_lend(io, &op->reply);
    int r = start(op, err);
    if (r) {
        hadb__http_io_return(io, &op->reply);
        op_free(op);
    }
    return r;
}

static int http_fd(void *self)
{
    return hadb__engine_fd(((struct store *)self)->engine);
}

static size_t http_drive(void *self)
{
    return hadb__engine_drive(((struct store *)self)->engine);
}

/* --- life --------------------------------------------------------------------------------------- */

static uint32_t http_caps(void *self)
{
    (void)self;
    return HADB_STORAGE_CAP_REPLACE | HADB_STORAGE_CAP_DURABLE | HADB_STORAGE_CAP_SHARED;
}

static void http_usage(void *self, struct hadb_storage_usage *out)
{
    hadb__http_usage(&((struct store *)self)->usage, out);
}

static void http_close(void *self)
{
    struct store *s = self;
    hadb__engine_close(s->engine);
    hadb__rest_deinit(&s->rest);
    hadb_free(s);
}

static const struct hadb_storage_ops http_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "http",
    .get = http_get,
    .get_range = http_get_range,
    .head = http_head,
    .create = http_create,
    .replace = http_replace,
    .list = http_list,
    .delete_many = http_delete_many,
    .caps = http_caps,
    .close = http_close,
    .submit = http_submit,
    .fd = http_fd,
    .drive = http_drive,
    .usage = http_usage,
};

static int http_init(struct store *s, const struct hadb_url *url, const struct hadb_env *env,
                     struct hadb_error *err)
{
    static const char *const known[] = {HADB_PLACE_PARAMS, "prefix", NULL};
    static const struct hadb__rest_kind kind = {.component = "storage",
                                                .service = "storage service",
                                                .base = "/v1/storage",
                                                .known = known};
    int r = hadb__rest_open(url, env, &kind, &s->rest, err);
    r = r ? r : hadb__engine_open(env, &s->engine, err);
    const struct hadb__net_place *place = &s->rest.place;
    if (r == 0 && !place->tls && !place->loopback && !s->rest.authorization) {
        hadb_log(env, HADB_LOG_WARN, "storage", NULL,
                 "%s is not encrypted: everybody on the way can read what is stored",
                 place->hosts[0].name);
    }
    return r;
}

int hadb__storage_http_open(const struct hadb_url *url, const struct hadb_env *env,
                            struct hadb_storage *out, struct hadb_error *err)
{
    const char *prefix = hadb_url_param(url, "prefix");
    struct store *s = hadb_calloc(1, sizeof(*s));
    if (!s) {
        return hadb_fail_nomem(err);
    }
    int r = http_init(s, url, env, err);
    if (r) {
        http_close(s);
        return r;
    }
    struct hadb_storage storage = {.ops = &http_ops, .self = s};
    r = prefix ? hadb_storage_with_prefix(&storage, prefix, env, &storage, err) : 0;
    if (r) {
        hadb_storage_close(&storage);
        return r;
    }
    *out = storage;
    return 0;
}
