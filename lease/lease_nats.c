/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store "nats://[user:password@|token@]host[:port][,host…]/bucket": a bucket of JetStream's key-value
 * store, which is the stream KV_<bucket> of the subjects $KV.<bucket>.<key>, with one message kept for each.
 *
 * Each record is one message (bytes: lease/record.h). The tag is "SEQUENCE-NONCE". A write is a publish that the
 * stream takes only if the last message of the subject has that sequence number (0: there is none); it answers
 * with error 10071 otherwise. The library's own calls for this return one generic error for everything, so requests
 * are made here and replies are read here. The bucket is made when it is missing, without a time-to-live.
 *
 * Thread: any; `ready` is an atomic (relaxed: a lost update costs one request more).
 * Invariants: a write is published again only after a definite refusal: the stream was missing, or a mark of
 * somebody's delete stood where nothing was expected.
 * Happy path: read = STREAM.MSG.GET; write = publish and its acknowledgement; watch = a subscription as a hint, then read.
 * Failure modes: by the outcome rule; HADB_ECORRUPT for a message that is no lease record.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/util.h"
#include "lease/lease_private.h"
#include "lease/nats_wire.h"
#include "lease/record.h"

#define NATS_PORT 4222u
#define NATS_BUCKET "hadb-lease"
#define BUCKET_BYTES_MAX 64u
#define REPLICAS_MAX 5u
#define SUBJECT_BYTES (3 * HADB_LEASE_KEY_BYTES_MAX + BUCKET_BYTES_MAX + 8)
#define WATCH_READ_EVERY_MS 2000u /* a message may have been missed */
#define PAYLOAD_BYTES_MAX (HADB_LEASE_HEADER_BYTES + HADB_LEASE_RECORD_BYTES_MAX)

enum { /* error codes of JetStream */
       JS_NO_MESSAGE = 10037,
       JS_TOO_BIG = 10054,
       JS_STREAM_EXISTS = 10058,
       JS_NO_STREAM = 10059,
       JS_WRONG_SEQUENCE = 10071,
       JS_NOT_ENABLED = 10076,
       JS_NOT_ENABLED_HERE = 10039,
};

struct nats_leases {
    const struct hadb_env *env; /* const after init, like all below but ready */
    struct hadb__net_place place;
    char bucket[BUCKET_BYTES_MAX + 1];
    uint64_t replicas;
    struct hadb__nats *nats;
    bool ready; /* atomic; the bucket was there, and fit */
};

/* --- replies ------------------------------------------------------------------------------------ */

/* An answer of JetStream. */
struct answer {
    json_t *root; /* NULL = it is not JSON */
    int status;   /* 0 = no error */
    int code;
    char text[120];
};

static void answer_read(const struct hadb__nats_reply *reply, struct answer *out)
{
    *out = (struct answer){0};
    out->root = json_loadb(reply->body.len ? reply->body.data : "", reply->body.len,
                           JSON_REJECT_DUPLICATES, NULL);
    const json_t *error = json_object_get(out->root, "error");
    if (error) {
        const char *text = json_string_value(json_object_get(error, "description"));
        out->status = (int)json_integer_value(json_object_get(error, "code"));
        out->code = (int)json_integer_value(json_object_get(error, "err_code"));
        out->status = out->status > 0 ? out->status : 500;
        snprintf(out->text, sizeof(out->text), "%.119s", text ? text : "no reason");
    }
}

static void answer_deinit(struct answer *answer)
{
    json_decref(answer->root);
}

static int fail_answer(const struct answer *answer, bool writes, struct hadb_error *err)
{
    if (answer->code == JS_NOT_ENABLED || answer->code == JS_NOT_ENABLED_HERE) {
        return hadb_fail(err, HADB_ENOTSUP, "%s: switch JetStream on in the server", answer->text);
    }
    if (answer->code == JS_TOO_BIG) {
        return hadb_fail(err, HADB_ETOOBIG, "%s", answer->text);
    }
    int code = answer->status < 500 ? HADB_EIO : writes ? HADB_ETIMEDOUT : HADB_EUNAVAIL;
    return hadb_fail(err, code, "jetstream %d: %s", answer->code, answer->text);
}

