/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the result of a conformance probe, which decides whether a node may lead. What decodes encodes to the
 * same bytes, and may_lead says no more than the checks do. */
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "storage/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_probe_result result;
    struct hadb_error err = {0};
    fuzz_memory_start();
    int r = hadb_probe_decode(hadb_slice(data, len), &result, &err);
    HADB_ASSERT(fuzz_memory.peak == 0);
    if (r != 0) {
        HADB_ASSERT(r == HADB_ECORRUPT || r == HADB_EVERSION || r == HADB_ETOOBIG);
        HADB_ASSERT(err.code == r && (r != HADB_ETOOBIG || len > HADB_PROBE_TEXT_BYTES_MAX));
        return 0;
    }
    HADB_ASSERT(!result.may_lead || result.checks[HADB_PROBE_RACE].status == HADB_PROBE_PASSED);
    HADB_ASSERT(!result.may_lead || result.checks[HADB_PROBE_LARGE].status == HADB_PROBE_PASSED);
    struct hadb_buf again = {0};
    HADB_ASSERT(hadb_probe_encode(&result, &again) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), hadb_slice(data, len)));
    hadb_buf_deinit(&again);
    return 0;
}
