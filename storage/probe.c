/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the conformance probe: runs every check of a store's promises and removes what it wrote.
 *
 * Thread: the caller's (and those of probe_race.c, joined).
 * Invariants: keys carry a random run id, so that runs never meet; a check that could not be asked gives no
 * verdict at all; nothing is decided from listings.
 * Happy path: nine small objects, a race, a large body, one delete. Failure modes: as in probe.h.
 */
#include "storage/probe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/env.h"
#include "base/error.h"
#include "base/hash.h"
#include "storage/key.h"
#include "storage/probe_private.h"

#define PROBE_SENDS_MAX 5u /* of one create whose outcome stays unknown */
#define PROBE_CLEAN_MS 10000u
#define PROBE_CLEAN_KEYS 32u
#define PROBE_PREFIX_BYTES_MAX 512u

void hadb__probe_key(const struct hadb__probe *p, const char *name, unsigned i,
                     char out[PROBE_KEY_BYTES])
{
    int len = snprintf(out, PROBE_KEY_BYTES, "%s-%s-%u", p->base, name, i);
    HADB_ASSERT(len > 0 && (size_t)len < PROBE_KEY_BYTES);
}

struct hadb_slice hadb__probe_body(const struct hadb__probe *p, char out[PROBE_BODY_BYTES])
{
    uint8_t random[(PROBE_BODY_BYTES - 2) / 2];
    char hex[2 * sizeof(random) + 1];
    hadb_random(p->env, random, sizeof(random));
    hadb_hex_encode(random, sizeof(random), hex);
    memset(out, '.', PROBE_BODY_BYTES);
    memcpy(out, hex, sizeof(hex) - 1);
    return hadb_slice(out, PROBE_BODY_BYTES);
}

void hadb__probe_verdict(struct hadb__probe *p, enum hadb_probe_check check,
                         enum hadb_probe_status status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->result.checks[check].text, sizeof(p->result.checks[check].text), fmt, args);
    va_end(args);
    p->result.checks[check].status = status;
}

int hadb__probe_same(struct hadb__probe *p, const char *key, struct hadb_slice body, bool *same,
                     struct hadb_tag *tag, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf bytes = {0};
    int r = hadb_storage_get(p->storage, &p->call, key, &bytes, tag, err);
    if (r < 0) {
        return r;
    }
    *same = r == 0 && hadb_slice_eq(hadb_buf_slice(&bytes), body);
    return 0;
}

/* Sends a create until its outcome is known. *sends: how often. */
static int send_create(struct hadb__probe *p, const char *key, struct hadb_slice body,
                       unsigned *sends, struct hadb_error *err)
{
    int r = 0;
    *sends = 0;
    do {
        r = hadb_storage_create(p->storage, &p->call, key, body, NULL, err);
        ++*sends;
    } while (r == HADB_ETIMEDOUT && *sends < PROBE_SENDS_MAX &&
             hadb_call_left_ms(p->env, &p->call) > 0);
    return r;
}

int hadb__probe_create(struct hadb__probe *p, const char *key, struct hadb_slice body,
                       struct hadb_error *err)
{
    unsigned sends = 0;
    int r = send_create(p, key, body, &sends, err);
    if (r == HADB_EXISTS && sends > 1) { /* perhaps our own, from a send whose reply was lost */
        bool mine = false;
        int got = hadb__probe_same(p, key, body, &mine, NULL, err);
        r = got < 0 ? got : mine ? 0 : HADB_EXISTS;
    }
    return r;
}

/* Notes a failed check; its result as the value of the checking function. */
static int failed(struct hadb__probe *p, enum hadb_probe_check check, const char *text)
{
    hadb__probe_verdict(p, check, HADB_PROBE_FAILED, "%s", text);
    return 0;
}

