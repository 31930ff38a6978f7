/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the creation of a large object in parts, several at a time, on the caller's thread.
 *
 * Thread: any; blocking. An engine, with its connections, belongs to one upload at a time (mutex).
 * Invariants: the object exists for nobody before the last request, which carries If-None-Match; that request is
 * the only one whose outcome may be unknown, it is sent once. Nothing is repeated here: with_retry does that.
 * Happy path: is it there already? begin → parts → complete. The body is not copied.
 * Failure modes: whatever fails before the completion means that nothing was written; the upload is ended then, in
 * the time that ABORT_MS gives. What a process leaves behind that dies in between is found by age when a store
 * makes its first upload: the prefix is ours, and no upload of ours takes a day, by the clock that dates both
 * its beginning and the listing. That may take SWEEP_MS, and half of the caller's time at most.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "storage/key.h"
#include "storage/s3_creds_private.h"
#include "storage/storage_s3_private.h"

#define ABORT_MS 2000u
#define SWEEP_MS 2000u
#define PARTS_MAX (HADB_OBJECT_BYTES_MAX / HADB_S3_PART_BYTES_MAX)
static_assert(PARTS_MAX <= HADB_S3_UPLOAD_PARTS_MAX, "one request completes them all");

struct upload;

/* A part that runs, or room for one. */
struct lane {
    struct upload *up;
    unsigned number; /* 1…; 0 = free */
    struct hadb__task task;
    struct hadb__s3_request q;
    struct hadb__http_reply reply;
};

struct upload {
    struct hadb__s3 *s;
    const struct hadb_storage_io *io;
    struct hadb__engine *engine;
    char id[HADB_S3_UPLOAD_ID_BYTES_MAX + 1];
    struct hadb__s3_part parts[PARTS_MAX];
    unsigned parts_len, begun;
    size_t part_bytes;
    int r; /* of the first part that failed */
    struct hadb_error err;
    struct lane lanes[HADB_S3_PARTS_RUNNING_MAX];
};

/* A step before the last: surely nothing is written, whatever became of it. */
static int certain(int r, struct hadb_error *err)
{
    if (r == HADB_ETIMEDOUT || r > 0) {
        struct hadb_error why = err ? *err : (struct hadb_error){0};
        hadb_fail(err, HADB_EUNAVAIL, "%.200s; nothing written", why.message);
        if (err) {
            err->http_status = why.http_status;
        }
        return HADB_EUNAVAIL;
    }
    return r;
}

/* --- engines ------------------------------------------------------------------------------------ */

static int engine_take(struct hadb__s3 *s, struct hadb__engine **out, struct hadb_error *err)
{
    hadb_mutex_lock(&s->mu);
    *out = s->engines_len > 0 ? s->engines[--s->engines_len] : NULL;
    hadb_mutex_unlock(&s->mu);
    return *out ? 0 : hadb__engine_open(s->env, out, err);
}

static void engine_give(struct hadb__s3 *s, struct hadb__engine *engine)
{
    hadb_mutex_lock(&s->mu);
    bool keep = s->engines_len < HADB_S3_ENGINES_KEPT_MAX;
    if (keep) {
        s->engines[s->engines_len++] = engine;
    }
    hadb_mutex_unlock(&s->mu);
    if (!keep) {
        hadb__engine_close(engine);
    }
}

void hadb__s3_uploads_deinit(struct hadb__s3 *s)
{
    while (s->engines_len > 0) {
        hadb__engine_close(s->engines[--s->engines_len]);
    }
}

/* --- parts -------------------------------------------------------------------------------------- */

static void failed(struct upload *up, int r, const struct hadb_error *err)
{
    if (up->r == 0) {
        up->r = r;
        up->err = *err;
    }
}

static void on_part(struct hadb__task *task);

