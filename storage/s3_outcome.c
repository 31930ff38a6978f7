/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the verdict on a finished request, by the outcome rule of include/hadb/storage.h.
 *
 * Thread: any; functions of their arguments.
 * Invariants: a write that was sent is done only with a 2xx that carries a tag, refused only with a status that
 * says so, and unknown (HADB_ETIMEDOUT) in every other case: 409, 429, any 5xx, a broken or garbled reply. That
 * includes 503 SlowDown: some servers answer it after a part of their disks took the write. Nothing is read
 * from a body that decides between done and unknown, but of the completion of an upload, which S3 answers there.
 * Failure modes: its whole subject. Messages name the status and S3's own code, never a header of ours.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/place.h"
#include "storage/s3_private.h"

#define SKEW_S_MIN 240 /* a clock that differs more explains a refusal without a reason */

static bool is_put(const struct hadb__s3_request *q)
{
    return q->op == HADB_STORAGE_OP_CREATE || q->op == HADB_STORAGE_OP_REPLACE;
}

/* --- the server refused ------------------------------------------------------------------------- */

/* What the body of a refusal says; "" where it says nothing. HEAD has no body. */
static int read_error(const struct hadb__http_reply *reply, struct hadb__s3_error *out)
{
    struct hadb_slice body = {.data = reply->error_body, .len = reply->error_len};
    return hadb__s3_xml_error(body, out);
}

static int fail_status(const struct hadb__http_reply *reply, const struct hadb__s3_error *said,
                       int code, bool retryable, struct hadb_error *err)
{
    hadb_fail(err, code, "status %d%s%s%s%.100s", reply->status, said->code[0] ? " " : "",
              said->code, said->message[0] ? ": " : "", said->message);
    if (err) {
        err->http_status = reply->status;
        err->retryable = retryable;
    }
    return code;
}

static bool code_is(const struct hadb__s3_error *said, const char *code)
{
    return strcmp(said->code, code) == 0;
}

static bool is_redirect(const struct hadb__http_reply *reply, const struct hadb__s3_error *said)
{
    return (reply->status >= 300 && reply->status <= 399) ||
           code_is(said, "AuthorizationHeaderMalformed") || code_is(said, "InvalidRegion") ||
           code_is(said, "PermanentRedirect");
}

static int fail_redirect(const struct hadb__s3_config *config, const struct hadb__http_reply *reply,
                         const struct hadb__s3_error *said, struct hadb_error *err)
{
    const char *region = reply->region[0] ? reply->region : said->region;
    if (region[0] && strcmp(region, config->region) != 0) {
        hadb_fail(err, HADB_EINVAL, "status %d: the bucket is in region %s, not %s: set region=%s",
                  reply->status, region, config->region, region);
    } else if (said->endpoint[0]) {
        hadb_fail(err, HADB_EINVAL,
                  "status %d %s: the bucket is served at %s: set endpoint=", reply->status,
                  said->code, said->endpoint);
    } else {
        hadb_fail(err, HADB_EINVAL,
                  "status %d %s: redirects are not followed: check endpoint= and region=%s",
                  reply->status, said->code, config->region);
    }
    if (err) {
        err->http_status = reply->status;
    }
    return HADB_EINVAL;
}

static int fail_no_bucket(const struct hadb__s3_config *config,
                          const struct hadb__http_reply *reply, struct hadb_error *err)
{
    hadb_fail(err, HADB_EINVAL,
              "status %d NoSuchBucket: there is no bucket %s: create it or change the url",
              reply->status, config->bucket);
    if (err) {
        err->http_status = reply->status;
    }
    return HADB_EINVAL;
}

/* A gateway that does not find the store, another server: nothing is known of the object, and nothing was written. */
static int fail_foreign(const struct hadb__http_reply *reply, struct hadb_error *err)
{
    bool wants_tls = memmem(reply->error_body, reply->error_len, "HTTPS", 5) != NULL;
    hadb_fail(err, HADB_EIO, "status %d is not an answer of S3: %s", reply->status,
              wants_tls ? "the server speaks TLS: write endpoint=https://" : "check endpoint=");
    if (err) {
        err->http_status = reply->status;
        err->retryable = reply->status == 404;
    }
    return HADB_EIO;
}

