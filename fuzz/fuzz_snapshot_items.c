/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 7 of 8: any bytes as items of a snapshot. Keys rise; what is accepted encodes again to the same bytes. */
#include "changeset/body.h"
#include "fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_items items = {.rest = hadb_slice(data, len)};
    struct hadb_slice last = {0};
    struct hadb_buf again = {0};
    struct hadb_item item;
    struct hadb_error err = {0};
    int r = 0;
    while ((r = hadb_items_next(&items, &item, &err)) == 0) {
        HADB_ASSERT(hadb_slice_cmp(last, item.key) < 0);
        HADB_ASSERT(hadb_item_encode(&item, &again, NULL) == 0);
        last = item.key;
    }
    HADB_ASSERT(r == HADB_END || (r == HADB_ECORRUPT && err.code == r));
    HADB_ASSERT(again.len + items.rest.len == len);
    HADB_ASSERT(hadb_slice_starts(hadb_slice(data, len), hadb_buf_slice(&again)));
    hadb_buf_deinit(&again);
    return 0;
}
