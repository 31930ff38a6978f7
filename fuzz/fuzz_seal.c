/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 7 of 8: any bytes as a seal, meta and name. What decodes encodes again to the same bytes. */
#include "changeset/body.h"
#include "fuzz/input.h"

static void same(struct hadb_buf *again, struct hadb_slice input)
{
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(again), input));
    hadb_buf_deinit(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_slice input = hadb_slice(data, len);
    struct hadb_seal seal;
    struct hadb_meta meta;
    struct hadb_name name;
    struct hadb_buf again = {0};
    struct hadb_error err = {0};
    int r = hadb_seal_decode(input, &seal, &err);
    if (r == 0) {
        HADB_ASSERT(hadb_seal_reason_name(seal.reason) != NULL);
        HADB_ASSERT(hadb_seal_encode(&seal, &again, NULL) == 0);
        same(&again, input);
    } else {
        HADB_ASSERT(err.code == r && err.message[0] != '\0');
    }
    if (hadb_meta_decode(input, &meta, NULL) == 0) {
        HADB_ASSERT(hadb_meta_encode(&meta, &again, NULL) == 0);
        same(&again, input);
    }
    if (hadb_name_decode(input, &name, NULL) == 0) {
        HADB_ASSERT(hadb_name_encode(&name, &again, NULL) == 0);
        same(&again, input);
    }
    return 0;
}