/* Replies that say nothing about a write: it may have been applied, or may yet be. */
static bool says_nothing(int status, const struct hadb__s3_error *said)
{
    if (status == 501) {
        return !code_is(said, "NotImplemented"); /* a header that the server does not know */
    }
    return hadb__http_says_nothing(status) || code_is(said, "RequestTimeout");
}

/* The body was damaged on the way: surely not stored, and worth another try. */
static bool is_damage(const struct hadb__s3_error *said)
{
    return code_is(said, "BadDigest") || code_is(said, "IncompleteBody") ||
           code_is(said, "XAmzContentSHA256Mismatch") || code_is(said, "InvalidDigest");
}

/* Who asks is not known, or must not: with what to change. */
static int fail_refusal(const struct hadb__s3_request *q, const struct hadb__http_reply *reply,
                        const struct hadb__s3_error *said, struct hadb_error *err)
{
    static const struct {
        const char *code, *advice;
    } advices[] = {
        {"InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID, or the profile"},
        {"SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY, or the profile"},
        {"ExpiredToken", "renew the credentials"},
        {"InvalidToken", "check AWS_SESSION_TOKEN, or renew the credentials"},
        {"RequestTimeTooSkewed", "set the clock of this host"},
    };
    for (size_t i = 0; i < HADB_LEN(advices); i++) {
        if (code_is(said, advices[i].code)) { /* the server's own words are long, and say no more */
            struct hadb__s3_error code = *said;
            code.message[0] = '\0';
            fail_status(reply, &code, HADB_EAUTH, false, err);
            return hadb_advise(err, HADB_EAUTH, advices[i].advice);
        }
    }
    fail_status(reply, said, HADB_EAUTH, false, err);
    const char *right = q->op == HADB_STORAGE_OP_LIST          ? "is s3:ListBucket allowed?"
                        : q->op == HADB_STORAGE_OP_DELETE_MANY ? "is s3:DeleteObject allowed?"
                        : is_put(q)                            ? "is s3:PutObject allowed?"
                                    : "are s3:GetObject and s3:ListBucket allowed?";
    return hadb_advise(err, HADB_EAUTH, right);
}

static int fail_refused(const struct hadb__s3_request *q, const struct hadb__http_reply *reply,
                        const struct hadb__s3_error *said, struct hadb_error *err)
{
    int status = reply->status;
    if (says_nothing(status, said)) {
        bool busy = status == 503 || status == 429 || code_is(said, "SlowDown");
        int code = hadb_storage_op_writes(q->op) ? HADB_ETIMEDOUT : busy ? HADB_EUNAVAIL : HADB_EIO;
        return fail_status(reply, said, code, true, err);
    }
    if (status == 401 || status == 403 || code_is(said, "ExpiredToken") ||
        code_is(said, "InvalidToken")) {
        return fail_refusal(q, reply, said, err);
    }
    if (status == 413 || code_is(said, "EntityTooLarge")) {
        return fail_status(reply, said, HADB_ETOOBIG, false, err);
    }
    if (status == 501) {
        return fail_status(reply, said, HADB_ENOTSUP, false, err);
    }
    return fail_status(reply, said, HADB_EIO, is_damage(said), err);
}

static int outcome_of_refusal(const struct hadb__s3_config *config,
                              const struct hadb__s3_request *q,
                              const struct hadb__http_reply *reply, struct hadb_error *err)
{
    struct hadb__s3_error said = {0};
    int status = reply->status;
    if (status == 412 && is_put(q)) { /* nothing in its body can change that */
        return q->creates ? HADB_EXISTS : HADB_CAS_LOST;
    }
    int r = read_error(reply, &said);
    if (r == HADB_ENOMEM) { /* what it said of a write may have been that nothing is known */
        return hadb_storage_op_writes(q->op)
                   ? hadb_fail(err, HADB_ETIMEDOUT, "status %d, out of memory", status)
                   : hadb_fail_nomem(err);
    }
    bool foreign = status == 404 ? reply->error_len > 0 || !reply->of_s3
                                 : status == 400 && reply->error_len > 0;
    if (foreign && r != 0 && q->op != HADB_STORAGE_OP_HEAD) {
        return fail_foreign(reply, err);
    }
    if (status == 404 && code_is(&said, "NoSuchBucket")) {
        return fail_no_bucket(config, reply, err);
    }
    if (status == 404 && q->op == HADB_STORAGE_OP_REPLACE) {
        return HADB_CAS_LOST;
    }
    if (status == 404 && (q->op == HADB_STORAGE_OP_GET || q->op == HADB_STORAGE_OP_GET_RANGE ||
                          q->op == HADB_STORAGE_OP_HEAD)) {
        return HADB_ABSENT;
    }
    if (status == 416 && q->op == HADB_STORAGE_OP_GET_RANGE) {
        return 0; /* the object ends before the offset */
    }
    return is_redirect(reply, &said) ? fail_redirect(config, reply, &said, err)
                                     : fail_refused(q, reply, &said, err);
}

