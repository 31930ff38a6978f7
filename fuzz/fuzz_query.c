/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 1 of 8: any bytes as the target of a request: path segments, then a query. What the strict check lets through
 * decodes without a failure, has each name once, and no name that was not asked for; a condition that is taken is one
 * version, written in its one form. */
#include <stdlib.h>

#include "base/url.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "node/api_private.h"

static const char *const names[] = {"prefix",    "start",      "end", "limit",
                                    "if_absent", "if_version", NULL};

static void walk_path(struct hadb_slice path)
{
    struct hadb_slice rest = path, segment;
    size_t sum = 0;
    while (hadb_http_path_next(&rest, &segment)) {
        HADB_ASSERT(segment.len == 0 || memchr(segment.data, '/', segment.len) == NULL);
        sum += segment.len + 1;
    }
    HADB_ASSERT(sum + rest.len == path.len);
}

static void read_conditions(struct hadb_slice query, const struct hadb_buf *version)
{
    struct hadb_kv_options options = {0};
    struct hadb_error err = {0};
    char text[HADB_VERSION_TEXT_BYTES];
    int r = hadb__api_conditions(query, &options, &err);
    if (r != 0) {
        HADB_ASSERT(r == HADB_EINVAL && err.code == r);
        return;
    }
    HADB_ASSERT(!options.if_absent || options.if_version.txid == 0);
    if (version) {
        HADB_ASSERT(options.if_version.txid > 0 || options.if_absent);
        hadb_version_format(&options.if_version, text);
        HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(version), hadb_slice_str(text)));
    } else {
        HADB_ASSERT(options.if_version.txid == 0);
    }
}

static void read_query(struct hadb_slice query)
{
    struct hadb_error err = {0};
    bool has_version = false;
    struct hadb_buf version = {0};
    int checked = hadb__api_check_query(query, names, &err);
    HADB_ASSERT(checked == 0 || (checked == HADB_EINVAL && err.code == checked));
    size_t params = 0, found = 0;
    for (size_t i = 0; i < query.len; i++) {
        params += ((const char *)query.data)[i] == '&';
    }
    for (size_t i = 0; names[i]; i++) {
        struct hadb_buf value = {0};
        int r = hadb_http_query_get(query, names[i], &value, NULL);
        HADB_ASSERT(r == 0 || r == HADB_ABSENT || (r == HADB_EINVAL && checked != 0));
        found += r == 0;
        if (strcmp(names[i], "if_version") == 0 && r == 0) {
            has_version = true;
            version = hadb_buf_take(&value);
        }
        hadb_buf_deinit(&value);
    }
    HADB_ASSERT(checked != 0 || query.len == 0 || found == params + 1);
    read_conditions(query, has_version ? &version : NULL);
    hadb_buf_deinit(&version);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *mark = len ? memchr(data, '?', len) : NULL;
    size_t path_len = mark ? (size_t)(mark - data) : len;
    fuzz_memory_start();
    walk_path(hadb_slice(data, path_len));
    read_query(mark ? hadb_slice(mark + 1, len - path_len - 1) : hadb_slice("", 0));
    read_query(mark ? hadb_slice(mark + 1, len - path_len - 1) : hadb_slice(NULL, 0));
    fuzz_memory_end(len + 64, 3 * len + 1024);
    return 0;
}
