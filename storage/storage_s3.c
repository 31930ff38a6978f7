/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the backend "s3://": one call of the interface → one request, built, signed, performed, judged.
 *
 * Thread: any; all blocking. Shared by callers: the pool of connections, the credentials, the clock offset.
 * Invariants: nothing is repeated here but a request that the server refused for its clock or its credentials,
 * and that once: a refusal is proof that nothing was written. Retries are with_retry's.
 * Happy path: credentials → build → sign → perform → outcome. Large objects: storage_s3_upload.c; without
 * blocking: storage_s3_submit.c.
 * Failure modes: storage/s3_outcome.c.
 *
 * Atomics: the clock offset (relaxed: any of the values that were learnt will do).
 */
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/environ.h"
#include "base/error.h"
#include "storage/key.h"
#include "storage/storage_private.h"
#include "storage/storage_s3_private.h"

#define ATTEMPTS_MAX 2u
#define LIST_PAGES_MAX 1000u /* of foreign names in a row, before a listing gives up */

int64_t hadb__s3_now(const struct hadb__s3 *s)
{
    return hadb_now_unix_ms(s->env) / 1000 + __atomic_load_n(&s->clock_offset_s, __ATOMIC_RELAXED);
}

struct hadb__http_request hadb__s3_http_request(const struct hadb__s3 *s,
                                                const struct hadb__s3_request *q)
{
    return (struct hadb__http_request){
        .method = q->method,
        .url = (const char *)q->url.data,
        .headers = q->headers,
        .headers_len = q->headers_len,
        .body = q->body,
        .writes = hadb_storage_op_writes(q->op),
        .reply_bytes_max = q->reply_bytes_max,
        .connect_ms_max = s->config.connect_ms_max,
        .idle_ms_max = s->config.idle_ms_max,
        .ca = s->config.ca,
        .direct = s->config.loopback,
        .dated = q->step == HADB__S3_UPLOADS,
    };
}

void hadb__s3_count(struct hadb__s3 *s, const struct hadb__s3_request *q,
                    const struct hadb__http_reply *reply)
{
    hadb__http_count(&s->usage, q->method, q->op == HADB_STORAGE_OP_LIST, q->body.len, reply,
                     hadb_now_unix_ms(s->env) / 1000);
}

void hadb__s3_learn_clock(struct hadb__s3 *s, int64_t signed_at_s, int64_t server_s)
{
    int64_t offset = server_s - hadb_now_unix_ms(s->env) / 1000;
    __atomic_store_n(&s->clock_offset_s, offset, __ATOMIC_RELAXED);
    hadb_log(s->env, HADB_LOG_WARN, "storage", NULL,
             "the clock of %s differs by %lld s from ours: requests are signed with its time",
             s->config.endpoint, (long long)(server_s - signed_at_s));
}

int hadb__s3_may_start(struct hadb__s3 *s, const struct hadb_call *call, enum hadb_storage_op op,
                       struct hadb_error *err)
{
    return hadb_storage_op_writes(op) ? hadb__write_check(s->env, call, err)
                                      : hadb_call_check(s->env, call, err);
}

/* What attempts at one request hand on. */
struct attempts {
    enum hadb__s3_advice advice;
    struct hadb__s3_creds *creds; /* of the last one */
};

static void attempts_deinit(struct attempts *a)
{
    hadb__s3_creds_unref(a->creds);
}

/* Fresh credentials for another attempt; settles the request when there are no others. */
static int take_creds(struct hadb__s3 *s, const struct hadb_call *call, struct attempts *a,
                      struct hadb_error *err)
{
    struct hadb__s3_creds *creds = NULL;
    if (a->advice == HADB__S3_RENEW_CREDENTIALS) {
        hadb__s3_provider_reject(s->provider, a->creds);
    }
    int r = hadb__s3_provider_get(s->provider, call, &creds, err);
    if (r) {
        return r;
    }
    if (a->advice == HADB__S3_RENEW_CREDENTIALS && hadb__s3_creds_eq(creds, a->creds)) {
        a->advice = HADB__S3_SETTLED;
    }
    hadb__s3_creds_unref(a->creds);
    a->creds = creds;
    return 0;
}