/* 0 when there is an answer in reply->body. */
static int judge(const struct hadb__nats_reply *reply, bool writes, struct hadb_error *err)
{
    if (reply->refused) {
        return writes && reply->sent
                   ? hadb_fail(err, HADB_ETIMEDOUT, "%s", reply->text)
                   : hadb_fail(err, HADB_EAUTH, "%s: %s", reply->text,
                               reply->sent ? "give the user the rights that "
                                             "docs/lease-stores.md lists"
                                           : "check user:password@ or token@ in the url");
    }
    if (reply->nobody) {
        return hadb_fail(err, HADB_EUNAVAIL,
                         "nobody answers: is JetStream switched on, and ready?");
    }
    if (reply->failure != HADB__HTTP_FINE) {
        return hadb__net_unheard(reply->failure, writes, reply->sent, reply->text, err);
    }
    return 0;
}

static int wrap(const struct nats_leases *l, const char *what, int r, struct hadb_error *err)
{
    const struct hadb__net_place_host *host = &l->place.hosts[0];
    return hadb_wrap(err, r, "nats %s in %s at %.60s:%" PRIu16 "%s", what, l->bucket, host->name,
                     host->port, l->place.hosts_len > 1 ? ",…" : "");
}

/* --- the bucket --------------------------------------------------------------------------------- */

/* A question to JetStream that writes no record. */
static int ask(struct nats_leases *l, const struct hadb_call *call, const char *verb,
               const char *payload, struct hadb__nats_reply *reply, struct answer *out,
               struct hadb_error *err)
{
    char subject[BUCKET_BYTES_MAX + 64];
    snprintf(subject, sizeof(subject), "$JS.API.STREAM.%s.KV_%s", verb, l->bucket);
    const struct hadb__nats_request request = {.subject = subject,
                                               .payload = hadb_slice_str(payload)};
    hadb__nats_perform(l->nats, call, &request, reply);
    int r = judge(reply, false, err);
    if (r) {
        return r;
    }
    answer_read(reply, out);
    return out->root ? 0 : hadb_fail(err, HADB_EIO, "the answer is not one of JetStream's");
}

static int check_config(const struct nats_leases *l, const struct answer *info,
                        struct hadb_error *err)
{
    const json_t *config = json_object_get(info->root, "config");
    if (!json_is_object(config)) {
        return hadb_fail(err, HADB_EIO, "the answer is not one of JetStream's");
    }
    if (json_integer_value(json_object_get(config, "max_age")) != 0) {
        return hadb_fail(err, HADB_EINVAL,
                         "bucket %s has a time-to-live, so records would vanish: "
                         "make one without, or name another",
                         l->bucket);
    }
    return 0;
}

static int make_bucket(struct nats_leases *l, const struct hadb_call *call, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__nats_reply_deinit) struct hadb__nats_reply reply = {0};
    HADB_CLEANUP(answer_deinit) struct answer answer = {0};
    char config[768];
    /* As the library makes its buckets, but that reads are not allowed to ask a replica that lags. */
    snprintf(config, sizeof(config),
             "{\"name\":\"KV_%s\",\"subjects\":[\"$KV.%s.>\"],\"retention\":\"limits\","
             "\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,\"max_age\":0,"
             "\"max_msgs_per_subject\":1,\"max_msg_size\":-1,\"discard\":\"new\","
             "\"storage\":\"file\",\"num_replicas\":%" PRIu64 ",\"allow_rollup_hdrs\":true,"
             "\"deny_delete\":true,\"allow_direct\":false}",
             l->bucket, l->bucket, l->replicas);
    int r = ask(l, call, "CREATE", config, &reply, &answer, err);
    if (r == 0 && answer.status != 0 && answer.code != JS_STREAM_EXISTS) {
        r = fail_answer(&answer, false, err);
    }
    return hadb_wrap(err, r, "make the bucket");
}

/* Makes sure that the bucket is there and fits; once, unless somebody found it missing. */
static int ensure_bucket(struct nats_leases *l, const struct hadb_call *call,
                         struct hadb_error *err)
{
    HADB_CLEANUP(hadb__nats_reply_deinit) struct hadb__nats_reply reply = {0};
    HADB_CLEANUP(answer_deinit) struct answer answer = {0};
    if (__atomic_load_n(&l->ready, __ATOMIC_RELAXED)) {
        return 0;
    }
    int r = ask(l, call, "INFO", "", &reply, &answer, err);
    if (r) {
        return r;
    }
    r = answer.code == JS_NO_STREAM ? make_bucket(l, call, err)
        : answer.status != 0        ? fail_answer(&answer, false, err)
                                    : check_config(l, &answer, err);
    if (r == 0) {
        __atomic_store_n(&l->ready, true, __ATOMIC_RELAXED);
    }
    return r;
}