/* --- the server agreed -------------------------------------------------------------------------- */

static int garbled(const struct hadb__s3_request *q, const struct hadb__http_reply *reply,
                   const char *what, struct hadb_error *err)
{
    int code = hadb_storage_op_writes(q->op) ? HADB_ETIMEDOUT : HADB_EIO;
    hadb_fail(err, code, "status %d %s", reply->status, what);
    if (err) {
        err->http_status = reply->status;
    }
    return code;
}

/* Completing may fail after "200" was sent, and the tag is in the body, always. */
static int outcome_of_complete(const struct hadb__s3_request *q, struct hadb__http_reply *reply,
                               struct hadb_error *err)
{
    struct hadb_slice body = {.data = reply->body.data, .len = reply->body.len};
    struct hadb__s3_error said = {0};
    char tag[HADB_TAG_MAX + 1];
    if (hadb__s3_xml_complete(body, tag, sizeof(tag)) == 0) {
        if (!hadb__http_etag_usable(tag)) {
            return garbled(q, reply, "without a usable etag", err);
        }
        memcpy(reply->etag, tag, sizeof(tag));
        return 0;
    }
    if (hadb__s3_xml_error(body, &said) == 0) {
        return code_is(&said, "PreconditionFailed")
                   ? HADB_EXISTS
                   : fail_status(reply, &said, HADB_ETIMEDOUT, true, err);
    }
    return garbled(q, reply, "without a result", err);
}

static int outcome_of_step(const struct hadb__s3_request *q, struct hadb__http_reply *reply,
                           struct hadb_error *err)
{
    bool gone = q->step == HADB__S3_ABORT && reply->status == 204;
    if (reply->status != 200 && !gone) {
        return garbled(q, reply, "does not belong to this request", err);
    }
    if (q->step == HADB__S3_PART && !reply->etag[0]) {
        return garbled(q, reply, "without a usable etag", err);
    }
    return q->step == HADB__S3_COMPLETE ? outcome_of_complete(q, reply, err) : 0;
}

static int outcome_of_success(const struct hadb__s3_request *q, struct hadb__http_reply *reply,
                              struct hadb_error *err)
{
    if (q->step != HADB__S3_WHOLE) {
        return outcome_of_step(q, reply, err);
    }
    bool has_body = q->op == HADB_STORAGE_OP_GET || q->op == HADB_STORAGE_OP_GET_RANGE ||
                    q->op == HADB_STORAGE_OP_LIST;
    bool fits = is_put(q) ? reply->status == 200 || reply->status == 201 || reply->status == 204
                : q->op == HADB_STORAGE_OP_GET_RANGE ? reply->status == 200 || reply->status == 206
                                                     : reply->status == 200;
    if (!fits) {
        return garbled(q, reply, "does not belong to this request", err);
    }
    if (has_body && reply->length < 0 && !reply->chunked) {
        return garbled(q, reply, "without a length: the end of the body cannot be told", err);
    }
    if (q->op == HADB_STORAGE_OP_HEAD && reply->length < 0) {
        return garbled(q, reply, "without a length", err);
    }
    if (q->op != HADB_STORAGE_OP_LIST && q->op != HADB_STORAGE_OP_DELETE_MANY &&
        q->op != HADB_STORAGE_OP_GET_RANGE && !reply->etag[0]) {
        return garbled(q, reply, "without a usable etag", err);
    }
    return 0;
}