static int check_exists(struct hadb__probe *p, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES], first[PROBE_BODY_BYTES], second[PROBE_BODY_BYTES];
    struct hadb_slice mine = hadb__probe_body(p, first);
    bool same = false;
    unsigned sends = 0;
    hadb__probe_key(p, "exists", 0, key);
    int r = hadb__probe_create(p, key, mine, err);
    if (r) {
        return r < 0 ? r : failed(p, HADB_PROBE_EXISTS, "a key nobody used was taken");
    }
    r = send_create(p, key, hadb__probe_body(p, second), &sends, err);
    if (r <= 0) {
        return r < 0 ? r : failed(p, HADB_PROBE_EXISTS, "a second create of one key was done");
    }
    r = send_create(p, key, mine, &sends, err);
    if (r <= 0) {
        return r < 0 ? r : failed(p, HADB_PROBE_EXISTS, "a create with equal bytes was done");
    }
    r = hadb__probe_same(p, key, mine, &same, NULL, err);
    if (r) {
        return r;
    }
    if (!same) {
        return failed(p, HADB_PROBE_EXISTS, "a refused create changed the object");
    }
    hadb__probe_verdict(p, HADB_PROBE_EXISTS, HADB_PROBE_PASSED, "the first bytes stay");
    return 0;
}

/* Replaces with a tag of now, then with one that is outdated; @texts in the order of what can fail. */
static int check_stale_tag(struct hadb__probe *p, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES], one[PROBE_BODY_BYTES], two[PROBE_BODY_BYTES];
    char three[PROBE_BODY_BYTES];
    struct hadb_slice first = hadb__probe_body(p, one), second = hadb__probe_body(p, two);
    struct hadb_tag old = {0}, now = {0};
    bool same = false;
    hadb__probe_key(p, "tag", 0, key);
    int r = hadb__probe_create(p, key, first, err);
    if (r == 0) {
        r = hadb__probe_same(p, key, first, &same, &old, err);
    }
    if (r < 0) {
        return r;
    }
    if (r > 0 || !same || old.s[0] == '\0') {
        return failed(p, HADB_PROBE_STALE_TAG, "a new object did not come back with a tag");
    }
    r = hadb_storage_replace(p->storage, &p->call, key, second, &old, NULL, err);
    if (r) {
        return r < 0 ? r : failed(p, HADB_PROBE_STALE_TAG, "the tag of now was refused");
    }
    r = hadb_storage_replace(p->storage, &p->call, key, hadb__probe_body(p, three), &old, NULL,
                             err);
    if (r <= 0) {
        return r < 0 ? r : failed(p, HADB_PROBE_STALE_TAG, "an outdated tag was accepted");
    }
    r = hadb__probe_same(p, key, second, &same, &now, err);
    if (r) {
        return r;
    }
    if (!same || strcmp(now.s, old.s) == 0) {
        return failed(p, HADB_PROBE_STALE_TAG, "a replaced object has old bytes or its old tag");
    }
    hadb__probe_verdict(p, HADB_PROBE_STALE_TAG, HADB_PROBE_PASSED, "an outdated tag is refused");
    return 0;
}

static int check_absent_tag(struct hadb__probe *p, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES], other[PROBE_KEY_BYTES], body[PROBE_BODY_BYTES];
    struct hadb_slice bytes = hadb__probe_body(p, body);
    struct hadb_tag tag = {0};
    bool same = false;
    hadb__probe_key(p, "ghost", 0, key);
    hadb__probe_key(p, "ghost", 1, other);
    int r = hadb__probe_create(p, other, bytes, err); /* a tag that this store may give out */
    if (r == 0) {
        r = hadb__probe_same(p, other, bytes, &same, &tag, err);
    }
    if (r < 0) {
        return r;
    }
    if (r > 0 || !same || tag.s[0] == '\0') {
        return failed(p, HADB_PROBE_ABSENT_TAG, "a new object did not come back with a tag");
    }
    r = hadb_storage_replace(p->storage, &p->call, key, bytes, &tag, NULL, err);
    if (r <= 0) {
        return r < 0 ? r : failed(p, HADB_PROBE_ABSENT_TAG, "an absent object was replaced");
    }
    r = hadb__probe_same(p, key, bytes, &same, NULL, err);
    if (r) {
        return r;
    }
    if (same) {
        return failed(p, HADB_PROBE_ABSENT_TAG, "a refused replace made an object");
    }
    hadb__probe_verdict(p, HADB_PROBE_ABSENT_TAG, HADB_PROBE_PASSED, "nothing to replace");
    return 0;
}