static void forget_bucket(struct nats_leases *l)
{
    __atomic_store_n(&l->ready, false, __ATOMIC_RELAXED);
}

/* --- reading ------------------------------------------------------------------------------------ */

/* "$KV.bucket.key". A dot would part the subject: it is written as =2E, and no key has a '='. */
static const char *subject_of(const struct nats_leases *l, const char *key, char out[SUBJECT_BYTES])
{
    int at = snprintf(out, SUBJECT_BYTES, "$KV.%s.", l->bucket);
    for (; *key; key++) {
        at += snprintf(out + at, SUBJECT_BYTES - (size_t)at, *key == '.' ? "=2E" : "%c", *key);
    }
    HADB_ASSERT((size_t)at < SUBJECT_BYTES);
    return out;
}

/* The last message of a key. */
struct found {
    uint64_t sequence;
    bool deleted; /* it is the mark of a delete, by other hands */
    struct hadb__lease_record record;
};

static void found_deinit(struct found *found)
{
    hadb_buf_deinit(&found->record.bytes);
}

static int decode(const json_t *message, const char *name, struct hadb_buf *out,
                  struct hadb_error *err)
{
    const json_t *text = json_object_get(message, name);
    size_t len = json_is_string(text) ? json_string_length(text) : 0;
    if (len > 2 * PAYLOAD_BYTES_MAX) {
        return hadb_fail(err, HADB_ECORRUPT, "the message is too big for a lease record");
    }
    if (hadb_buf_reserve(out, len / 4 * 3 + 1)) {
        return hadb_fail_nomem(err);
    }
    return hadb__base64_decode(len ? json_string_value(text) : "", len, out)
               ? 0
               : hadb_fail(err, HADB_EIO, "the answer is not one of JetStream's");
}

static int read_message(const json_t *message, struct found *out, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf headers = {0};
    json_int_t sequence = json_integer_value(json_object_get(message, "seq"));
    if (sequence <= 0) {
        return hadb_fail(err, HADB_EIO, "the answer is not one of JetStream's");
    }
    out->sequence = (uint64_t)sequence;
    int r = decode(message, "hdrs", &headers, err);
    if (r) {
        return r;
    }
    static const char mark[] = "KV-Operation:";
    out->deleted = headers.len > 0 && memmem(headers.data, headers.len, mark, sizeof(mark) - 1);
    if (out->deleted) {
        return HADB_ABSENT;
    }
    r = decode(message, "data", &out->record.bytes, err);
    if (r == 0 && (!hadb__lease_record_decode(&out->record) || out->record.version != 0)) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "the key holds no lease record: use another bucket, or remove it");
    }
    return r;
}

/* 0 or HADB_ABSENT. */
static int look_once(struct nats_leases *l, const struct hadb_call *call, const char *key,
                     bool *missing, struct found *out, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__nats_reply_deinit) struct hadb__nats_reply reply = {0};
    HADB_CLEANUP(answer_deinit) struct answer answer = {0};
    char subject[SUBJECT_BYTES], payload[SUBJECT_BYTES + 32];
    snprintf(payload, sizeof(payload), "{\"last_by_subj\":\"%s\"}", subject_of(l, key, subject));
    int r = ask(l, call, "MSG.GET", payload, &reply, &answer, err);
    *missing = reply.nobody || (r == 0 && answer.code == JS_NO_STREAM);
    if (r) {
        return r;
    }
    if (answer.code == JS_NO_MESSAGE) {
        return HADB_ABSENT;
    }
    return answer.status != 0 ? fail_answer(&answer, false, err)
                              : read_message(json_object_get(answer.root, "message"), out, err);
}

static int look(struct nats_leases *l, const struct hadb_call *call, const char *key,
                struct found *out, struct hadb_error *err)
{
    bool missing = false;
    int r = ensure_bucket(l, call, err);
    r = r ? r : look_once(l, call, key, &missing, out, err);
    if (missing) {
        forget_bucket(l);
        r = ensure_bucket(l, call, err);
        r = r ? r : look_once(l, call, key, &missing, out, err);
    }
    return r;
}

static int nats_read(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct nats_leases *l = self;
    HADB_CLEANUP(found_deinit) struct found found = {0};
    int r = hadb_call_check(l->env, call, err);
    r = r ? r : look(l, call, key, &found, err);
    if (r == 0) {
        hadb__lease_record_tag(found.sequence, found.record.nonce, tag);
        hadb__lease_record_take(&found.record, out);
    }
    return wrap(l, "read", r, err);
}