bool hadb__s3_is_doubtful(const struct hadb__s3_request *request,
                          const struct hadb__http_reply *reply, int r)
{
    return r == HADB_ABSENT && request->op == HADB_STORAGE_OP_HEAD && !reply->of_s3;
}

int hadb__s3_confirmed(int r, struct hadb_error *err)
{
    return r ? r
             : hadb_fail(err, HADB_EIO,
                         "s3 head: the server says that the object is absent, and sends it");
}

static const char *name_of(const struct hadb__s3_request *q)
{
    static const char *const steps[] = {
        [HADB__S3_INITIATE] = "begin upload",    [HADB__S3_PART] = "upload of a part",
        [HADB__S3_COMPLETE] = "complete upload", [HADB__S3_ABORT] = "abort upload",
        [HADB__S3_UPLOADS] = "list uploads",
    };
    return q->step == HADB__S3_WHOLE ? hadb_storage_op_name(q->op) : steps[q->step];
}

int hadb__s3_outcome(const struct hadb__s3_config *config, const struct hadb__s3_request *request,
                     struct hadb__http_reply *reply, struct hadb_error *err)
{
    int r = reply->failure != HADB__HTTP_FINE
                ? hadb__net_unheard(reply->failure, hadb_storage_op_writes(request->op),
                                    reply->sent, reply->text, err)
            : reply->status >= 200 && reply->status <= 299
                ? outcome_of_success(request, reply, err)
                : outcome_of_refusal(config, request, reply, err);
    HADB_ASSERT(r <= 0 || !is_put(request) || reply->status == 412 || reply->status == 404 ||
                request->step == HADB__S3_COMPLETE);
    return hadb_wrap(err, r, "s3 %s in %s at %s", name_of(request), config->bucket,
                     config->endpoint);
}

/* --- the request after a refusal ---------------------------------------------------------------- */

enum hadb__s3_advice hadb__s3_advise(const struct hadb__s3_request *request,
                                     const struct hadb__http_reply *reply, int64_t now_unix_s)
{
    struct hadb__s3_error said = {0};
    if (reply->failure != HADB__HTTP_FINE || (reply->status != 400 && reply->status != 403)) {
        return HADB__S3_SETTLED;
    }
    int r = read_error(reply, &said);
    int64_t skew = reply->date_unix_s < 0 ? 0 : reply->date_unix_s - now_unix_s;
    bool far = skew > SKEW_S_MIN || skew < -SKEW_S_MIN;
    if (skew != 0 &&
        (code_is(&said, "RequestTimeTooSkewed") || (r && reply->status == 403 && far))) {
        return HADB__S3_LEARN_CLOCK;
    }
    bool wordless = r && (reply->status == 403 || request->op == HADB_STORAGE_OP_HEAD);
    if (code_is(&said, "ExpiredToken") || code_is(&said, "InvalidToken") ||
        code_is(&said, "TokenRefreshRequired") || code_is(&said, "InvalidAccessKeyId") ||
        code_is(&said, "SignatureDoesNotMatch") || wordless) {
        return HADB__S3_RENEW_CREDENTIALS;
    }
    return HADB__S3_SETTLED;
}

/* --- parts of a reply --------------------------------------------------------------------------- */

int hadb__s3_delete_result(const struct hadb__s3_config *config,
                           const struct hadb__http_reply *reply, struct hadb_error *err)
{
    struct hadb__s3_undeleted undeleted;
    struct hadb_slice body = {.data = reply->body.data, .len = reply->body.len};
    int r = hadb__s3_xml_delete(body, &undeleted, err);
    if (r == HADB_ENOMEM) {
        return r;
    }
    if (r) {
        return hadb_fail(err, HADB_ETIMEDOUT, "s3 delete_many in %s: the result cannot be read",
                         config->bucket);
    }
    if (undeleted.len == 0) {
        return 0;
    }
    bool denied = strcmp(undeleted.code, "AccessDenied") == 0;
    hadb_fail(err, denied ? HADB_EAUTH : HADB_EIO,
              "s3 delete_many in %s: %zu keys are left: %s: %s", config->bucket, undeleted.len,
              undeleted.code, undeleted.name);
    return denied ? HADB_EAUTH : HADB_EIO;
}