/* Bytes that do not compress and that differ everywhere. */
static void fill_noise(const struct hadb__probe *p, uint8_t *out, size_t len)
{
    uint64_t dice = 0;
    hadb_random(p->env, &dice, sizeof(dice));
    for (size_t i = 0; i < len; i++) {
        dice = dice * 6364136223846793005ull + 1442695040888963407ull;
        out[i] = (uint8_t)(dice >> 56);
    }
}

static int compare_large(struct hadb__probe *p, const char *key, struct hadb_slice body,
                         struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf part = {0};
    struct hadb_object_meta meta = {0};
    bool same = false;
    size_t middle = body.len / 2, some = HADB_MIN(body.len - middle, (size_t)4096);
    int r = hadb__probe_same(p, key, body, &same, NULL, err);
    if (r == 0 && !same) {
        return failed(p, HADB_PROBE_LARGE, "the object has other bytes or another length");
    }
    if (r == 0) {
        r = hadb_storage_head(p->storage, &p->call, key, &meta, err);
    }
    if (r > 0 || (r == 0 && meta.size_bytes != body.len)) {
        return failed(p, HADB_PROBE_LARGE, "head says another length than was written");
    }
    if (r == 0) {
        r = hadb_storage_get_range(p->storage, &p->call, key, middle, some, &part, err);
    }
    if (r > 0 ||
        (r == 0 && !hadb_slice_eq(hadb_buf_slice(&part),
                                  hadb_slice((const uint8_t *)body.data + middle, some)))) {
        return failed(p, HADB_PROBE_LARGE, "a range has other bytes than the object");
    }
    if (r == 0) {
        hadb__probe_verdict(p, HADB_PROBE_LARGE, HADB_PROBE_PASSED, "%zu bytes came back whole",
                            body.len);
    }
    return r;
}

static int check_large(struct hadb__probe *p, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES];
    uint8_t *noise = hadb_malloc(p->options.large_bytes);
    if (!noise) {
        return hadb_fail_nomem(err);
    }
    fill_noise(p, noise, p->options.large_bytes);
    hadb__probe_key(p, "large", 0, key);
    struct hadb_slice body = hadb_slice(noise, p->options.large_bytes);
    int r = hadb__probe_create(p, key, body, err);
    if (r == 0) {
        r = compare_large(p, key, body, err);
    } else if (r > 0) {
        r = failed(p, HADB_PROBE_LARGE, "a key nobody used was taken");
    }
    hadb_free(noise);
    return r;
}

static int check_same_bytes(struct hadb__probe *p, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES], body[PROBE_BODY_BYTES];
    struct hadb_slice bytes = hadb__probe_body(p, body);
    struct hadb_tag before = {0}, after = {0};
    bool same = false;
    hadb__probe_key(p, "equal", 0, key);
    int r = hadb__probe_create(p, key, bytes, err);
    if (r == 0) {
        r = hadb__probe_same(p, key, bytes, &same, &before, err);
    }
    if (r == 0 && same && before.s[0] != '\0') {
        r = hadb_storage_replace(p->storage, &p->call, key, bytes, &before, NULL, err);
    }
    if (r == 0) {
        r = hadb__probe_same(p, key, bytes, &same, &after, err);
    }
    if (r >= 0) {
        hadb__probe_verdict(p, HADB_PROBE_SAME_BYTES, HADB_PROBE_RECORDED,
                            r > 0 || !same                   ? "equal bytes are not replaced"
                            : strcmp(before.s, after.s) == 0 ? "equal bytes keep the tag"
                                                             : "equal bytes get a new tag");
    }
    return HADB_MIN(r, 0);
}