/* --- writing ------------------------------------------------------------------------------------ */

static int outcome_of_publish(const struct answer *answer, uint64_t *sequence,
                              struct hadb_error *err)
{
    if (answer->root && answer->code == JS_WRONG_SEQUENCE) {
        return HADB_CAS_LOST;
    }
    if (answer->root && answer->status != 0) {
        return fail_answer(answer, true, err);
    }
    json_int_t seq = json_integer_value(json_object_get(answer->root, "seq"));
    if (seq <= 0 || !json_is_string(json_object_get(answer->root, "stream"))) {
        return hadb_fail(err, HADB_ETIMEDOUT, "the answer is not one of JetStream's");
    }
    *sequence = (uint64_t)seq;
    return 0;
}

/* 0 with the new sequence number in *sequence, if the last one is still *sequence; HADB_CAS_LOST. */
static int publish(struct nats_leases *l, const struct hadb_call *call, const char *key,
                   struct hadb_slice bytes, uint64_t *sequence, bool *missing,
                   struct hadb_error *err)
{
    HADB_CLEANUP(hadb__nats_reply_deinit) struct hadb__nats_reply reply = {0};
    HADB_CLEANUP(answer_deinit) struct answer answer = {0};
    char subject[SUBJECT_BYTES], last[24];
    snprintf(last, sizeof(last), "%" PRIu64, *sequence);
    const struct hadb__nats_request request = {.subject = subject_of(l, key, subject),
                                               .header = "Nats-Expected-Last-Subject-Sequence",
                                               .header_value = last,
                                               .payload = bytes};
    int r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        return r;
    }
    hadb__nats_perform(l->nats, call, &request, &reply);
    *missing = reply.nobody;
    r = judge(&reply, true, err);
    if (r) {
        return r;
    }
    answer_read(&reply, &answer);
    return outcome_of_publish(&answer, sequence, err);
}

/* Somebody deleted the record with other tools: their mark is what a create replaces. */
static int publish_over_mark(struct nats_leases *l, const struct hadb_call *call, const char *key,
                             struct hadb_slice bytes, uint64_t *sequence, struct hadb_error *err)
{
    HADB_CLEANUP(found_deinit) struct found found = {0};
    bool missing = false;
    int r = look_once(l, call, key, &missing, &found, NULL);
    if (r != HADB_ABSENT || !found.deleted) {
        return HADB_CAS_LOST; /* as the publish said */
    }
    *sequence = found.sequence;
    return publish(l, call, key, bytes, sequence, &missing, err);
}

/* What goes wrong on the way to the publish wrote nothing. */
static int before_write(int r, struct hadb_error *err)
{
    if (r == HADB_ETIMEDOUT || r == HADB_EIO) {
        r = HADB_EUNAVAIL;
        if (err) {
            err->code = r;
            err->retryable = true;
        }
    }
    return r;
}

static int write_bytes(struct nats_leases *l, const struct hadb_call *call, const char *key,
                       struct hadb_slice bytes, uint64_t *sequence, struct hadb_error *err)
{
    bool missing = false, creates = *sequence == 0;
    int r = before_write(ensure_bucket(l, call, err), err);
    r = r ? r : publish(l, call, key, bytes, sequence, &missing, err);
    if (missing) {
        forget_bucket(l);
        r = before_write(ensure_bucket(l, call, err), err);
        r = r ? r : publish(l, call, key, bytes, sequence, &missing, err);
    }
    if (r == HADB_CAS_LOST && creates) {
        r = publish_over_mark(l, call, key, bytes, sequence, err);
    }
    return r;
}

static int nats_write(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice record, const struct hadb_tag *expected,
                      struct hadb_tag *tag, struct hadb_error *err)
{
    struct nats_leases *l = self;
    struct hadb__lease_record fresh = {0};
    uint64_t sequence = 0;
    uint8_t nonce[16];
    int r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        return r;
    }
    if (expected && (!hadb__lease_record_tag_read(expected, &sequence, nonce) || sequence == 0)) {
        return HADB_CAS_LOST; /* a tag of another store is nobody's here */
    }
    r = hadb__lease_record_encode(l->env, record, &fresh);
    r = r ? hadb_fail_nomem(err)
          : write_bytes(l, call, key, hadb_buf_slice(&fresh.bytes), &sequence, err);
    if (r == 0) {
        hadb__lease_record_tag(sequence, fresh.nonce, tag);
    }
    hadb_buf_deinit(&fresh.bytes);
    return wrap(l, "write", r, err);
}

