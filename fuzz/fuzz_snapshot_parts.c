/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hop 7 of 8: any bytes as the parts of a snapshot: each part is a length (2 bytes), an option (1 byte) and its items; the
 * option spoils one field of its header. The chain of hashes and the manifest's reference are made to fit, so what is
 * left to refuse it are the fields, the items, and the order of keys over all parts.
 *
 * What loads is exactly the items, at the position of the reference. What does not leaves an empty engine.
 */
#include "base/env.h"
#include "base/hash.h"
#include "changeset/body.h"
#include "changeset/changeset.h"
#include "fuzz/input.h"
#include "hadb/engine.h"
#include "hadb/replicator.h"

#define PARTS_MAX 8u

struct image {
    struct hadb_buf parts[PARTS_MAX];
    struct hadb_buf items; /* payloads one behind the other */
    struct hadb_snapshot_ref ref;
    bool spoilt;
};

static int get(void *arg, const struct hadb_snapshot_object *object, struct hadb_buf *out,
               struct hadb_error *err)
{
    const struct image *image = arg;
    (void)err;
    if (object->is_blob || object->part >= image->ref.parts) {
        return HADB_ABSENT;
    }
    const struct hadb_buf *part = &image->parts[object->part];
    hadb_buf_clear(out);
    HADB_ASSERT(hadb_buf_append(out, part->data, part->len) == 0);
    return 0;
}

/* Bits 0 to 2 of @how: which field is wrong (0 and 7: none); bit 3: compressed. */
static void add_part(struct image *image, struct hadb_slice payload, uint8_t how, bool last)
{
    struct hadb_snapshot_ref *ref = &image->ref;
    unsigned wrong = how & 7;
    struct hadb_entry entry = {
        .kind = HADB_ENTRY_SNAPSHOT,
        .flags = last != (wrong == 1) ? HADB_ENTRY_FLAG_LAST : 0,
        .term = ref->pos.term + (wrong == 2),
        .slot = ref->pos.slot + (wrong == 3),
        .first_txid = ref->parts + (wrong == 4),
        .last_txid = ref->pos.txid + (wrong == 5),
        .prev = ref->last_hash,
    };
    entry.prev.b[0] ^= wrong == 6;
    image->spoilt = image->spoilt || (wrong != 0 && wrong != 7);
    HADB_ASSERT(hadb_entry_encode(&entry, payload, how >> 3 & 1, &image->parts[ref->parts],
                                  &ref->last_hash, NULL) == 0);
    HADB_ASSERT(hadb_buf_append(&image->items, payload.data, payload.len) == 0);
    ref->parts++;
}

static void make_image(struct image *image, struct fuzz_input *in)
{
    image->ref.pos = (struct hadb_pos){.term = 3, .slot = 70, .txid = 1000};
    memset(image->ref.pos.hash.b, 0x77, sizeof(image->ref.pos.hash.b));
    image->ref.last_hash = image->ref.pos.hash;
    bool last = false;
    while (!last) {
        size_t len = (size_t)fuzz_u8(in) | (size_t)fuzz_u8(in) << 8;
        uint8_t how = fuzz_u8(in);
        len = HADB_MIN(len, in->left);
        struct hadb_slice payload = hadb_slice(in->at, len);
        in->at += len;
        in->left -= len;
        last = in->left == 0 || image->ref.parts + 1 == PARTS_MAX;
        add_part(image, payload, how, last);
    }
}

/* The items of the image, or false when it should have been refused. */
static bool expect_items(const struct image *image, const struct hadb_engine *engine)
{
    struct hadb_items items = {.rest = hadb_buf_slice(&image->items)};
    struct hadb_item item;
    struct hadb_buf value = {0};
    struct hadb_version version;
    struct hadb_engine_stats stats;
    uint64_t keys = 0;
    int r = 0;
    while ((r = hadb_items_next(&items, &item, NULL)) == 0) {
        HADB_ASSERT(item.version.txid <= image->ref.pos.txid);
        HADB_ASSERT(hadb_engine_get(engine, NULL, item.key, &value, &version, NULL) == 0);
        HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&value), item.value));
        HADB_ASSERT(version.term == item.version.term && version.txid == item.version.txid);
        keys++;
    }
    hadb_buf_deinit(&value);
    hadb_engine_stats(engine, &stats);
    return r == HADB_END && stats.keys == keys;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct fuzz_input in = {.at = data, .left = len};
    struct image image = {0};
    struct hadb_engine engine = {0};
    struct hadb_replicator replicator = {0};
    struct hadb_replicator_options options = {.env = hadb_env_host(), .database = "fuzz"};
    struct hadb_snapshot_io io = {.get = get, .arg = &image};
    struct hadb_engine_position position;
    struct hadb_engine_stats stats;
    struct hadb_error err = {0};
    make_image(&image, &in);
    HADB_ASSERT(hadb_engine_open("memory", "", NULL, hadb_env_host(), &engine, NULL) == 0);
    HADB_ASSERT(hadb_replicator_add("journal", &engine, &options, &replicator, NULL) == 0);
    int r = hadb_replicator_restore(&replicator, &image.ref, &io, &err);
    hadb_engine_position(&engine, &position);
    hadb_engine_stats(&engine, &stats);
    if (r == 0) {
        HADB_ASSERT(!image.spoilt && position.last_txid == image.ref.pos.txid);
        HADB_ASSERT(hadb_hash_eq(&position.mark.hash, &image.ref.pos.hash));
        HADB_ASSERT(expect_items(&image, &engine));
    } else {
        HADB_ASSERT(r == HADB_ECORRUPT && err.code == r);
        HADB_ASSERT(stats.keys == 0 && position.last_txid == 0 && position.mark.slot == 0);
    }
    hadb_replicator_remove(&replicator);
    hadb_engine_close(&engine);
    for (size_t i = 0; i < PARTS_MAX; i++) {
        hadb_buf_deinit(&image.parts[i]);
    }
    hadb_buf_deinit(&image.items);
    return 0;
}
