/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lease store "redis://[user:password@]host[:port][/database][?prefix=…]", with TLS "rediss://".
 *
 * Each record is the hash PREFIX + key, with two fields: t, a random tag that no two writes share, and r, the
 * record. So a server that forgets, or is set back, never makes an old tag fit again by counting anew.
 * The hash never expires: nobody sets a time-to-live.
 *
 * Thread: any; constant after open but for the pool of connections (lease/redis_wire.c).
 * Invariants: a write is one script, which the server runs alone: compare t, then set both fields, as its last
 * step. So an error reply in Redis' own words says that nothing was written; other words may be a proxy's, which has
 * passed the script on, and leave it unknown. It is sent once; only when the server does not know the
 * script, which it says before it runs anything, its text is sent instead of its digest.
 * Happy path: read = HMGET; write = EVALSHA; watch = HGET of t, again and again.
 * Failure modes: by the outcome rule; a reply that is none of ours is HADB_ECORRUPT, to a write unknown.
 */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/place.h"
#include "base/util.h"
#include "lease/lease_private.h"
#include "lease/redis_wire.h"

#define REDIS_PORT 6379u
#define REDIS_DATABASE_MAX 1000000u
#define REDIS_WATCH_EVERY_MS 50u
#define REDIS_PREFIX "hadb/lease/"
#define NONCE_BYTES 16u
#define KEY_BYTES (HADB_PLACE_PREFIX_BYTES_MAX + HADB_LEASE_KEY_BYTES_MAX + 1)

/* ARGV: the tag that is expected ("" = no record), the new tag, the record. 1 = written, 0 = lost. */
static const char script[] = "if (redis.call('HGET',KEYS[1],'t') or '')~=ARGV[1] then return 0 end "
                             "redis.call('HSET',KEYS[1],'t',ARGV[2],'r',ARGV[3]) return 1";

struct redis_leases {
    const struct hadb_env *env; /* const after init, like all below */
    struct hadb__net_place place;
    char *prefix;
    struct hadb__redis *redis;
    char digest[41]; /* SHA-1 of the script */
};

/* --- what a reply means ------------------------------------------------------------------------- */

/* Words of the server's error replies. Servers before version 7 put them inside "ERR Error running script". */
static const struct {
    const char *word;
    int code;
    const char *advice;
} refusals[] = {
    {"WRONGPASS", HADB_EAUTH, "check user and password"},
    {"NOAUTH", HADB_EAUTH, "put a password into the url"},
    {"NOPERM", HADB_EAUTH, "this user needs the commands hmget, hget, hset, eval and evalsha"},
    {"invalid password", HADB_EAUTH, "check the password"},
    {"without any password configured", HADB_EAUTH, "the server has no password, drop it"},
    {"no password is set", HADB_EAUTH, "the server has no password, drop it"},
    {"WRONGTYPE", HADB_ECORRUPT, "the key is something else's: use another prefix="},
    {"MOVED", HADB_EINVAL, "name the server that owns the key: clusters are not followed"},
    {"READONLY", HADB_EUNAVAIL, "the server is a replica: name the master"},
    {"OOM", HADB_ENOSPC, "raise maxmemory"},
    {"LOADING", HADB_EUNAVAIL, NULL},
    {"MASTERDOWN", HADB_EUNAVAIL, NULL},
    {"CLUSTERDOWN", HADB_EUNAVAIL, NULL},
    {"TRYAGAIN", HADB_EUNAVAIL, NULL},
    {"NOREPLICAS", HADB_EUNAVAIL, NULL},
    {"MISCONF", HADB_EUNAVAIL, NULL},
    {"BUSY", HADB_EUNAVAIL, NULL},
    {"max number of clients", HADB_EUNAVAIL, NULL},
    {"unknown command", HADB_EIO, "hmget, hget, hset, eval and evalsha are needed"},
};

static int fail_refused(const char *text, bool open, struct hadb_error *err)
{
    for (size_t i = 0; i < HADB_LEN(refusals); i++) {
        if (strstr(text, refusals[i].word)) {
            int r = hadb_fail(err, refusals[i].code, "%.120s", text);
            return refusals[i].advice ? hadb_advise(err, r, refusals[i].advice) : r;
        }
    }
    return hadb_fail(err, open ? HADB_ETIMEDOUT : HADB_EIO, "%.160s", text);
}

/* 0 when there is a reply that is no error. */
static int judge(const struct hadb__redis_reply *reply, bool writes, struct hadb_error *err)
{
    if (reply->refused) {
        return fail_refused(reply->text, false, err);
    }
    if (reply->failure != HADB__HTTP_FINE) {
        return hadb__net_unheard(reply->failure, writes, reply->sent, reply->text, err);
    }
    return reply->reply->type == REDIS_REPLY_ERROR ? fail_refused(reply->reply->str, writes, err)
                                                   : 0;
}