static int send_part(struct lane *lane, struct hadb_error *err)
{
    struct upload *up = lane->up;
    struct hadb__s3 *s = up->s;
    struct hadb__s3_creds *creds = NULL;
    size_t from = (lane->number - 1) * up->part_bytes;
    struct hadb_slice body = {.data = (const uint8_t *)up->io->body.data + from,
                              .len = HADB_MIN(up->part_bytes, up->io->body.len - from)};
    int r = hadb__s3_may_start(s, up->io->call, HADB_STORAGE_OP_CREATE, err);
    r = r ? r : hadb__s3_provider_get(s->provider, up->io->call, &creds, err);
    r = r ? r
          : hadb__s3_build_part(&s->config, up->io->key, up->id, lane->number, body, &lane->q, err);
    r = r ? r : hadb__s3_sign_request(&s->config, creds, hadb__s3_now(s), &lane->q, err);
    hadb__s3_creds_unref(creds);
    if (r) {
        return r;
    }
    lane->task = (struct hadb__task){.request = hadb__s3_http_request(s, &lane->q),
                                     .call = up->io->call,
                                     .reply = &lane->reply,
                                     .done = on_part,
                                     .arg = lane};
    return hadb__engine_start(up->engine, &lane->task, err);
}

/* The next part, if there is one and none has failed. */
static void next_part(struct lane *lane)
{
    struct upload *up = lane->up;
    struct hadb_error err = {0};
    if (up->r != 0 || up->begun == up->parts_len) {
        return;
    }
    lane->number = ++up->begun;
    int r = send_part(lane, &err);
    if (r) {
        lane->number = 0;
        hadb__s3_request_deinit(&lane->q);
        failed(up, r, &err);
    }
}

static void on_part(struct hadb__task *task)
{
    struct lane *lane = task->arg;
    struct upload *up = lane->up;
    struct hadb_error err = {0};
    struct hadb__s3_part *part = &up->parts[lane->number - 1];
    hadb__s3_count(up->s, &lane->q, &lane->reply);
    int r = hadb__s3_outcome(&up->s->config, &lane->q, &lane->reply, &err);
    if (r) {
        failed(up, r, &err);
    } else {
        memcpy(part->etag, lane->reply.etag, sizeof(part->etag));
        memcpy(part->crc32c, lane->q.crc32c, sizeof(part->crc32c));
    }
    hadb__s3_request_deinit(&lane->q);
    lane->number = 0;
    next_part(lane);
}

static int send_parts(struct upload *up, struct hadb_error *err)
{
    int r = engine_take(up->s, &up->engine, err);
    if (r) {
        return r;
    }
    for (unsigned i = 0; i < HADB_S3_PARTS_RUNNING_MAX; i++) {
        up->lanes[i].up = up;
        next_part(&up->lanes[i]);
    }
    while (hadb__engine_drive(up->engine) > 0) {
        hadb__engine_wait(up->engine);
    }
    engine_give(up->s, up->engine);
    if (up->r != 0 && err) {
        *err = up->err;
    }
    return up->r;
}

/* --- steps -------------------------------------------------------------------------------------- */

static int begin(struct upload *up, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    int r = hadb__s3_build_initiate(&up->s->config, up->io->key, &q, err);
    r = r ? r : hadb__s3_perform(up->s, up->io->call, &q, &reply, err);
    if (r == 0 && hadb__s3_xml_initiate(hadb_buf_slice(&reply.body), up->id, sizeof(up->id)) != 0) {
        r = hadb_fail(err, HADB_EIO, "the server names no upload");
    }
    return r;
}

static int complete(struct upload *up, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    int r = hadb__s3_build_complete(&up->s->config, up->io->key, up->id, up->parts, up->parts_len,
                                    &q, err);
    r = r ? r : hadb__s3_perform(up->s, up->io->call, &q, &reply, err);
    return r ? r : hadb__http_io_take(up->io, &reply, err);
}

static int abort_upload(struct hadb__s3 *s, const struct hadb_call *call, const char *key,
                        const char *id)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    int r = hadb__s3_build_abort(&s->config, key, id, &q, NULL);
    return r ? r : hadb__s3_perform(s, call, &q, &reply, NULL);
}

/* --- what others left behind -------------------------------------------------------------------- */

struct sweep {
    struct hadb__s3 *s;
    const struct hadb_call *call;
    int64_t now_unix_s; /* of the server */
    unsigned ended, failed;
};

