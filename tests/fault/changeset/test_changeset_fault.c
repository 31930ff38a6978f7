/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call of changeset/ and base/txn.c with its n-th allocation failing, for n = 1, 2, 3 … until it succeeds:
 * HADB_ENOMEM each time, outputs untouched, nothing leaked. zstd allocates through us, so it is included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hadb/changeset.h"
#include "tests/support/support.h"
#include "tests/unit/changeset/sample.h"

/* Made once, before any allocation fails. */
static struct {
    struct hadb_buf payload;   /* of a DATA entry, compressible */
    struct hadb_buf noise;     /* needs a blob */
    struct hadb_buf object;    /* compressed DATA */
    struct hadb_framed framed; /* noise and zeros, compressed, with a blob */
    struct hadb_buf manifest_bytes;
    struct hadb_buf manifest_object;
    struct hadb_manifest manifest;
} given;

/* One operation: all that it allocates it frees again. */
typedef int (*operation_fn)(struct hadb_error *err);

static int encode_txn(struct hadb_error *err)
{
    const struct hadb_op op = {.type = HADB_OP_PUT, .key = {"k", 1}, .value = {"v", 1}};
    struct hadb_buf out = {0};
    int r = hadb_txn_encode(1, 1, 1, &op, 1, &out, err);
    assert_int_equal(out.len != 0, r == 0);
    hadb_buf_deinit(&out);
    return r;
}

static int encode_entry(struct hadb_error *err)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_hash hash;
    struct hadb_buf out = {0};
    int r = hadb_entry_encode(&entry, hadb_buf_slice(&given.payload), 3, &out, &hash, err);
    assert_int_equal(out.len != 0, r == 0);
    hadb_buf_deinit(&out);
    return r;
}

static int frame_blob(struct hadb_error *err)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_framed framed = {.blobs_len = 99};
    int r = hadb_entry_frame(&entry, hadb_buf_slice(&given.noise), 1, &framed, err);
    assert_int_equal(framed.blobs_len, r == 0 ? 1 : 99);
    if (r == 0) {
        hadb_framed_deinit(&framed);
    }
    return r;
}

static int decode_entry(struct hadb_error *err)
{
    struct hadb_entry entry;
    struct hadb_buf payload = {0};
    int r = hadb_entry_decode(hadb_buf_slice(&given.object), &entry, &payload, NULL, err);
    assert_int_equal(payload.len, r == 0 ? given.payload.len : 0);
    hadb_buf_deinit(&payload);
    return r;
}

static int open_blob(struct hadb_error *err)
{
    struct hadb_opened opened;
    int r = hadb_entry_open(hadb_buf_slice(&given.framed.entry), &opened, err);
    if (r != HADB_ABSENT) {
        return r;
    }
    r = hadb_entry_attach_blob(&opened, given.framed.blobs[0], err);
    hadb_opened_deinit(&opened);
    return r;
}

static int encode_bodies(struct hadb_error *err)
{
    struct hadb_seal seal = sample_seal();
    struct hadb_meta meta = sample_meta();
    struct hadb_name name = {.db = sample_id(1)};
    struct hadb_item item = {.key = {"k", 1}};
    struct hadb_buf outs[4] = {{0}};
    int r = hadb_seal_encode(&seal, &outs[0], err);
    r = r != 0 ? r : hadb_meta_encode(&meta, &outs[1], err);
    r = r != 0 ? r : hadb_name_encode(&name, &outs[2], err);
    r = r != 0 ? r : hadb_item_encode(&item, &outs[3], err);
    for (size_t i = 0; i < HADB_LEN(outs); i++) {
        hadb_buf_deinit(&outs[i]);
    }
    return r;
}

static int decode_manifest(struct hadb_error *err)
{
    struct hadb_manifest manifest = {.version = 12345};
    int r = hadb_manifest_decode(hadb_buf_slice(&given.manifest_bytes), &manifest, err);
    assert_int_equal(manifest.version == 12345, r != 0);
    if (r == 0) {
        hadb_manifest_deinit(&manifest);
    }
    return r;
}

static int copy_manifest(struct hadb_error *err)
{
    struct hadb_manifest copy = {0};
    int r = hadb_manifest_copy(&given.manifest, &copy, err);
    hadb_manifest_deinit(&copy);
    return r;
}

