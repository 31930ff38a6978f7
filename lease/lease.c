/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns dispatch of lease stores: the only file that calls a method of struct hadb_lease_ops; and what several
 * stores share.
 *
 * Thread: any; no state of its own.
 * Invariants: no store sees a bad key, an oversize record or a bad tag; no caller sees a result that the
 * contract does not list (asserted).
 * Happy path: check the arguments, call the method, assert the result.
 * Failure modes: HADB_EINVAL, HADB_ETOOBIG, HADB_ENOTSUP (no watch), else what the store says.
 */
#include "hadb/lease.h"

#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "base/util.h"
#include "lease/lease_private.h"

#define HADB_HAS(ops, method, since_abi) ((ops)->abi >= (since_abi) && (ops)->method != NULL)

int hadb_lease_check(const struct hadb_lease *lease, struct hadb_error *err)
{
    if (!lease || !lease->ops) {
        return hadb_fail(err, HADB_EINVAL, "lease store has no method table");
    }
    const struct hadb_lease_ops *ops = lease->ops;
    if (ops->abi < 1) {
        return hadb_fail(err, HADB_EINVAL, "lease method table has abi %u", ops->abi);
    }
    const char *missing = !ops->scheme           ? "scheme"
                          : !ops->read           ? "read"
                          : !ops->write_if_match ? "write_if_match"
                          : !ops->close          ? "close"
                                                 : NULL;
    return missing ? hadb_fail(err, HADB_EINVAL, "lease method table misses %s", missing) : 0;
}

void hadb_lease_close(struct hadb_lease *lease)
{
    if (lease && lease->ops) {
        lease->ops->close(lease->self);
        *lease = (struct hadb_lease){0};
    }
}

/* As object keys: 1..512 bytes of [A-Za-z0-9._/-], no empty part, no part that starts with a dot. */
static int key_check(const char *key, struct hadb_error *err)
{
    size_t len = key ? strnlen(key, HADB_LEASE_KEY_BYTES_MAX + 1) : 0;
    if (len == 0 || len > HADB_LEASE_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "lease key must have 1 to %u bytes",
                         HADB_LEASE_KEY_BYTES_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        char c = key[i];
        bool part_start = i == 0 || key[i - 1] == '/';
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-';
        if (!word && (part_start || (c != '.' && c != '/'))) {
            return hadb_fail(err, HADB_EINVAL, "lease key has a bad byte or part at %zu", i);
        }
    }
    return key[len - 1] == '/' ? hadb_fail(err, HADB_EINVAL, "lease key ends with a slash") : 0;
}

static int tag_check(const struct hadb_tag *tag, struct hadb_error *err)
{
    if (tag && (tag->s[0] == '\0' || !memchr(tag->s, '\0', sizeof(tag->s)))) {
        return hadb_fail(err, HADB_EINVAL, "lease tag is empty or unterminated");
    }
    return 0;
}

int hadb_lease_read(struct hadb_lease *lease, const struct hadb_call *call, const char *key,
                    struct hadb_buf *out, struct hadb_tag *tag, struct hadb_error *err)
{
    if (!lease || !lease->ops || !out || !tag) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = key_check(key, err);
    if (r) {
        return r;
    }
    r = lease->ops->read(lease->self, call, key, out, tag, err);
    HADB_ASSERT(r <= 0 || r == HADB_ABSENT);
    return r;
}

int hadb_lease_write_if_match(struct hadb_lease *lease, const struct hadb_call *call,
                              const char *key, struct hadb_slice record,
                              const struct hadb_tag *expected, struct hadb_tag *tag,
                              struct hadb_error *err)
{
    if (!lease || !lease->ops) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = key_check(key, err);
    if (r == 0) {
        r = tag_check(expected, err);
    }
    if (r) {
        return r;
    }
    if (!record.data && record.len > 0) {
        return hadb_fail_misuse(err, __func__);
    }
    if (record.len > HADB_LEASE_RECORD_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "lease record of %zu bytes is over the limit of %u",
                         record.len, HADB_LEASE_RECORD_BYTES_MAX);
    }
    struct hadb_tag stored = {0};
    r = lease->ops->write_if_match(lease->self, call, key, record, expected, &stored, err);
    HADB_ASSERT(r <= 0 || r == HADB_CAS_LOST);
    if (r == 0) {
        HADB_ASSERT(stored.s[0] != '\0');
        if (tag) {
            *tag = stored;
        }
    }
    return r;
}

int hadb_lease_watch(struct hadb_lease *lease, const struct hadb_call *call, const char *key,
                     const struct hadb_tag *seen, struct hadb_error *err)
{
    if (!lease || !lease->ops) {
        return hadb_fail_misuse(err, __func__);
    }
    int r = key_check(key, err);
    if (r == 0) {
        r = tag_check(seen, err);
    }
    if (r) {
        return r;
    }
    if (!HADB_HAS(lease->ops, watch, 1)) {
        return hadb_fail(err, HADB_ENOTSUP, "lease store %s cannot watch, read it instead",
                         lease->ops->scheme);
    }
    r = lease->ops->watch(lease->self, call, key, seen, err);
    HADB_ASSERT(r <= 0 || r == HADB_END);
    return r;
}

bool hadb_lease_tells(const struct hadb_lease *lease)
{
    return lease && lease->ops && HADB_HAS(lease->ops, watch, 1) && lease->ops->watch_every_ms == 0;
}

int hadb__lease_write_check(const struct hadb_env *env, const struct hadb_call *call,
                            struct hadb_error *err)
{
    int r = hadb_call_check(env, call, err);
    if (r == HADB_ETIMEDOUT) {
        return hadb_fail(err, HADB_EUNAVAIL, "deadline passed before the write, nothing written");
    }
    return r;
}

int hadb__lease_poll(const struct hadb__lease_poll *poll, const struct hadb_call *call,
                     const char *key, const struct hadb_tag *seen, struct hadb_error *err)
{
    HADB_ASSERT(poll->every_ms > 0);
    for (;;) {
        struct hadb_tag now = {0};
        if (hadb_call_cancelled(call)) {
            return hadb_fail(err, HADB_ECANCELED, "watch was cancelled");
        }
        int r = poll->look(poll->self, call, key, &now, err);
        if (r >= 0 && (r == HADB_ABSENT ? seen != NULL : !seen || strcmp(now.s, seen->s) != 0)) {
            return 0;
        }
        uint64_t left_ms = hadb_call_left_ms(poll->env, call);
        if (r < 0 && left_ms > 0) {
            return r;
        }
        if (left_ms == 0) {
            return HADB_END;
        }
        hadb_sleep_ms(HADB_MIN(left_ms, (uint64_t)poll->every_ms), call);
    }
}