static int sweep_one(void *arg, const char *name, const char *id, const char *initiated)
{
    struct sweep *sweep = arg;
    const char *prefix = sweep->s->config.prefix;
    size_t len = strlen(prefix);
    int64_t since_ms = hadb__s3_parse_time_ms(initiated);
    if (strncmp(name, prefix, len) != 0 || name[len] != '/' ||
        hadb__object_key_check(name + len + 1, NULL) != 0 || since_ms < 0 ||
        sweep->now_unix_s - since_ms / 1000 < HADB_S3_STALE_UPLOAD_S) {
        return 0;
    }
    bool ok = abort_upload(sweep->s, sweep->call, name + len + 1, id) == 0;
    sweep->ended += ok;
    sweep->failed += !ok;
    bool enough = sweep->ended + sweep->failed == HADB_S3_STALE_UPLOADS_MAX;
    return enough || hadb_call_check(sweep->s->env, sweep->call, NULL) ? HADB_END : 0;
}

/* Once per store. Whatever fails is left to the next start, and to the bucket's own rules. */
static void sweep_stale(struct hadb__s3 *s, const struct hadb_call *caller)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    uint64_t half = hadb_call_left_ms(s->env, caller) / 2;
    struct hadb_call call = hadb_call_within(s->env, HADB_MIN(half, (uint64_t)SWEEP_MS));
    call.cancel = caller ? caller->cancel : NULL;
    hadb_mutex_lock(&s->mu);
    bool first = !s->swept;
    s->swept = true;
    hadb_mutex_unlock(&s->mu);
    if (!first || !s->config.prefix[0] || hadb__s3_build_uploads(&s->config, &q, NULL) != 0 ||
        hadb__s3_perform(s, &call, &q, &reply, NULL) != 0 || reply.date_unix_s < 0) {
        return;
    }
    struct sweep sweep = {.s = s, .call = &call, .now_unix_s = reply.date_unix_s};
    struct hadb__s3_uploads uploads = {.each = sweep_one, .arg = &sweep};
    (void)hadb__s3_xml_uploads(hadb_buf_slice(&reply.body), &uploads);
    if (sweep.ended + sweep.failed > 0) {
        hadb_log(s->env, HADB_LOG_INFO, "storage", NULL,
                 "%u uploads that were begun over a day ago are ended, %u could not be",
                 sweep.ended, sweep.failed);
    }
}

/* --- the whole ---------------------------------------------------------------------------------- */

static int run(struct upload *up, struct hadb_error *err)
{
    int r = begin(up, err);
    if (r) {
        return certain(r, err);
    }
    r = send_parts(up, err);
    bool sent_all = r == 0;
    r = sent_all ? complete(up, err) : certain(r, err);
    if (r != 0 && r != HADB_ETIMEDOUT) { /* unknown: it may be completing yet */
        struct hadb_call call = hadb_call_within(up->s->env, ABORT_MS);
        (void)abort_upload(up->s, &call, up->io->key, up->id);
    }
    return r;
}

int hadb__s3_upload(struct hadb__s3 *s, const struct hadb_storage_io *io, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__s3_request_deinit) struct hadb__s3_request q = {0};
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    sweep_stale(s, io->call);
    int r = hadb__s3_build_head(&s->config, io->key, &q, err);
    r = r ? r : hadb__s3_perform(s, io->call, &q, &reply, err);
    if (r == 0) {
        return HADB_EXISTS; /* not worth sending it all to learn that */
    }
    if (r != HADB_ABSENT) {
        return certain(r, err);
    }
    struct upload *up = hadb_calloc(1, sizeof(*up));
    if (!up) {
        return hadb_fail_nomem(err);
    }
    up->s = s;
    up->io = io;
    up->parts_len = (unsigned)((io->body.len - 1) / HADB_S3_PART_BYTES_MAX + 1);
    up->part_bytes = (io->body.len - 1) / up->parts_len + 1; /* all of one size, as some want it */
    HADB_ASSERT(up->parts_len <= PARTS_MAX);
    r = run(up, err);
    for (unsigned i = 0; i < HADB_S3_PARTS_RUNNING_MAX; i++) {
        hadb__http_reply_deinit(&up->lanes[i].reply);
    }
    hadb_free(up);
    return r;
}
