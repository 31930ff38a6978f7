/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the lease record of another node, as they are and with their checksum put right. What decodes encodes to
 * the same bytes; name and address are fit for a URL and a log line. */
#include "base/id.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "node/peers.h"

static void try_record(struct hadb_slice bytes)
{
    struct hadb_node_record record;
    struct hadb_error err = {0};
    fuzz_memory_start();
    int r = hadb_node_record_decode(bytes, &record, &err);
    if (r != 0) {
        HADB_ASSERT((r == HADB_ECORRUPT || r == HADB_EVERSION) && err.code == r);
        fuzz_memory_end(0, 0);
        return;
    }
    HADB_ASSERT(bytes.len <= HADB_NODE_RECORD_BYTES_MAX);
    HADB_ASSERT(record.given_up_len <= HADB_GIVEN_UP_MAX && hadb_name_valid(record.name));
    for (const char *at = record.address; *at; at++) {
        HADB_ASSERT(*at > ' ' && *at <= '~');
    }
    struct hadb_buf again = {0};
    HADB_ASSERT(hadb_node_record_encode(&record, &again, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), bytes));
    hadb_buf_deinit(&again);
    hadb_node_record_deinit(&record);
    fuzz_memory_end(2 * bytes.len + 256, 4 * bytes.len + 1024);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_try_summed(data, len, try_record);
    return 0;
}
