/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the text form of a probe's result, and where it is kept.
 *
 *   hadb-probe 1
 *   at_unix_ms 1700000000000
 *   took_ms 123
 *   race passed 8 creators of 4 keys, one winner each
 *   ...one such line per check, in the order of enum hadb_probe_check
 *
 * Thread: any; no state.
 * Invariant: what decodes has every check exactly once; may_lead is derived, never read.
 * Failure modes: HADB_ETOOBIG, HADB_EVERSION, HADB_ECORRUPT for foreign text.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/url.h"
#include "storage/key.h"
#include "storage/probe.h"
#include "storage/probe_private.h"

static const char *const check_names[HADB_PROBE_LEN] = {
    [HADB_PROBE_RACE] = "race",
    [HADB_PROBE_EXISTS] = "exists",
    [HADB_PROBE_STALE_TAG] = "stale_tag",
    [HADB_PROBE_REPLACE_RACE] = "replace_race",
    [HADB_PROBE_ABSENT_TAG] = "absent_tag",
    [HADB_PROBE_READ_AFTER] = "read_after",
    [HADB_PROBE_ABSENT_FIRST] = "absent_first",
    [HADB_PROBE_LARGE] = "large",
    [HADB_PROBE_SAME_BYTES] = "same_bytes",
    [HADB_PROBE_DELETE] = "delete",
};

static const char *const status_names[] = {
    [HADB_PROBE_NOT_RUN] = "not_run",
    [HADB_PROBE_PASSED] = "passed",
    [HADB_PROBE_FAILED] = "failed",
    [HADB_PROBE_RECORDED] = "recorded",
};

const char *hadb_probe_check_name(enum hadb_probe_check check)
{
    HADB_ASSERT(check < HADB_PROBE_LEN);
    return check_names[check];
}

const char *hadb_probe_status_name(enum hadb_probe_status status)
{
    HADB_ASSERT((size_t)status < HADB_LEN(status_names));
    return status_names[status];
}

bool hadb__probe_may_lead(const struct hadb_probe_result *result)
{
    for (size_t i = 0; i < HADB_PROBE_LEN; i++) {
        bool recorded = i == HADB_PROBE_SAME_BYTES || i == HADB_PROBE_DELETE;
        if (!recorded && result->checks[i].status != HADB_PROBE_PASSED) {
            return false;
        }
    }
    return true;
}

int hadb_probe_encode(const struct hadb_probe_result *result, struct hadb_buf *out)
{
    int r = hadb_buf_printf(out, "hadb-probe %u\nat_unix_ms %" PRId64 "\ntook_ms %" PRIu64 "\n",
                            HADB_PROBE_VERSION, result->at_unix_ms, result->took_ms);
    for (size_t i = 0; i < HADB_PROBE_LEN && r == 0; i++) {
        r = hadb_buf_printf(out, "%s %s %s\n", check_names[i],
                            hadb_probe_status_name(result->checks[i].status),
                            result->checks[i].text);
    }
    return r;
}

/* Takes the next line off *@rest and splits it at its first space. */
static bool next_line(char **rest, char **name, char **value)
{
    char *end = strchr(*rest, '\n');
    char *space = end ? memchr(*rest, ' ', (size_t)(end - *rest)) : NULL;
    if (!space) {
        return false;
    }
    *end = '\0';
    *space = '\0';
    *name = *rest;
    *value = space + 1;
    *rest = end + 1;
    return true;
}

static bool read_number(char **rest, const char *wanted, uint64_t *out)
{
    char *name, *value;
    return next_line(rest, &name, &value) && strcmp(name, wanted) == 0 &&
           hadb_parse_u64(value, 0, INT64_MAX, out) && (value[0] != '0' || value[1] == '\0');
}

static bool read_check(char **rest, size_t check, struct hadb_probe_result *out)
{
    char *name, *value;
    if (!next_line(rest, &name, &value) || strcmp(name, check_names[check]) != 0) {
        return false;
    }
    char *space = strchr(value, ' ');
    if (!space || strlen(space + 1) >= sizeof(out->checks[check].text)) {
        return false;
    }
    *space = '\0';
    for (size_t i = 0; i < HADB_LEN(status_names); i++) {
        if (strcmp(value, status_names[i]) == 0) {
            out->checks[check].status = (enum hadb_probe_status)i;
            memcpy(out->checks[check].text, space + 1, strlen(space + 1) + 1);
            return true;
        }
    }
    return false;
}