static int check_delete(struct hadb__probe *p, struct hadb_error *err)
{
    char key[PROBE_KEY_BYTES], body[PROBE_BODY_BYTES];
    struct hadb_slice bytes = hadb__probe_body(p, body);
    const char *keys[1] = {key};
    bool seen = false;
    hadb__probe_key(p, "delete", 0, key);
    int r = hadb__probe_create(p, key, bytes, err);
    if (r < 0) {
        return r;
    }
    r = hadb_storage_delete_many(p->storage, &p->call, keys, 1, err);
    if (r == HADB_EAUTH || r == HADB_ENOTSUP) { /* costs room, no write */
        hadb__probe_verdict(p, HADB_PROBE_DELETE, HADB_PROBE_RECORDED, "refused: %s",
                            err ? err->message : hadb_code_text(r));
        return 0;
    }
    if (r == 0) {
        r = hadb__probe_same(p, key, bytes, &seen, NULL, err);
    }
    int again = r == 0 && !seen ? hadb__probe_create(p, key, bytes, err) : 0;
    if (r == 0 && again >= 0) {
        hadb__probe_verdict(p, HADB_PROBE_DELETE, HADB_PROBE_RECORDED,
                            seen    ? "a deleted object is still seen"
                            : again ? "gone at once, but its key stays taken"
                                    : "gone at once, its key is free again");
    }
    return r ? r : HADB_MIN(again, 0);
}

static const struct {
    enum hadb_probe_check check;
    int (*run)(struct hadb__probe *p, struct hadb_error *err);
    bool needs_replace;
} checks[] = {
    {HADB_PROBE_EXISTS, check_exists, false},
    {HADB_PROBE_STALE_TAG, check_stale_tag, true},
    {HADB_PROBE_ABSENT_TAG, check_absent_tag, true},
    {HADB_PROBE_RACE, hadb__probe_race, false},
    {HADB_PROBE_REPLACE_RACE, hadb__probe_replace_race, true},
    {HADB_PROBE_READ_AFTER, hadb__probe_read_after, false},
    {HADB_PROBE_ABSENT_FIRST, hadb__probe_absent_first, false},
    {HADB_PROBE_LARGE, check_large, false},
    {HADB_PROBE_SAME_BYTES, check_same_bytes, true},
    {HADB_PROBE_DELETE, check_delete, false},
};

static int run_checks(struct hadb__probe *p, struct hadb_error *err)
{
    bool can_replace = hadb_storage_caps(p->storage) & HADB_STORAGE_CAP_REPLACE;
    for (size_t i = 0; i < HADB_LEN(checks); i++) {
        if (checks[i].needs_replace && !can_replace) {
            failed(p, checks[i].check, "the store has no compare-and-swap");
            continue;
        }
        int r = checks[i].run(p, err);
        if (r) {
            return hadb_wrap(err, r, "probe %s", hadb_probe_check_name(checks[i].check));
        }
        HADB_ASSERT(p->result.checks[checks[i].check].status != HADB_PROBE_NOT_RUN);
    }
    return 0;
}

struct batch {
    char keys[PROBE_CLEAN_KEYS][PROBE_KEY_BYTES];
    const char *names[PROBE_CLEAN_KEYS];
    size_t len;
};

static int clean_batch(struct hadb__probe *p, struct batch *batch, struct hadb_error *err)
{
    struct hadb_call call = hadb_call_within(p->env, PROBE_CLEAN_MS);
    size_t len = batch->len;
    batch->len = 0;
    return hadb_storage_delete_many(p->storage, &call, batch->names, len, err);
}

