/* SPDX-License-Identifier: Apache-2.0 */
/* Hop 7 of 8: any text as the name of an object. What parses is written again to the same text. */
#include "changeset/keys.h"
#include "fuzz/input.h"

static void write_again(const struct hadb_key_parts *parts, char out[HADB_OBJECT_KEY_BYTES])
{
    switch (parts->type) {
    case HADB_KEY_META:
        hadb_key_meta(&parts->db, out);
        return;
    case HADB_KEY_MANIFEST:
        hadb_key_manifest(&parts->db, out);
        return;
    case HADB_KEY_LOG:
        hadb_key_log(&parts->db, parts->term, parts->slot, out);
        return;
    case HADB_KEY_SNAPSHOT:
        hadb_key_snapshot_part(&parts->db, parts->slot, &parts->nonce, parts->part, out);
        return;
    case HADB_KEY_BLOB:
        hadb_key_blob(&parts->db, &parts->nonce, parts->part, out);
        return;
    case HADB_KEY_NAME:
        hadb_key_name(parts->name, out);
        return;
    case HADB_KEY_PROBE:
        hadb_key_probe(parts->name, out);
        return;
    }
    HADB_ASSERT(!"unknown type");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hadb_buf text = {0};
    struct hadb_key_parts parts;
    char again[HADB_OBJECT_KEY_BYTES];
    struct hadb_id nonce;
    uint64_t slot = 0;
    HADB_ASSERT(hadb_buf_append(&text, data, len) == 0);
    const char *key = hadb_buf_cstr(&text);
    HADB_ASSERT(key != NULL);
    if (hadb_key_parse(key, &parts)) {
        write_again(&parts, again);
        HADB_ASSERT(strcmp(again, key) == 0);
    }
    if (hadb_snapshot_name_parse(key, &slot, &nonce)) {
        hadb_snapshot_name(slot, &nonce, again);
        HADB_ASSERT(strcmp(again, key) == 0);
    }
    hadb_buf_deinit(&text);
    return 0;
}
