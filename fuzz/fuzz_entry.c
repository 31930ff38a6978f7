/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: any bytes as a stored object. As they are, nearly all fail at the header hash; so they are
 * tried again with the hashes, and then the stored length, put right. What opens is framed again and must
 * open to the same. Descriptions of it must not fail for another reason than its payload.
 */
#include "fuzz/input.h"
#include "fuzz/object.h"
#include "hadb/changeset.h"

static void frame_again(struct hadb_opened *opened)
{
    struct hadb_entry entry = opened->entry;
    struct hadb_framed framed;
    struct hadb_opened again;
    HADB_ASSERT(hadb_entry_frame(&entry, hadb_buf_slice(&opened->payload), 1, &framed, NULL) == 0);
    int r = hadb_entry_open(hadb_buf_slice(&framed.entry), &again, NULL);
    for (size_t i = 0; i < framed.blobs_len; i++) {
        HADB_ASSERT(r == HADB_ABSENT);
        r = hadb_entry_attach_blob(&again, framed.blobs[i], NULL);
    }
    HADB_ASSERT(r == 0);
    HADB_ASSERT(hadb_hash_eq(&again.hash, &framed.hash));
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&again.payload), hadb_buf_slice(&opened->payload)));
    hadb_opened_deinit(&again);
    hadb_framed_deinit(&framed);
}

static void try_object(struct hadb_slice object)
{
    struct hadb_entry peeked;
    struct hadb_opened opened;
    struct hadb_buf text = {0};
    struct hadb_error err = {0};
    struct hadb_hash hash;
    int whole = hadb_entry_peek(object, &peeked, &hash, NULL);
    int r = hadb_entry_open(object, &opened, &err);
    HADB_ASSERT(r >= 0 || (err.code == r && err.message[0] != '\0'));
    HADB_ASSERT(whole == 0 || r == whole);
    (void)hadb_inspect(object, true, &text, NULL);
    (void)hadb_inspect(object, false, &text, NULL);
    hadb_buf_deinit(&text);
    if (r < 0) {
        return;
    }
    HADB_ASSERT(hadb_hash_eq(&hash, &opened.hash));
    if (r == 0) {
        HADB_ASSERT(opened.payload.len == opened.entry.raw_bytes);
        if (opened.entry.kind == HADB_ENTRY_DATA) {
            (void)hadb_entry_check_data(&opened.entry, hadb_buf_slice(&opened.payload), NULL);
        }
        frame_again(&opened);
    }
    hadb_opened_deinit(&opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_try_object(data, len, try_object);
    return 0;
}