int hadb_probe_decode(struct hadb_slice text, struct hadb_probe_result *result,
                      struct hadb_error *err)
{
    char copy[HADB_PROBE_TEXT_BYTES_MAX + 1];
    if (text.len > HADB_PROBE_TEXT_BYTES_MAX) {
        return hadb_fail(err, HADB_ETOOBIG, "probe result has %zu bytes, at most %u are allowed",
                         text.len, HADB_PROBE_TEXT_BYTES_MAX);
    }
    if (text.len > 0) {
        memcpy(copy, text.data, text.len);
    }
    copy[text.len] = '\0';
    struct hadb_probe_result out = {0};
    char *rest = copy;
    uint64_t version = 0, at_unix_ms = 0;
    if (!read_number(&rest, "hadb-probe", &version)) {
        return hadb_fail(err, HADB_ECORRUPT, "not a probe result");
    }
    if (version != HADB_PROBE_VERSION) {
        return hadb_fail(err, HADB_EVERSION, "probe result has version %" PRIu64, version);
    }
    bool good = read_number(&rest, "at_unix_ms", &at_unix_ms) &&
                read_number(&rest, "took_ms", &out.took_ms);
    for (size_t i = 0; i < HADB_PROBE_LEN && good; i++) {
        good = read_check(&rest, i, &out);
    }
    if (!good || rest != copy + text.len) {
        return hadb_fail(err, HADB_ECORRUPT, "probe result is damaged");
    }
    out.at_unix_ms = (int64_t)at_unix_ms;
    out.may_lead = hadb__probe_may_lead(&out);
    *result = out;
    return 0;
}

static int result_key(const char *prefix, const char *version,
                      char out[HADB_OBJECT_KEY_BYTES_MAX + 1], struct hadb_error *err)
{
    int len = snprintf(out, HADB_OBJECT_KEY_BYTES_MAX + 1, "%s/%s", prefix, version);
    if (len < 0 || (size_t)len > HADB_OBJECT_KEY_BYTES_MAX) {
        return hadb_fail(err, HADB_EINVAL, "probe prefix and version are too long");
    }
    return hadb__object_key_check(out, err);
}

int hadb_probe_store(struct hadb_storage *storage, const struct hadb_call *call, const char *prefix,
                     const char *version, const struct hadb_probe_result *result,
                     struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf old = {0};
    char key[HADB_OBJECT_KEY_BYTES_MAX + 1];
    struct hadb_tag tag = {0};
    int r = result_key(prefix, version, key, err);
    if (r) {
        return r;
    }
    if (hadb_probe_encode(result, &text)) {
        return hadb_fail_nomem(err);
    }
    /* Looked up first: of a store that fails its checks, "created" may be a lie. */
    r = hadb_storage_get(storage, call, key, &old, &tag, err);
    if (r == 0) {
        r = hadb_storage_replace(storage, call, key, hadb_buf_slice(&text), &tag, NULL, err);
    } else if (r == HADB_ABSENT) {
        r = hadb_storage_create(storage, call, key, hadb_buf_slice(&text), NULL, err);
    }
    return r > 0 ? 0 : r; /* another node keeps its own result at this moment: as good */
}

int hadb_probe_load(struct hadb_storage *storage, const struct hadb_call *call, const char *prefix,
                    const char *version, struct hadb_probe_result *result, struct hadb_error *err)
{
    HADB_CLEANUP(hadb_buf_deinit) struct hadb_buf text = {0};
    char key[HADB_OBJECT_KEY_BYTES_MAX + 1];
    int r = result_key(prefix, version, key, err);
    if (r == 0) {
        r = hadb_storage_get(storage, call, key, &text, NULL, err);
    }
    if (r == 0) {
        r = hadb_probe_decode(hadb_buf_slice(&text), result, err);
        r = r == HADB_EVERSION ? HADB_ABSENT : hadb_wrap(err, r, "%.100s", key);
    }
    return r;
}