static int attempt(struct hadb__s3 *s, const struct hadb_call *call, struct hadb__s3_request *q,
                   struct hadb__http_reply *reply, struct attempts *a, struct hadb_error *err)
{
    bool first = a->creds == NULL;
    int r = hadb__s3_may_start(s, call, q->op, err);
    r = r ? r : take_creds(s, call, a, err);
    if (r || (!first && a->advice == HADB__S3_SETTLED)) {
        return r;
    }
    int64_t now_s = hadb__s3_now(s);
    r = hadb__s3_sign_request(&s->config, a->creds, now_s, q, err);
    if (r) {
        return r;
    }
    struct hadb__http_request request = hadb__s3_http_request(s, q);
    hadb__http_perform(s->http, &request, call, reply);
    hadb__s3_count(s, q, reply);
    a->advice = hadb__s3_advise(q, reply, now_s);
    if (a->advice == HADB__S3_LEARN_CLOCK) {
        hadb__s3_learn_clock(s, now_s, reply->date_unix_s);
    }
    return 0;
}

/* One attempt, and another after a refusal that a fresh signature can mend. */
int hadb__s3_perform(struct hadb__s3 *s, const struct hadb_call *call, struct hadb__s3_request *q,
                     struct hadb__http_reply *reply, struct hadb_error *err)
{
    HADB_CLEANUP(attempts_deinit) struct attempts a = {0};
    for (unsigned i = 0; i < ATTEMPTS_MAX && (i == 0 || a.advice != HADB__S3_SETTLED); i++) {
        int r = attempt(s, call, q, reply, &a, err);
        if (r == HADB_ETIMEDOUT && hadb_storage_op_writes(q->op)) {
            return hadb_fail(err, HADB_EUNAVAIL, "the deadline passed before anything was sent");
        }
        if (r) {
            return r; /* a first attempt, if there was one, was refused: nothing is written */
        }
    }
    return hadb__s3_outcome(&s->config, q, reply, err);
}

/* --- operations on one object -------------------------------------------------------------------- */

int hadb__s3_io_build(const struct hadb__s3_config *config, const struct hadb_storage_io *io,
                      struct hadb__s3_request *out, struct hadb_error *err)
{
    switch (io->type) {
    case HADB_IO_GET:
        return hadb__s3_build_get(config, io->key, out, err);
    case HADB_IO_GET_RANGE:
        return hadb__s3_build_range(config, io, out, err);
    case HADB_IO_HEAD:
        return hadb__s3_build_head(config, io->key, out, err);
    default:
        return hadb__s3_build_put(config, io->key, io->body,
                                  io->type == HADB_IO_REPLACE ? io->expected : NULL, out, err);
    }
}

/* Asks for the first byte: is the object really absent? */
static int confirm(struct hadb__s3 *s, const struct hadb_storage_io *io,
                   struct hadb__http_reply *reply, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    struct hadb_storage_io first = {.type = HADB_IO_GET_RANGE, .key = io->key, .len = 1};
    int r = hadb__s3_build_range(&s->config, &first, &q, err);
    r = r ? r : hadb__s3_perform(s, io->call, &q, reply, err);
    return hadb__s3_confirmed(r, err);
}

static int run(struct hadb__s3 *s, const struct hadb_storage_io *io, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    int r = hadb__s3_io_build(&s->config, io, &q, err);
    if (r) {
        return r;
    }
    hadb__http_io_lend(io, &reply);
    r = hadb__s3_perform(s, io->call, &q, &reply, err);
    if (hadb__s3_is_doubtful(&q, &reply, r)) {
        r = confirm(s, io, &reply, err);
    }
    r = r ? r : hadb__http_io_take(io, &reply, err);
    if (r) {
        hadb__http_io_return(io, &reply);
    }
    return r;
}

static int s3_get(void *self, const struct hadb_call *call, const char *key, struct hadb_buf *out,
                  struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb_storage_io io = {
        .type = HADB_IO_GET, .call = call, .key = key, .out = out, .tag = tag};
    return run(self, &io, err);
}

static int s3_head(void *self, const struct hadb_call *call, const char *key,
                   struct hadb_object_meta *out, struct hadb_error *err)
{
    struct hadb_storage_io io = {.type = HADB_IO_HEAD, .call = call, .key = key, .meta = out};
    return run(self, &io, err);
}