static int wrap(const struct redis_leases *l, const char *what, int r, struct hadb_error *err)
{
    const struct hadb__net_place_host *host = &l->place.hosts[0];
    return hadb_wrap(err, r, "redis %s at %.60s:%" PRIu16, what, host->name, host->port);
}

static struct hadb_slice key_of(const struct redis_leases *l, const char *key, char out[KEY_BYTES])
{
    int len = snprintf(out, KEY_BYTES, "%s%s", l->prefix, key);
    HADB_ASSERT(len > 0 && (size_t)len < KEY_BYTES);
    return hadb_slice(out, (size_t)len);
}

/* --- methods ------------------------------------------------------------------------------------ */

static bool put_tag(const struct redisReply *text, struct hadb_tag *tag)
{
    if (text->type != REDIS_REPLY_STRING || (size_t)text->len != 2 * NONCE_BYTES ||
        memchr(text->str, '\0', (size_t)text->len)) {
        return false;
    }
    memcpy(tag->s, text->str, (size_t)text->len + 1);
    return true;
}

static int fail_foreign(struct hadb_error *err)
{
    return hadb_fail(err, HADB_ECORRUPT,
                     "the key holds no lease record: use another prefix=, or remove it");
}

static int take_record(const struct redisReply *reply, struct hadb_buf *out, struct hadb_tag *tag,
                       struct hadb_error *err)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
        return fail_foreign(err);
    }
    const struct redisReply *text = reply->element[0], *record = reply->element[1];
    if (text->type == REDIS_REPLY_NIL && record->type == REDIS_REPLY_NIL) {
        return HADB_ABSENT;
    }
    if (record->type != REDIS_REPLY_STRING || (size_t)record->len > HADB_LEASE_RECORD_BYTES_MAX ||
        !put_tag(text, tag)) {
        return fail_foreign(err);
    }
    struct hadb_buf copy = {0};
    if (hadb_buf_append(&copy, record->str, (size_t)record->len)) {
        return hadb_fail_nomem(err);
    }
    hadb_buf_deinit(out);
    *out = copy;
    return 0;
}

static int redis_read(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    struct redis_leases *l = self;
    HADB_CLEANUP(hadb__redis_reply_deinit) struct hadb__redis_reply reply = {0};
    char name[KEY_BYTES];
    const struct hadb_slice args[] = {hadb_slice_str("HMGET"), key_of(l, key, name),
                                      hadb_slice_str("t"), hadb_slice_str("r")};
    int r = hadb_call_check(l->env, call, err);
    if (r) {
        return r;
    }
    hadb__redis_perform(l->redis, call, args, HADB_LEN(args), &reply);
    r = judge(&reply, false, err);
    r = r ? r : take_record(reply.reply, out, tag, err);
    return wrap(l, "read", r, err);
}

/* Is this the server's word that it has never seen the script? Then it has run nothing. */
static bool is_unknown_script(const struct hadb__redis_reply *reply)
{
    return reply->failure == HADB__HTTP_FINE && reply->reply &&
           reply->reply->type == REDIS_REPLY_ERROR &&
           strncmp(reply->reply->str, "NOSCRIPT", 8) == 0;
}

static int outcome_of_write(const struct hadb__redis_reply *reply, struct hadb_error *err)
{
    int r = judge(reply, true, err);
    if (r) {
        return r;
    }
    if (reply->reply->type == REDIS_REPLY_INTEGER && reply->reply->integer == 1) {
        return 0;
    }
    if (reply->reply->type == REDIS_REPLY_INTEGER && reply->reply->integer == 0) {
        return HADB_CAS_LOST;
    }
    return hadb_fail(err, HADB_ETIMEDOUT, "the reply is not one of the script's");
}

static int redis_write(void *self, const struct hadb_call *call, const char *key,
                       struct hadb_slice record, const struct hadb_tag *expected,
                       struct hadb_tag *tag, struct hadb_error *err)
{
    struct redis_leases *l = self;
    HADB_CLEANUP(hadb__redis_reply_deinit) struct hadb__redis_reply reply = {0};
    uint8_t nonce[NONCE_BYTES];
    char name[KEY_BYTES], fresh[2 * NONCE_BYTES + 1];
    hadb_random(l->env, nonce, sizeof(nonce));
    hadb_hex_encode(nonce, sizeof(nonce), fresh);
    struct hadb_slice args[] = {hadb_slice_str("EVALSHA"),
                                hadb_slice_str(l->digest),
                                hadb_slice_str("1"),
                                key_of(l, key, name),
                                hadb_slice_str(expected ? expected->s : ""),
                                hadb_slice_str(fresh),
                                record};
    int r = hadb__lease_write_check(l->env, call, err);
    if (r) {
        return r;
    }
    hadb__redis_perform(l->redis, call, args, HADB_LEN(args), &reply);
    if (is_unknown_script(&reply)) {
        args[0] = hadb_slice_str("EVAL");
        args[1] = hadb_slice_str(script);
        r = hadb__lease_write_check(l->env, call, err);
        if (r) {
            return r;
        }
        hadb__redis_perform(l->redis, call, args, HADB_LEN(args), &reply);
    }
    r = outcome_of_write(&reply, err);
    if (r == 0) {
        memcpy(tag->s, fresh, sizeof(fresh));
    }
    return wrap(l, "write", r, err);
}

