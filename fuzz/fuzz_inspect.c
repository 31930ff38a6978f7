/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 4 of 8, looked at: any bytes as a file for `hadb inspect`, as they are and with hashes and lengths put right. What is
 * described is one JSON object, or lines of printable text; on failure nothing is said at all. */
#include <jansson.h>

#include "fuzz/input.h"
#include "fuzz/object.h"
#include "hadb/changeset.h"

static void try_object(struct hadb_slice object)
{
    struct hadb_buf out = {0};
    struct hadb_error err = {0};
    int r = hadb_inspect(object, true, &out, &err);
    if (r != 0) {
        HADB_ASSERT(r == HADB_ECORRUPT || r == HADB_EVERSION || r == HADB_ENOTSUP);
        HADB_ASSERT(err.code == r && out.len == 0);
        HADB_ASSERT(hadb_inspect(object, false, &out, NULL) == r && out.len == 0);
        hadb_buf_deinit(&out);
        return;
    }
    json_t *json = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    HADB_ASSERT(json_is_object(json) && out.data[out.len - 1] == '\n');
    HADB_ASSERT(memchr(out.data, '\n', out.len) == out.data + out.len - 1);
    json_decref(json);
    hadb_buf_clear(&out);
    HADB_ASSERT(hadb_inspect(object, false, &out, NULL) == 0 && out.len > 0);
    for (size_t i = 0; i < out.len; i++) {
        HADB_ASSERT(out.data[i] >= ' ' || out.data[i] == '\n');
        HADB_ASSERT(out.data[i] != 0x7f);
    }
    hadb_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_try_object(data, len, try_object);
    return 0;
}
