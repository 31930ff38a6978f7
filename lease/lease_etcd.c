/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store "etcd://[user:password@]host[:port][,host…]/prefix", with TLS "etcds://" or "?tls=1".
 *
 * Each record is the key PREFIX/KEY; its value begins with the header of lease/record.h, which ends in a random
 * nonce. The tag is "MOD_REVISION-NONCE". A write is one transaction that compares the revision, and that the value
 * still begins with the nonce: a cluster that was wiped or set back counts its revisions anew, and an old tag does
 * not fit again. No key is bound to a lease of etcd's, so none expires.
 *
 * Thread: any; constant after open but for lease/etcd_wire.c.
 * Invariants: one write is one transaction, sent once.
 * Happy path: read = range; write = txn; watch = range, then the stream of changes from that revision on.
 * Failure modes: by the outcome rule (lease/etcd_wire.c); HADB_ECORRUPT for a value that is no lease record.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/util.h"
#include "lease/etcd_wire.h"
#include "lease/lease_private.h"
#include "lease/record.h"

#define ETCD_PORT 2379u
#define ETCD_PREFIX "hadb/lease"
#define WATCH_PIECE_MS_MAX 10000u /* then the key is read again: the stream may be half-open */
#define WATCH_PAUSE_MS 50u        /* between streams that end without a change */
#define NONCE_END 32u             /* of the header: magic, version 0, nonce */

struct etcd_leases {
    const struct hadb_env *env; /* const after init, like all below */
    struct hadb__net_place place;
    char *prefix;
    struct hadb__etcd *etcd;
};

/* --- requests ----------------------------------------------------------------------------------- */

/* Appends the name of @key as JSON wants it, in base64. 0 or HADB_ENOMEM. */
static int put_key(const struct etcd_leases *l, const char *key, struct hadb_buf *out)
{
    char name[HADB_PLACE_PREFIX_BYTES_MAX + HADB_LEASE_KEY_BYTES_MAX + 2];
    snprintf(name, sizeof(name), "%s/%s", l->prefix, key);
    return hadb__base64_encode(hadb_slice_str(name), out);
}

/* Appends @before, @bytes in base64, @after. 0 or HADB_ENOMEM. */
static int put_bytes(struct hadb_buf *out, const char *before, struct hadb_slice bytes,
                     const char *after)
{
    int r = hadb_buf_append_str(out, before);
    r = r ? r : hadb__base64_encode(bytes, out);
    return r ? r : hadb_buf_append_str(out, after);
}

/* "compare" of a transaction: the record is the one with this tag, or there is none. */
static int put_compare(struct hadb_buf *out, struct hadb_slice key64, const struct hadb_tag *tag,
                       uint64_t revision, const uint8_t nonce[16])
{
    int len = (int)key64.len;
    const char *key = key64.data;
    int r =
        hadb_buf_printf(out,
                        "{\"compare\":[{\"key\":\"%.*s\",\"target\":\"MOD\",\"result\":\"EQUAL\","
                        "\"mod_revision\":\"%" PRIu64 "\"}",
                        len, key, revision);
    if (r || !tag) {
        return r ? r : hadb_buf_append_str(out, "],");
    }
    /* Values that begin with "magic, 0, nonce" lie between these two, seen as numbers. */
    uint8_t low[NONCE_END] = "hadblse1", high[NONCE_END];
    memcpy(low + 16, nonce, 16);
    memcpy(high, low, sizeof(high));
    for (size_t i = NONCE_END; i-- > 0 && ++high[i] == 0;) {
    }
    static const char *const results[] = {"GREATER", "LESS"};
    const struct hadb_slice bounds[] = {hadb_slice(low, sizeof(low)),
                                        hadb_slice(high, sizeof(high))};
    for (size_t i = 0; i < 2 && r == 0; i++) {
        r = hadb_buf_printf(out, ",{\"key\":\"%.*s\",\"target\":\"VALUE\",\"result\":\"%s\",", len,
                            key, results[i]);
        r = r ? r : put_bytes(out, "\"value\":\"", bounds[i], "\"}");
    }
    return r ? r : hadb_buf_append_str(out, "],");
}