static int redis_look(void *self, const struct hadb_call *call, const char *key,
                      struct hadb_tag *tag, struct hadb_error *err)
{
    struct redis_leases *l = self;
    HADB_CLEANUP(hadb__redis_reply_deinit) struct hadb__redis_reply reply = {0};
    char name[KEY_BYTES];
    const struct hadb_slice args[] = {hadb_slice_str("HGET"), key_of(l, key, name),
                                      hadb_slice_str("t")};
    hadb__redis_perform(l->redis, call, args, HADB_LEN(args), &reply);
    int r = judge(&reply, false, err);
    if (r == 0 && reply.reply->type == REDIS_REPLY_NIL) {
        return HADB_ABSENT;
    }
    r = r || put_tag(reply.reply, tag) ? r : fail_foreign(err);
    return wrap(l, "watch", r, err);
}

static int redis_watch(void *self, const struct hadb_call *call, const char *key,
                       const struct hadb_tag *seen, struct hadb_error *err)
{
    struct redis_leases *l = self;
    const struct hadb__lease_poll poll = {
        .env = l->env, .self = l, .look = redis_look, .every_ms = REDIS_WATCH_EVERY_MS};
    return hadb__lease_poll(&poll, call, key, seen, err);
}

static void redis_close(void *self)
{
    struct redis_leases *l = self;
    hadb__redis_close(l->redis);
    hadb__net_place_deinit(&l->place);
    hadb_free(l->prefix);
    hadb_free(l);
}

static const struct hadb_lease_ops redis_ops = {
    .abi = HADB_LEASE_ABI,
    .scheme = "redis",
    .read = redis_read,
    .write_if_match = redis_write,
    .watch = redis_watch,
    .close = redis_close,
    .watch_every_ms = REDIS_WATCH_EVERY_MS,
};

/* --- opening ------------------------------------------------------------------------------------ */

static int read_url(const struct hadb_url *url, struct redis_leases *l, uint64_t *database,
                    struct hadb_error *err)
{
    static const char *const known[] = {HADB_PLACE_PARAMS, "prefix", NULL};
    const char *prefix = hadb_url_param(url, "prefix");
    const char *path = url->path[0] == '/' ? url->path + 1 : url->path;
    int r = hadb_url_params_known(url, known, err);
    r = r ? r
          : hadb__net_place_open(url, l->env, "lease", strcmp(url->scheme, "rediss") == 0,
                                 REDIS_PORT, 1, &l->place, err);
    r = r ? r : hadb__net_prefix_copy(prefix ? prefix : REDIS_PREFIX, &l->prefix, err);
    if (r == 0 && l->place.user && !l->place.password) {
        return hadb_fail(err, HADB_EINVAL, "a user needs a password: redis://user:password@host");
    }
    if (r == 0 && path[0] && !hadb_parse_u64(path, 0, REDIS_DATABASE_MAX, database)) {
        return hadb_fail(err, HADB_EINVAL,
                         "behind the host comes the number of a database, as in redis://host/0");
    }
    return r;
}

static int redis_init(struct redis_leases *l, const struct hadb_url *url, struct hadb_error *err)
{
    uint64_t database = 0;
    uint8_t sha1[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int r = read_url(url, l, &database, err);
    if (r) {
        return r;
    }
    if (EVP_Digest(script, sizeof(script) - 1, sha1, &len, EVP_sha1(), NULL) != 1) {
        return hadb_fail(err, HADB_EIO, "libcrypto has no sha-1, which names scripts of redis");
    }
    HADB_ASSERT(2 * len + 1 == sizeof(l->digest));
    hadb_hex_encode(sha1, len, l->digest);
    return hadb__redis_open(&l->place, l->env, (unsigned)database, &l->redis, err);
}

int hadb__lease_redis_open(const struct hadb_url *url, const struct hadb_env *env,
                           struct hadb_lease *out, struct hadb_error *err)
{
    struct redis_leases *l = hadb_calloc(1, sizeof(*l));
    if (!l) {
        return hadb_fail_nomem(err);
    }
    l->env = env;
    int r = redis_init(l, url, err);
    if (r) {
        redis_close(l);
        return r;
    }
    *out = (struct hadb_lease){.ops = &redis_ops, .self = l};
    return 0;
}
