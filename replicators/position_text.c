/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 1 of 8: versions and bookmarks as text, the forms that travel in headers. Pure; any thread.
 * Invariants: one value has one text; anything else does not parse. Failure modes: none but that.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/id.h"
#include "base/url.h"
#include "hadb/executor.h"

#define NUMBER_DIGITS_MAX 20u /* of a 64-bit number */
static_assert(HADB_VERSION_TEXT_BYTES >= 2 * NUMBER_DIGITS_MAX + 2, "term.txid and NUL");
static_assert(HADB_BOOKMARK_BYTES_MAX >= HADB_ID_TEXT_BYTES + 2 * NUMBER_DIGITS_MAX + 1,
              "uuid.term.txid");

void hadb_version_format(const struct hadb_version *version, char out[HADB_VERSION_TEXT_BYTES])
{
    if (out) {
        snprintf(out, HADB_VERSION_TEXT_BYTES, "%" PRIu64 ".%" PRIu64, version ? version->term : 0,
                 version ? version->txid : 0);
    }
}

/* A decimal number without leading zeros, up to @stop; NULL if there is none. */
static const char *read_number(const char *text, char stop, uint64_t *out)
{
    char digits[NUMBER_DIGITS_MAX + 1];
    size_t len = 0;
    while (text[len] >= '0' && text[len] <= '9' && len < NUMBER_DIGITS_MAX) {
        digits[len] = text[len];
        len++;
    }
    digits[len] = '\0';
    if (len == 0 || text[len] != stop || (len > 1 && digits[0] == '0')) {
        return NULL;
    }
    return hadb_parse_u64(digits, 0, UINT64_MAX, out) ? text + len : NULL;
}

bool hadb_version_parse(const char *text, struct hadb_version *out)
{
    struct hadb_version version;
    const char *at = text && out ? read_number(text, '.', &version.term) : NULL;
    if (!at || !read_number(at + 1, '\0', &version.txid)) {
        return false;
    }
    *out = version;
    return true;
}

void hadb_bookmark_format(const struct hadb_id *db, const struct hadb_version *version,
                          struct hadb_bookmark *out)
{
    char uuid[HADB_ID_TEXT_BYTES];
    if (!db || !version || !out) {
        if (out) {
            out->s[0] = '\0';
        }
        return;
    }
    hadb_id_format(db, uuid);
    snprintf(out->s, sizeof(out->s), "%s.%" PRIu64 ".%" PRIu64, uuid, version->term, version->txid);
}

bool hadb_bookmark_parse(const char *text, struct hadb_id *db, struct hadb_version *version)
{
    char uuid[HADB_ID_TEXT_BYTES];
    size_t len = 0;
    if (!db || !version) {
        return false;
    }
    while (text && text[len] && len < sizeof(uuid) - 1) {
        uuid[len] = text[len];
        len++;
    }
    uuid[len] = '\0';
    struct hadb_id id;
    struct hadb_version parsed;
    if (len != sizeof(uuid) - 1 || text[len] != '.' || !hadb_id_parse(uuid, &id) ||
        !hadb_version_parse(text + len + 1, &parsed)) {
        return false;
    }
    *db = id;
    *version = parsed;
    return true;
}
