/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the file `terms`, as they are and with their checksum put right. What decodes encodes to the same
 * bytes, finds each of its terms, and takes the end of the next one. */
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "node/terms.h"

static void use(struct hadb_terms *terms)
{
    for (size_t i = 0; i < terms->len; i++) {
        HADB_ASSERT(hadb_terms_find(terms, terms->items[i].term) == &terms->items[i]);
    }
    if (terms->len > 0 && terms->items[terms->len - 1].term < UINT64_MAX) {
        struct hadb_term next = terms->items[terms->len - 1];
        struct hadb_owner owner = hadb_terms_owner(terms, next.term + 1);
        HADB_ASSERT(hadb_id_eq(&owner.node, &next.next.node));
        next.term++;
        HADB_ASSERT(hadb_terms_add(terms, &next, "n", "h:1", NULL) == 0);
        HADB_ASSERT(terms->len <= HADB_TERMS_MAX);
    }
    (void)hadb_terms_unswept(terms, 3);
}

static void try_file(struct hadb_slice file)
{
    struct hadb_id db = {0};
    struct hadb_terms terms;
    struct hadb_error err = {0};
    if (file.len >= 32) {
        memcpy(db.b, (const uint8_t *)file.data + 16, sizeof(db.b));
    }
    fuzz_memory_start();
    int r = hadb_terms_decode(file, &db, &terms, &err);
    if (r != 0) {
        HADB_ASSERT((r == HADB_ECORRUPT || r == HADB_EVERSION) && err.code == r);
        fuzz_memory_end(file.len + 512, file.len + 512);
        return;
    }
    struct hadb_buf again = {0};
    HADB_ASSERT(hadb_terms_encode(&terms, &again, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again), file));
    hadb_buf_deinit(&again);
    use(&terms);
    hadb_terms_deinit(&terms);
    fuzz_memory_end(2 * file.len + 4096, 5 * file.len + 8192);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_try_summed(data, len, try_file);
    return 0;
}