static int s3_get_range(void *self, const struct hadb_call *call, const char *key, uint64_t offset,
                        size_t len, struct hadb_buf *out, struct hadb_error *err)
{
    struct hadb_storage_io io = {.type = HADB_IO_GET_RANGE,
                                 .call = call,
                                 .key = key,
                                 .offset = offset,
                                 .len = len,
                                 .out = out};
    return run(self, &io, err);
}

static int s3_create(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_slice body, struct hadb_tag *tag, struct hadb_error *err)
{
    struct hadb_storage_io io = {
        .type = HADB_IO_CREATE, .call = call, .key = key, .body = body, .tag = tag};
    return body.len > HADB_S3_WHOLE_BYTES_MAX ? hadb__s3_upload(self, &io, err)
                                              : run(self, &io, err);
}

static int s3_replace(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice body, const struct hadb_tag *expected, struct hadb_tag *tag,
                      struct hadb_error *err)
{
    struct hadb_storage_io io = {.type = HADB_IO_REPLACE,
                                 .call = call,
                                 .key = key,
                                 .body = body,
                                 .expected = expected,
                                 .tag = tag};
    return run(self, &io, err);
}

/* --- listing ------------------------------------------------------------------------------------ */

struct page {
    const struct hadb__s3_config *config;
    const char *prefix;    /* whole names start with it */
    size_t seen;           /* names, keys or not */
    struct hadb_buf after; /* the last name that was seen; NUL-terminated */
    struct hadb_object_list *out;
    size_t max;
    struct hadb_error *err;
};

/* One object of a listing. Names that are no keys of ours (markers of folders, say) are passed over. */
static int page_add(void *arg, struct hadb_slice name, uint64_t size_bytes)
{
    struct page *page = arg;
    struct hadb_slice prefix = hadb_slice_str(page->prefix);
    if (!hadb_slice_starts(name, prefix) || memchr(name.data, '\0', name.len) ||
        hadb_slice_cmp(name, hadb_buf_slice(&page->after)) <= 0) {
        return HADB_ECORRUPT; /* not what was asked for, or not in order */
    }
    page->seen++;
    hadb_buf_clear(&page->after);
    if (hadb_buf_append(&page->after, name.data, name.len) || !hadb_buf_cstr(&page->after)) {
        return HADB_ENOMEM;
    }
    size_t skip = strlen(page->config->prefix) + (page->config->prefix[0] != '\0');
    HADB_ASSERT(skip <= prefix.len);
    const char *key = (const char *)page->after.data + skip;
    if (hadb__object_key_check(key, NULL)) {
        return 0;
    }
    if (page->out->len == page->max) {
        return HADB_ECORRUPT; /* more than was asked for */
    }
    return hadb__object_list_add(page->out, hadb_slice_str(key), size_bytes, page->err);
}

static int list_page(struct hadb__s3 *s, const struct hadb_call *call, struct page *page,
                     struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    struct hadb__s3_listing listing = {.each = page_add, .arg = page};
    const char *after = hadb_buf_cstr(&page->after);
    if (!after) {
        return hadb_fail_nomem(err);
    }
    int r =
        hadb__s3_build_list(&s->config, page->prefix, after, page->max - page->out->len, &q, err);
    r = r ? r : hadb__s3_perform(s, call, &q, &reply, err);
    r = r ? r : hadb__s3_xml_list(hadb_buf_slice(&reply.body), &listing, err);
    page->out->truncated = r == 0 && listing.truncated;
    return r;
}

/* PREFIX/text, NUL-terminated. */
static int whole_name(const struct hadb__s3 *s, const char *text, struct hadb_buf *out)
{
    int r = s->config.prefix[0] ? hadb_buf_printf(out, "%s/", s->config.prefix) : 0;
    r = r ? r : hadb_buf_append_str(out, text);
    return r ? r : (hadb_buf_cstr(out) ? 0 : HADB_ENOMEM);
}