/* --- watching ----------------------------------------------------------------------------------- */

/* 0 when the tag is another one than @seen, HADB_ABSENT when it is the same, or a failure. */
static int compare(struct nats_leases *l, const struct hadb_call *call, const char *key,
                   const struct hadb_tag *seen, struct hadb_error *err)
{
    HADB_CLEANUP(found_deinit) struct found found = {0};
    struct hadb_tag now;
    int r = look(l, call, key, &found, err);
    if (r == 0) {
        hadb__lease_record_tag(found.sequence, found.record.nonce, &now);
        return !seen || strcmp(now.s, seen->s) != 0 ? 0 : HADB_ABSENT;
    }
    return r < 0 ? r : seen ? 0 : HADB_ABSENT;
}

static int watch_sub(struct nats_leases *l, const struct hadb_call *call, const char *key,
                     const struct hadb_tag *seen, struct hadb__nats_sub *sub,
                     struct hadb_error *err)
{
    for (;;) {
        int r = compare(l, call, key, seen, err);
        if (r != HADB_ABSENT) {
            return r;
        }
        if (hadb_call_cancelled(call) || hadb_call_left_ms(l->env, call) == 0) {
            return HADB_END;
        }
        if (!hadb__nats_wait(sub, call, WATCH_READ_EVERY_MS)) {
            return hadb_fail(err, HADB_EUNAVAIL, "the connection ended");
        }
    }
}

static int nats_watch(void *self, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    struct nats_leases *l = self;
    struct hadb__nats_reply why = {0};
    char subject[SUBJECT_BYTES];
    if (hadb_call_cancelled(call)) {
        return hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
    }
    struct hadb__nats_sub *sub =
        hadb__nats_subscribe(l->nats, call, subject_of(l, key, subject), &why);
    int r = sub ? watch_sub(l, call, key, seen, sub, err) : judge(&why, false, err);
    hadb__nats_unsubscribe(sub);
    if (r != 0 && hadb_call_cancelled(call)) {
        return hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
    }
    if (r < 0 && hadb_call_left_ms(l->env, call) == 0) {
        return HADB_END;
    }
    return wrap(l, "watch", r, err);
}

static void nats_close(void *self)
{
    struct nats_leases *l = self;
    hadb__nats_close(l->nats);
    hadb__net_place_deinit(&l->place);
    hadb_free(l);
}

static const struct hadb_lease_ops nats_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "nats",
    .read = nats_read,
    .write_if_match = nats_write,
    .watch = nats_watch,
    .close = nats_close,
};

/* --- opening ------------------------------------------------------------------------------------ */

static int read_bucket(const struct hadb_url *url, struct nats_leases *l, struct hadb_error *err)
{
    const char *path = url->path[0] == '/' ? url->path + 1 : url->path;
    path = path[0] ? path : NATS_BUCKET;
    size_t len = strlen(path);
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    if (len > BUCKET_BYTES_MAX || strspn(path, allowed) != len) {
        return hadb_fail(err, HADB_EINVAL, "a bucket has 1 to %u of [A-Za-z0-9_-]",
                         BUCKET_BYTES_MAX);
    }
    memcpy(l->bucket, path, len + 1);
    return 0;
}

static int nats_init(struct nats_leases *l, const struct hadb_url *url, struct hadb_error *err)
{
    static const char *const known[] = {HADB_PLACE_PARAMS, "tls", "replicas", NULL};
    uint64_t tls = 0;
    int r = hadb_url_params_known(url, known, err);
    r = r ? r : hadb_url_param_u64(url, "tls", 0, 1, 0, &tls, err);
    r = r ? r : hadb_url_param_u64(url, "replicas", 1, REPLICAS_MAX, 1, &l->replicas, err);
    r = r ? r
          : hadb__net_place_open(url, l->env, "lease", tls, NATS_PORT, HADB_PLACE_HOSTS_MAX,
                                 &l->place, err);
    r = r ? r : read_bucket(url, l, err);
    return r ? r : hadb__nats_open(&l->place, l->env, &l->nats, err);
}

int hadb__lease_nats_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err)
{
    struct nats_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return hadb_fail_nomem(err);
    }
    l->env = env;
    int r = nats_init(l, url, err);
    if (r) {
        nats_close(l);
        return r;
    }
    *out = (struct hadb_lease){.ops = &nats_ops, .self = l};
    return 0;
}