/* Each list grows from nothing; a failed addition leaves the picture whole. */
static int change_manifest(struct hadb_error *err)
{
    struct hadb_manifest manifest = {.boundary_slot = 1};
    struct hadb_manifest_snapshot snapshot = {.parts = 1};
    struct hadb_buf bytes = {0};
    char name[2] = "a";
    int r = 0;
    for (uint64_t i = 1; r == 0 && i < 12; i++) {
        struct hadb_manifest_term term = {.term = i};
        name[0] = (char)('a' + i);
        memcpy(snapshot.name, name, sizeof(name));
        r = hadb_manifest_add_term(&manifest, &term, err);
        r = r != 0 ? r : hadb_manifest_add_snapshot(&manifest, &snapshot, err);
        if (r == 0 && i % 2 == 0) {
            r = hadb_manifest_drop_snapshot(&manifest, 0, err);
        }
    }
    if (r != 0) {
        test_alloc_fail_at(0); /* what is left must still encode */
        assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    }
    hadb_buf_deinit(&bytes);
    hadb_manifest_deinit(&manifest);
    return r;
}

static int inspect_manifest(struct hadb_error *err)
{
    struct hadb_buf out = {0};
    int r = hadb_inspect(hadb_buf_slice(&given.manifest_object), false, &out, err);
    assert_int_equal(out.len != 0, r == 0);
    hadb_buf_deinit(&out);
    return r;
}

static int inspect_json(struct hadb_error *err)
{
    struct hadb_buf out = {0};
    int r = hadb_inspect(hadb_buf_slice(&given.object), true, &out, err);
    assert_int_equal(out.len != 0, r == 0);
    hadb_buf_deinit(&out);
    return r;
}

/* Returns how many allocations the operation makes. */
static uint64_t fail_each(operation_fn operation, bool leaks_counted)
{
    for (uint64_t n = 1; n < 10000; n++) {
        struct hadb_error err = {0};
        test_alloc_fail_at(n);
        int r = operation(&err);
        bool hit = test_alloc_hit();
        int64_t live = test_alloc_live();
        test_alloc_reset();
        if (leaks_counted) {
            assert_int_equal(live, 0);
        }
        if (!hit && r == 0) {
            return n - 1;
        }
        assert_int_equal(r, HADB_ENOMEM);
        assert_int_equal(err.code, HADB_ENOMEM);
    }
    fail_msg("the operation never succeeds");
    return 0;
}

static void transaction__survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(fail_each(encode_txn, true) >= 1);
}

static void entry__survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(fail_each(encode_entry, true) >= 2); /* the buffer and zstd */
    assert_true(fail_each(decode_entry, true) >= 3);
}

static void blob__survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(fail_each(frame_blob, true) >= 3);
    assert_true(fail_each(open_blob, true) >= 3);
}

static void bodies__survive_every_failed_allocation(void **state)
{
    (void)state;
    assert_int_equal(fail_each(encode_bodies, true), 4);
}

static void manifest__survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(fail_each(decode_manifest, true) >= 5);
    assert_true(fail_each(copy_manifest, true) >= 6);
    /* Failures are switched off half-way here, which restarts the count of live blocks. */
    assert_true(fail_each(change_manifest, false) >= 8);
}

static void description__survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_true(fail_each(inspect_manifest, true) >= 5);
    assert_true(fail_each(inspect_json, true) >= 3);
}

static int set_up(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_hash hash;
    sample_payload(HADB_ENTRY_DATA, &given.payload);
    sample_object(HADB_ENTRY_DATA, 3, &given.object, &hash);
    sample_object(HADB_ENTRY_MANIFEST, 3, &given.manifest_object, &hash);
    sample_payload(HADB_ENTRY_MANIFEST, &given.manifest_bytes);
    sample_manifest(&given.manifest);
    sample_noise(1, HADB_ENTRY_INLINE_BYTES_MAX + 1, &given.noise);
    HADB_ASSERT(hadb_buf_reserve(&given.noise, 1u << 20) == 0);
    memset(given.noise.data + given.noise.len, 0, 1u << 20);
    given.noise.len += 1u << 20;
    HADB_ASSERT(hadb_entry_frame(&entry, hadb_buf_slice(&given.noise), 1, &given.framed, NULL) ==
                0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    hadb_buf_deinit(&given.payload);
    hadb_buf_deinit(&given.object);
    hadb_buf_deinit(&given.manifest_object);
    hadb_buf_deinit(&given.manifest_bytes);
    hadb_buf_deinit(&given.noise);
    hadb_manifest_deinit(&given.manifest);
    hadb_framed_deinit(&given.framed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transaction__survives_every_failed_allocation),
        cmocka_unit_test(entry__survives_every_failed_allocation),
        cmocka_unit_test(blob__survives_every_failed_allocation),
        cmocka_unit_test(bodies__survive_every_failed_allocation),
        cmocka_unit_test(manifest__survives_every_failed_allocation),
        cmocka_unit_test(description__survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