static int s3_list(void *self, const struct hadb_call *call, const char *prefix, const char *after,
                   size_t max, struct hadb_object_list *out, struct hadb_error *err)
{
    struct hadb__s3 *s = self;
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf whole = {0};
    struct page page = {.config = &s->config, .out = out, .max = max, .err = err};
    int r = whole_name(s, prefix, &whole);
    r = r || !after[0] ? r : whole_name(s, after, &page.after);
    if (r) {
        hadb_buf_deinit(&page.after);
        return hadb_fail_nomem(err);
    }
    page.prefix = (const char *)whole.data;
    unsigned pages = 0;
    do { /* a page may hold nothing but foreign names */
        page.seen = 0;
        r = list_page(s, call, &page, err);
        pages++;
    } while (r == 0 && out->len == 0 && out->truncated && page.seen > 0 && pages < LIST_PAGES_MAX);
    hadb_buf_deinit(&page.after);
    if (r == 0 && out->len == 0 && out->truncated) {
        return hadb_fail(err, HADB_EIO, "s3 list in %s: no object of ours in %u pages",
                         s->config.bucket, pages);
    }
    return r < 0 ? hadb_wrap(err, r, "s3 list in %s", s->config.bucket) : r;
}

/* --- deletion, opening, closing ----------------------------------------------------------------- */

static int delete_batch(struct hadb__s3 *s, const struct hadb_call *call, const char *const *keys,
                        size_t len, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    int r = hadb__s3_build_delete(&s->config, keys, len, &q, err);
    r = r ? r : hadb__s3_perform(s, call, &q, &reply, err);
    return r ? r : hadb__s3_delete_result(&s->config, &reply, err);
}

static int s3_delete_many(void *self, const struct hadb_call *call, const char *const *keys,
                          size_t len, struct hadb_error *err)
{
    int r = 0;
    for (size_t i = 0; i < len && r == 0; i += HADB_S3_DELETE_LEN_MAX) {
        r = delete_batch(self, call, keys + i, HADB_MIN(len - i, (size_t)HADB_S3_DELETE_LEN_MAX),
                         err);
    }
    return r;
}

static uint32_t s3_caps(void *self)
{
    (void)self;
    return HADB_STORAGE_CAP_REPLACE | HADB_STORAGE_CAP_DURABLE | HADB_STORAGE_CAP_SHARED;
}

static void s3_usage(void *self, struct hadb_storage_usage *out)
{
    hadb__http_usage(&((struct hadb__s3 *)self)->usage, out);
}

static void s3_close(void *self)
{
    struct hadb__s3 *s = self;
    hadb__engine_close(s->engine);
    hadb__s3_uploads_deinit(s);
    hadb__s3_provider_close(s->provider);
    hadb__http_close(s->http);
    hadb__s3_config_deinit(&s->config);
    hadb_mutex_deinit(&s->mu);
    hadb_free(s);
}

static const struct hadb_storage_ops s3_ops = {
    .abi = HADB_STORAGE_ABI,
    .scheme = "s3",
    .get = s3_get,
    .get_range = s3_get_range,
    .head = s3_head,
    .create = s3_create,
    .replace = s3_replace,
    .list = s3_list,
    .delete_many = s3_delete_many,
    .caps = s3_caps,
    .close = s3_close,
    .submit = hadb__s3_submit,
    .fd = hadb__s3_fd,
    .drive = hadb__s3_drive,
    .usage = s3_usage,
};

static int s3_init(struct hadb__s3 *s, const struct hadb_url *url, struct hadb_error *err)
{
    int r = hadb__s3_config_open(url, hadb_environ_get, &s->config, err);
    r = r ? r : hadb__http_open(s->env, &s->http, err);
    r = r ? r : hadb__engine_open(s->env, &s->engine, err);
    struct hadb__s3_provider_options options = {
        .env = s->env,
        .getvar = hadb_environ_get,
        .profile = s->config.profile,
        .region = s->config.region,
        .ca = s->config.ca,
    };
    r = r ? r : hadb__s3_provider_open(&options, &s->provider, err);
    if (r == 0 && !s->config.tls && !s->config.loopback) {
        hadb_log(s->env, HADB_LOG_WARN, "storage", NULL,
                 "%s is not encrypted: everybody on the way can read what is stored",
                 s->config.endpoint);
    }
    return r;
}

int hadb__storage_s3_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_storage *out, struct hadb_error *err)
{
    struct hadb__s3 *s = hadb_calloc(1, sizeof(*s));
    if (!s) {
        return hadb_fail_nomem(err);
    }
    s->env = env;
    hadb_mutex_init(&s->mu, 0);
    int r = s3_init(s, url, err);
    if (r) {
        s3_close(s);
        return r;
    }
    *out = (struct hadb_storage){.ops = &s3_ops, .self = s};
    return 0;
}