static int build_txn(const struct etcd_leases *l, const char *key, struct hadb_slice value,
                     const struct hadb_tag *tag, uint64_t revision, const uint8_t nonce[16],
                     struct hadb_buf *out)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf key64 = {0};
    int r = put_key(l, key, &key64);
    r = r ? r : put_compare(out, hadb_buf_slice(&key64), tag, revision, nonce);
    r = r ? r
          : hadb_buf_printf(out, "\"success\":[{\"request_put\":{\"key\":\"%.*s\",", (int)key64.len,
                            (const char *)key64.data);
    return r ? r : put_bytes(out, "\"value\":\"", value, "\"}}]}");
}

/* --- replies ------------------------------------------------------------------------------------ */

static json_t *parse(const struct hadb__http_reply *reply)
{
    return json_loadb(reply->body.data ? (const char *)reply->body.data : "", reply->body.len,
                      JSON_REJECT_DUPLICATES, NULL);
}

/* etcd writes int64 as strings, and leaves a zero out. */
static bool read_u64(const json_t *object, const char *name, uint64_t *out)
{
    return hadb_parse_u64(json_string_value(json_object_get(object, name)), 1, INT64_MAX, out);
}

/* What a range says of one key. */
struct found {
    uint64_t now; /* revision of the whole store */
    uint64_t revision;
    struct hadb__lease_record record;
};

static void found_deinit(struct found *found)
{
    hadb_buf_deinit(&found->record.bytes);
}

static int read_value(const json_t *kv, struct found *out, struct hadb_error *err)
{
    const json_t *value = json_object_get(kv, "value");
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    size_t len = json_is_string(value) ? json_string_length(value) : 0;
    if (!read_u64(kv, "mod_revision", &out->revision)) {
        return hadb_fail(err, HADB_EIO, "the reply is not one of etcd's to a range");
    }
    if (hadb_buf_reserve(&out->record.bytes, len / 4 * 3 + 1)) {
        return hadb_fail_nomem(err);
    }
    if (len > 2 * HADB_LEASE_RECORD_BYTES_MAX ||
        !hadb__base64_decode(text, len, &out->record.bytes) ||
        !hadb__lease_record_decode(&out->record) || out->record.version != 0) {
        return hadb_fail(err, HADB_ECORRUPT,
                         "the key holds no lease record: use another prefix, or remove it");
    }
    return 0;
}

/* 0 or HADB_ABSENT. */
static int read_range(const struct hadb__http_reply *reply, struct found *out,
                      struct hadb_error *err)
{
    json_t *root = parse(reply);
    const json_t *kvs = json_object_get(root, "kvs");
    int r = HADB_ABSENT;
    if (!read_u64(json_object_get(root, "header"), "revision", &out->now)) {
        r = hadb_fail(err, HADB_EIO, "the reply is not one of etcd's to a range");
    } else if (json_array_size(kvs) > 0) {
        r = read_value(json_array_get(kvs, 0), out, err);
    }
    json_decref(root);
    return r;
}

static int look(struct etcd_leases *l, const struct hadb_call *call, const char *key,
                struct found *out, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf body = {0};
    int r = hadb_buf_append_str(&body, "{\"key\":\"");
    r = r ? r : put_key(l, key, &body);
    r = r ? r : hadb_buf_append_str(&body, "\"}");
    if (r) {
        return hadb_fail_nomem(err);
    }
    const struct hadb__etcd_request request = {.path = "/v3/kv/range",
                                               .body = hadb_buf_slice(&body)};
    r = hadb__etcd_perform(l->etcd, call, &request, &reply, err);
    return r ? r : read_range(&reply, out, err);
}