/* Removes what the run wrote, in few requests. A store that refuses keeps it; the next run does not mind. */
static void clean_up(struct hadb__probe *p)
{
    const struct {
        const char *name;
        unsigned len;
    } written[] = {
        {"exists", 1},
        {"tag", 1},
        {"large", 1},
        {"equal", 1},
        {"delete", 1},
        {"ghost", 2},
        {"race", p->options.keys},
        {"swap", HADB_MAX(p->options.keys / 4, 1u)},
        {"read", p->options.reads},
        {"late", p->options.reads},
    };
    struct batch batch = {.len = 0};
    struct hadb_error cause = {0};
    int r = 0;
    for (size_t i = 0; i < HADB_LEN(written); i++) {
        for (unsigned k = 0; k < written[i].len && r == 0; k++) {
            hadb__probe_key(p, written[i].name, k, batch.keys[batch.len]);
            batch.names[batch.len] = batch.keys[batch.len];
            batch.len++;
            r = batch.len == PROBE_CLEAN_KEYS ? clean_batch(p, &batch, &cause) : 0;
        }
    }
    r = r == 0 ? clean_batch(p, &batch, &cause) : r;
    if (r) {
        snprintf(p->result.left, sizeof(p->result.left), "%s-", p->base);
        hadb_log(p->env, HADB_LOG_WARN, "storage", NULL, "may have left %s-* behind: %s", p->base,
                 cause.message);
    }
}

static int fill_options(const struct hadb_probe_options *given, struct hadb_probe_options *out,
                        struct hadb_error *err)
{
    struct hadb_probe_options o = given ? *given : (struct hadb_probe_options){0};
    o.racers = o.racers ? o.racers : 8;
    o.keys = o.keys ? o.keys : 2;
    o.reads = o.reads ? o.reads : 2;
    o.large_bytes = o.large_bytes ? o.large_bytes : 1u << 20;
    o.limit_ms = o.limit_ms ? o.limit_ms : 60000;
    if (o.racers > HADB_PROBE_RACERS_MAX || o.keys > HADB_PROBE_KEYS_MAX ||
        o.reads > HADB_PROBE_READS_MAX || o.large_bytes > HADB_OBJECT_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "probe options are over their limits");
    }
    *out = o;
    return 0;
}

int hadb__probe_begin(struct hadb__probe *p, const char *prefix, struct hadb_error *err)
{
    uint8_t random[8];
    char hex[2 * sizeof(random) + 1];
    int r = hadb__object_key_check(prefix, err);
    if (r == 0 && strlen(prefix) > PROBE_PREFIX_BYTES_MAX) {
        r = hadb_fail(err, HADB_EINVAL, "probe prefix is longer than %u bytes",
                      PROBE_PREFIX_BYTES_MAX);
    }
    hadb_random(p->env, random, sizeof(random));
    hadb_hex_encode(random, sizeof(random), hex);
    snprintf(p->base, sizeof(p->base), "%s/run-%s", r ? "" : prefix, hex);
    return r;
}

int hadb_probe_run(struct hadb_storage *storage, const char *prefix,
                   const struct hadb_probe_options *options, const struct hadb_env *env,
                   struct hadb_probe_result *result, struct hadb_error *err)
{
    struct hadb__probe p = {.storage = storage, .env = hadb_env_or_host(env)};
    int r = hadb__probe_begin(&p, prefix, err);
    if (r == 0) {
        r = fill_options(options, &p.options, err);
    }
    if (r) {
        return r;
    }
    p.call = hadb_call_within(p.env, p.options.limit_ms);
    p.call.cancel = p.options.cancel;
    uint64_t begin_ms = hadb_now_ms(p.env);
    r = run_checks(&p, err);
    clean_up(&p);
    if (r) {
        return r;
    }
    p.result.at_unix_ms = HADB_MAX(hadb_now_unix_ms(p.env), (int64_t)0);
    p.result.took_ms = hadb_now_ms(p.env) - begin_ms;
    p.result.may_lead = hadb__probe_may_lead(&p.result);
    *result = p.result;
    return 0;
}
