/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 7 of 8: any bytes as a manifest. One picture has one encoding: what decodes encodes to the same bytes,
 * and stays valid through the changes that a publisher makes. */
#include "changeset/changeset.h"
#include "fuzz/input.h"

static void change(struct hadb_manifest *manifest)
{
    struct hadb_manifest_snapshot snapshot = {.name = "fuzz", .parts = 1};
    struct hadb_buf bytes = {0};
    (void)hadb_manifest_add_snapshot(manifest, &snapshot, NULL);
    if (manifest->terms_len != 0) {
        struct hadb_manifest_term term = manifest->terms[manifest->terms_len - 1];
        HADB_ASSERT(hadb_manifest_find_term(manifest, term.term) != NULL);
        HADB_ASSERT(hadb_manifest_add_term(manifest, &term, NULL) == 0);
        term.term++;
        (void)hadb_manifest_add_term(manifest, &term, NULL);
    }
    if (manifest->snapshots_len != 0) {
        HADB_ASSERT(hadb_manifest_newest(manifest) != NULL);
        (void)hadb_manifest_drop_snapshot(manifest, 0, NULL);
    }
    if (manifest->condemned_len != 0) {
        HADB_ASSERT(hadb_manifest_absolve(manifest, manifest->condemned[0]));
    }
    int r = hadb_manifest_encode(manifest, &bytes, NULL);
    HADB_ASSERT(r == 0 || r == HADB_ETOOBIG);
    hadb_buf_deinit(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_manifest manifest;
    struct hadb_error err = {0};
    int r = hadb_manifest_decode(hadb_slice(data, len), &manifest, &err);
    if (r != 0) {
        HADB_ASSERT((r == HADB_ECORRUPT || r == HADB_EVERSION) && err.code == r);
        return 0;
    }
    struct hadb_buf again = {0};
    HADB_ASSERT(hadb_manifest_encode(&manifest, &again, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), hadb_slice(data, len)));
    change(&manifest);
    hadb_buf_deinit(&again);
    hadb_manifest_deinit(&manifest);
    return 0;
}