/* --- methods ------------------------------------------------------------------------------------ */

static int etcd_read(void *self, const struct hadb_call *call, const char *key,
                     struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct etcd_leases *l = self;
    HADB_CLEANUP(found_deinit) struct found found = {0};
    int r = hadb_call_check(l->env, call, err);
    r = r ? r : look(l, call, key, &found, err);
    if (r == 0) {
        hadb__lease_record_tag(found.revision, found.record.nonce, tag);
        hadb__lease_record_take(&found.record, out);
    }
    return hadb_wrap(err, r, "read");
}

static int outcome_of_txn(const struct hadb__http_reply *reply, uint64_t *revision,
                          struct hadb_error *err)
{
    json_t *root = parse(reply);
    bool ours = read_u64(json_object_get(root, "header"), "revision", revision);
    bool succeeded = json_is_true(json_object_get(root, "succeeded"));
    json_decref(root);
    if (!ours) {
        return hadb_fail(err, HADB_ETIMEDOUT, "the reply is not one of etcd's to a transaction");
    }
    return succeeded ? 0 : HADB_CAS_LOST;
}

static int write_value(struct etcd_leases *l, const struct hadb_call *call, const char *key,
                       struct hadb__lease_record *fresh, const struct hadb_tag *expected,
                       uint64_t revision, const uint8_t nonce[16], struct hadb_tag *tag,
                       struct hadb_error *err)
{
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf body = {0};
    if (build_txn(l, key, hadb_buf_slice(&fresh->bytes), expected, revision, nonce, &body)) {
        return hadb_fail_nomem(err);
    }
    const struct hadb__etcd_request request = {
        .path = "/v3/kv/txn", .body = hadb_buf_slice(&body), .writes = true};
    int r = hadb__etcd_perform(l->etcd, call, &request, &reply, err);
    r = r ? r : outcome_of_txn(&reply, &revision, err);
    if (r == 0) {
        hadb__lease_record_tag(revision, fresh->nonce, tag);
    }
    return r;
}

static int etcd_write(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_slice record, const struct hadb_tag *expected,
                      struct hadb_tag *tag, struct hadb_error *err)
{
    struct etcd_leases *l = self;
    struct hadb__lease_record fresh = {0};
    uint64_t revision = 0;
    uint8_t nonce[16] = {0};
    int r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        return r;
    }
    if (expected && (!hadb__lease_record_tag_read(expected, &revision, nonce) || revision == 0)) {
        return HADB_CAS_LOST; /* a tag of another store is nobody's here */
    }
    r = hadb__lease_record_encode(l->env, record, &fresh);
    r = r ? hadb_fail_nomem(err)
          : write_value(l, call, key, &fresh, expected, revision, nonce, tag, err);
    hadb_buf_deinit(&fresh.bytes);
    return hadb_wrap(err, r, "write");
}

/* --- watching ----------------------------------------------------------------------------------- */

/* The stream says nothing but that it begins, until something happens. */
static bool has_event(void *arg, struct hadb_slice body)
{
    static const char *const words[] = {"\"events\"", "\"canceled\"", "\"error\""};
    (void)arg;
    for (size_t i = 0; i < HADB_LEN(words); i++) {
        if (memmem(body.data, body.len, words[i], strlen(words[i]))) {
            return true;
        }
    }
    return false;
}

