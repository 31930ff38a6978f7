/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 6 of 8. Owns the requests of "s3://" that run without blocking.
 *
 * Thread: that of submit and drive; the blocking methods may run beside them on others.
 * Invariants: as storage_s3.c: a request is sent a second time only after it was refused for its clock. done is
 * called from drive or close, once per accepted request.
 * Happy path: submit signs with the credentials at hand and sends; drive reports.
 * Failure modes: credentials that are due are not asked for here, since that blocks: submit answers HADB_EBUSY, and
 * the blocking method, to which the caller turns then, gets them. When the server refuses credentials the request
 * ends with a retryable HADB_EAUTH, nothing written, and the next submit says so.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "storage/storage_private.h"
#include "storage/storage_s3_private.h"

struct op {
    struct hadb__s3 *s;
    struct hadb_storage_io *io;
    struct hadb__task task;
    struct hadb__s3_request q;
    struct hadb__http_reply reply;
    struct hadb__s3_creds *creds; /* it was signed with */
    int64_t signed_at_s;
    bool again;    /* the second attempt */
    bool confirms; /* the request asks whether an object is really absent */
};

static void op_free(struct op *op)
{
    hadb__s3_creds_unref(op->creds);
    hadb__s3_request_deinit(&op->q);
    hadb__http_reply_deinit(&op->reply);
    hadb_free(op);
}

static int send_op(struct op *op, struct hadb_error *err)
{
    struct hadb__s3 *s = op->s;
    struct hadb__s3_creds *creds = NULL;
    int r = hadb__s3_may_start(s, op->io->call, op->q.op, err);
    r = r ? r : hadb__s3_provider_try(s->provider, &creds, err);
    if (r) {
        return r;
    }
    hadb__s3_creds_unref(op->creds);
    op->creds = creds;
    op->signed_at_s = hadb__s3_now(s);
    r = hadb__s3_sign_request(&s->config, creds, op->signed_at_s, &op->q, err);
    if (r) {
        return r;
    }
    op->task.request = hadb__s3_http_request(s, &op->q);
    return hadb__engine_start(s->engine, &op->task, err);
}

/* The server refused the credentials. Worth another try when there are others, or when their source is asked first. */
static void reject(struct op *op)
{
    struct hadb__s3_creds *creds = NULL;
    hadb__s3_provider_reject(op->s->provider, op->creds);
    int r = hadb__s3_provider_try(op->s->provider, &creds, NULL);
    op->io->err.retryable = r != 0 || !hadb__s3_creds_eq(creds, op->creds);
    hadb__s3_creds_unref(creds);
}

/* The same operation goes on as a GET of the first byte. 0: done is called again. */
static int confirm(struct op *op, struct hadb_error *err)
{
    hadb__s3_request_deinit(&op->q);
    op->confirms = true;
    op->again = false;
    struct hadb_storage_io first = {.type = HADB_IO_GET_RANGE, .key = op->io->key, .len = 1};
    int r = hadb__s3_build_range(&op->s->config, &first, &op->q, err);
    r = r ? r : send_op(op, err);
    return r == HADB_EBUSY ? hadb_fail(err, HADB_EUNAVAIL, "too many requests, or none may be sent")
                           : r;
}

static void on_done(struct hadb__task *task)
{
    struct op *op = task->arg;
    struct hadb__s3 *s = op->s;
    struct hadb_storage_io *io = op->io;
    hadb__s3_count(s, &op->q, &op->reply);
    enum hadb__s3_advice advice = hadb__s3_advise(&op->q, &op->reply, op->signed_at_s);
    if (advice == HADB__S3_LEARN_CLOCK && !op->again) {
        op->again = true;
        hadb__s3_learn_clock(s, op->signed_at_s, op->reply.date_unix_s);
        if (send_op(op, NULL) == 0) {
            return;
        }
    }
    int r = hadb__s3_outcome(&s->config, &op->q, &op->reply, &io->err);
    r = op->confirms ? hadb__s3_confirmed(r, &io->err) : r;
    if (hadb__s3_is_doubtful(&op->q, &op->reply, r)) {
        r = confirm(op, &io->err);
        if (r == 0) {
            return;
        }
    }
    r = r ? r : hadb__http_io_take(io, &op->reply, &io->err);
    if (r) {
        hadb__http_io_return(io, &op->reply);
    }
    if (r < 0 && advice == HADB__S3_RENEW_CREDENTIALS) {
        reject(op);
    }
    op_free(op);
    hadb__storage_io_done(io, r);
}

int hadb__s3_submit(void *self, struct hadb_storage_io *io, struct hadb_error *err)
{
    struct op *op = hadb_calloc(1, sizeof(*op));
    if (!op) {
        return hadb_fail_nomem(err);
    }
    op->s = self;
    op->io = io;
    op->task =
        (struct hadb__task){.call = io->call, .reply = &op->reply, .done = on_done, .arg = op};
    io->err = (struct hadb_error){0};
    int r = hadb__s3_io_build(&op->s->config, io, &op->q, err);
    hadb__http_io_lend(io, &op->reply);
    r = r ? r : send_op(op, err);
    if (r) {
        hadb__http_io_return(io, &op->reply);
        op_free(op);
    }
    return r;
}

int hadb__s3_fd(void *self)
{
    return hadb__engine_fd(((struct hadb__s3 *)self)->engine);
}

size_t hadb__s3_drive(void *self)
{
    return hadb__engine_drive(((struct hadb__s3 *)self)->engine);
}