/* Waits for a change of @key after @revision, or of the weather; reading the key tells which. 0 or a failure. */
static int wait_for_change(struct etcd_leases *l, const struct hadb_call *call, const char *key,
                           uint64_t revision, struct hadb_error *err)
{
    HADB_CLEANUP(hadb__http_reply_deinit) struct hadb__http_reply reply = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf body = {0};
    int r = hadb_buf_append_str(&body, "{\"create_request\":{\"key\":\"");
    r = r ? r : put_key(l, key, &body);
    r = r ? r : hadb_buf_printf(&body, "\",\"start_revision\":\"%" PRIu64 "\"}}", revision + 1);
    if (r) {
        return hadb_fail_nomem(err);
    }
    struct hadb_call piece = call ? *call : (struct hadb_call){0};
    uint64_t left = hadb_call_left_ms(l->env, call);
    if (left > WATCH_PIECE_MS_MAX) {
        piece.deadline_ms = hadb_now_ms(l->env) + WATCH_PIECE_MS_MAX;
    }
    const struct hadb__etcd_request request = {
        .path = "/v3/watch", .body = hadb_buf_slice(&body), .enough = has_event};
    r = hadb__etcd_perform(l->etcd, &piece, &request, &reply, err);
    return r == HADB_ETIMEDOUT ? 0 : r; /* nothing happened in this piece */
}

static int etcd_watch(void *self, const struct hadb_call *call, const char *key,
                      const struct hadb_tag *seen, struct hadb_error *err)
{
    struct etcd_leases *l = self;
    for (;;) {
        HADB_CLEANUP(found_deinit) struct found found = {0};
        struct hadb_tag tag;
        if (hadb_call_cancelled(call)) {
            return hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
        }
        int r = look(l, call, key, &found, err);
        if (r == 0) {
            hadb__lease_record_tag(found.revision, found.record.nonce, &tag);
        }
        if (r >= 0 && (r == HADB_ABSENT ? seen != NULL : !seen || strcmp(tag.s, seen->s) != 0)) {
            return 0;
        }
        r = r < 0 ? r : wait_for_change(l, call, key, found.now, err);
        if (hadb_call_left_ms(l->env, call) == 0) {
            return HADB_END;
        }
        if (r) {
            return hadb_wrap(err, r, "watch");
        }
        hadb_sleep_ms(HADB_MIN(hadb_call_left_ms(l->env, call), (uint64_t)WATCH_PAUSE_MS), call);
    }
}

static void etcd_close(void *self)
{
    struct etcd_leases *l = self;
    hadb__etcd_close(l->etcd);
    hadb__net_place_deinit(&l->place);
    hadb_free(l->prefix);
    hadb_free(l);
}

static const struct hadb_lease_ops etcd_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "etcd",
    .read = etcd_read,
    .write_if_match = etcd_write,
    .watch = etcd_watch,
    .close = etcd_close,
};

/* --- opening ------------------------------------------------------------------------------------ */

static int etcd_init(struct etcd_leases *l, const struct hadb_url *url, struct hadb_error *err)
{
    static const char *const known[] = {HADB_PLACE_PARAMS, "tls", NULL};
    const char *path = url->path[0] == '/' ? url->path + 1 : url->path;
    bool must = strcmp(url->scheme, "etcds") == 0;
    uint64_t tls = 0;
    int r = hadb_url_params_known(url, known, err);
    r = r ? r : hadb_url_param_u64(url, "tls", must, 1, must, &tls, err);
    r = r ? r
          : hadb__net_place_open(url, l->env, "lease", tls, ETCD_PORT, HADB_PLACE_HOSTS_MAX,
                                 &l->place, err);
    r = r ? r : hadb__net_prefix_copy(path[0] ? path : ETCD_PREFIX, &l->prefix, err);
    if (r == 0 && !l->place.user != !l->place.password) {
        return hadb_fail(err, HADB_EINVAL,
                         "user and password go together: etcd://user:password@host");
    }
    return r ? r : hadb__etcd_open(&l->place, l->env, &l->etcd, err);
}

int hadb__lease_etcd_open(const struct hadb_url *url, const struct hadb_env *env,
                          struct hadb_lease *out, struct hadb_error *err)
{
    struct etcd_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return hadb_fail_nomem(err);
    }
    l->env = env;
    int r = etcd_init(l, url, err);
    if (r) {
        etcd_close(l);
        return r;
    }
    *out = (struct hadb_lease){.ops = &etcd_ops, .self = l};
    return 0;
}
