/* SPDX-License-Identifier: Apache-2.0 */
/* Entries whose payload does not fit into one object. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "tests/unit/changeset/sample.h"

#define MIB ((size_t)1 << 20)

/* Noise, then zeros: compresses to a bit more than the noise. */
static void make_payload(size_t noise_len, size_t zeros_len, struct hadb_buf *out)
{
    sample_noise(7, noise_len, out);
    assert_int_equal(hadb_buf_reserve(out, zeros_len), 0);
    memset(out->data + out->len, 0, zeros_len);
    out->len += zeros_len;
}

static void round_trip(enum hadb_entry_kind kind, size_t noise_len, size_t zeros_len, int level,
                       size_t parts)
{
    struct hadb_entry entry = sample_entry(kind);
    struct hadb_buf payload = {0};
    struct hadb_framed framed;
    struct hadb_opened opened;
    make_payload(noise_len, zeros_len, &payload);
    assert_int_equal(hadb_entry_frame(&entry, hadb_buf_slice(&payload), level, &framed, NULL), 0);
    struct hadb_hash before; /* in place of the payload itself, which is large */
    struct hadb_hash after;
    uint64_t payload_len = payload.len;
    hadb_sha256(payload.data, payload.len, &before);
    hadb_buf_deinit(&payload);
    assert_int_equal(framed.blobs_len, parts);
    assert_true(framed.entry.len <= HADB_OBJECT_BYTES_MAX);
    int r = hadb_entry_open(hadb_buf_slice(&framed.entry), &opened, NULL);
    assert_int_equal(r, parts == 0 ? 0 : HADB_ABSENT);
    assert_true(hadb_hash_eq(&opened.hash, &framed.hash));
    assert_int_equal(opened.parts_len, parts);
    assert_int_equal((opened.entry.flags & HADB_ENTRY_FLAG_BLOB) != 0, parts != 0);
    for (size_t i = 0; i < parts; i++) {
        assert_true(framed.blobs[i].len <= HADB_OBJECT_BYTES_MAX);
        assert_int_equal(opened.parts[i].bytes, framed.blobs[i].len);
        r = hadb_entry_attach_blob(&opened, framed.blobs[i], NULL);
        assert_int_equal(r, i + 1 == parts ? 0 : HADB_ABSENT);
    }
    hadb_sha256(opened.payload.data, opened.payload.len, &after);
    assert_true(hadb_hash_eq(&before, &after));
    assert_int_equal(opened.payload.len, payload_len);
    assert_int_equal(opened.entry.raw_bytes, payload_len);
    hadb_opened_deinit(&opened);
    hadb_framed_deinit(&framed);
    hadb_framed_deinit(&framed); /* twice is fine */
}

static void blob__is_used_above_the_inline_limit_only(void **state)
{
    (void)state;
    round_trip(HADB_ENTRY_DATA, HADB_ENTRY_INLINE_BYTES_MAX, 0, 0, 0);
    round_trip(HADB_ENTRY_DATA, HADB_ENTRY_INLINE_BYTES_MAX + 1, 0, 0, 1);
    /* What counts is the stored size. */
    round_trip(HADB_ENTRY_DATA, 4 * MIB - 4096, 20 * MIB, 1, 0);
    round_trip(HADB_ENTRY_DATA, 4 * MIB, 20 * MIB, 1, 1);
    round_trip(HADB_ENTRY_SNAPSHOT, 5 * MIB, 0, 0, 0);
}

static void blob__is_cut_into_parts_of_one_object_each(void **state)
{
    (void)state;
    round_trip(HADB_ENTRY_DATA, HADB_OBJECT_BYTES_MAX, 0, 0, 1);
    round_trip(HADB_ENTRY_DATA, HADB_OBJECT_BYTES_MAX + 1, 0, 0, 2);
    round_trip(HADB_ENTRY_SNAPSHOT, HADB_OBJECT_BYTES_MAX - HADB_ENTRY_HEADER_BYTES, 0, 0, 0);
    round_trip(HADB_ENTRY_SNAPSHOT, HADB_OBJECT_BYTES_MAX, 0, 0, 1);
}

static void blob__is_decompressed_across_its_parts(void **state)
{
    (void)state;
    round_trip(HADB_ENTRY_DATA, 66 * MIB, 10 * MIB, 1, 2);
}

static void blob__carries_the_largest_payload(void **state)
{
    (void)state;
    round_trip(HADB_ENTRY_DATA, HADB_ENTRY_RAW_BYTES_MAX, 0, 0, 5);
}

static void encode__sends_a_large_body_to_framing(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf payload = {0};
    struct hadb_buf out = {0};
    struct hadb_hash hash;
    make_payload(HADB_ENTRY_INLINE_BYTES_MAX + 1, 0, &payload);
    assert_int_equal(hadb_entry_encode(&entry, hadb_buf_slice(&payload), 1, &out, &hash, NULL),
                     HADB_ETOOBIG);
    assert_int_equal(out.len, 0);
    hadb_buf_deinit(&out);
    hadb_buf_deinit(&payload);
}

/* One entry with one blob of 4 MiB + 1, opened or not. */
struct fixture {
    struct hadb_framed framed;
    struct hadb_opened opened;
};

static void set_up(struct fixture *f, int level)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf payload = {0};
    *f = (struct fixture){0};
    make_payload(HADB_ENTRY_INLINE_BYTES_MAX + 1, MIB, &payload);
    assert_int_equal(hadb_entry_frame(&entry, hadb_buf_slice(&payload), level, &f->framed, NULL),
                     0);
    hadb_buf_deinit(&payload);
}

static void tear_down(struct fixture *f)
{
    hadb_opened_deinit(&f->opened);
    hadb_framed_deinit(&f->framed);
}

static void blob__that_is_damaged_is_corrupt_and_can_be_fetched_again(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    struct hadb_slice blob = f.framed.blobs[0];
    uint8_t *bytes = (uint8_t *)f.framed.blob_bytes.data + HADB_ENTRY_HEADER_BYTES;
    assert_ptr_equal(bytes, blob.data);
    assert_int_equal(hadb_entry_open(hadb_buf_slice(&f.framed.entry), &f.opened, NULL),
                     HADB_ABSENT);
    bytes[blob.len / 2] ^= 4;
    assert_int_equal(hadb_entry_attach_blob(&f.opened, blob, NULL), HADB_ECORRUPT);
    bytes[blob.len / 2] ^= 4;
    assert_int_equal(hadb_entry_attach_blob(&f.opened, hadb_slice(blob.data, blob.len - 1), NULL),
                     HADB_ECORRUPT);
    assert_int_equal(hadb_entry_attach_blob(&f.opened, hadb_slice(NULL, 0), NULL), HADB_ECORRUPT);
    assert_int_equal(hadb_entry_attach_blob(&f.opened, blob, NULL), 0);
    assert_int_equal(hadb_entry_attach_blob(&f.opened, blob, NULL), HADB_EINVAL);
    tear_down(&f);
}

static void blob__that_is_no_frame_is_corrupt(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 0);
    /* An uncompressed blob that its entry calls compressed, all hashes right. */
    f.framed.entry.data[7] = HADB_CODEC_ZSTD;
    hadb_put_u64(f.framed.entry.data + 224, f.framed.blobs[0].len + 1);
    sample_reseal(f.framed.entry.data, f.framed.entry.len);
    assert_int_equal(hadb_entry_open(hadb_buf_slice(&f.framed.entry), &f.opened, NULL),
                     HADB_ABSENT);
    assert_int_equal(hadb_entry_attach_blob(&f.opened, f.framed.blobs[0], NULL), HADB_ECORRUPT);
    assert_int_equal(hadb_entry_attach_blob(&f.opened, f.framed.blobs[0], NULL), HADB_EINVAL);
    tear_down(&f);
}

static void blob__reference_that_is_doctored_is_corrupt(void **state)
{
    (void)state;
    static const struct {
        size_t offset; /* in the reference */
        uint8_t xor ;
    } cases[] = {
        {0, 1},  {7, 0x80}, /* total */
        {8, 3},             /* parts: 2 */
        {8, 1},             /* parts: 0 */
        {12, 1},            /* zero */
        {16, 1}, {23, 1},   /* length of the part */
    };
    for (size_t i = 0; i < HADB_LEN(cases); i++) {
        for (int level = 0; level <= 1; level++) {
            struct fixture f;
            set_up(&f, level);
            uint8_t *object = f.framed.entry.data;
            object[HADB_ENTRY_HEADER_BYTES + cases[i].offset] ^= cases[i].xor ;
            sample_reseal(object, f.framed.entry.len);
            struct hadb_error err = {0};
            assert_int_equal(hadb_entry_open(hadb_buf_slice(&f.framed.entry), &f.opened, &err),
                             HADB_ECORRUPT);
            assert_int_equal(err.code, HADB_ECORRUPT);
            tear_down(&f);
        }
    }
}

static void blob__reference_notices_every_flipped_bit(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    for (size_t bit = 0; bit < f.framed.entry.len * 8; bit++) {
        f.framed.entry.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(hadb_entry_open(hadb_buf_slice(&f.framed.entry), &f.opened, NULL) < 0);
        f.framed.entry.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    tear_down(&f);
}

static void decode__says_when_the_payload_lies_in_blobs(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    struct hadb_entry entry;
    struct hadb_buf payload = {0};
    struct hadb_hash hash;
    assert_int_equal(
        hadb_entry_decode(hadb_buf_slice(&f.framed.entry), &entry, &payload, &hash, NULL),
        HADB_ABSENT);
    assert_int_equal(entry.kind, HADB_ENTRY_DATA);
    assert_true(hadb_hash_eq(&hash, &f.framed.hash));
    assert_null(payload.data);
    tear_down(&f);
}

static void blob__is_not_for_small_kinds(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, 1);
    f.framed.entry.data[6] = HADB_ENTRY_MANIFEST;
    sample_reseal(f.framed.entry.data, f.framed.entry.len);
    assert_int_equal(hadb_entry_open(hadb_buf_slice(&f.framed.entry), &f.opened, NULL),
                     HADB_ECORRUPT);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blob__is_used_above_the_inline_limit_only),
        cmocka_unit_test(blob__is_cut_into_parts_of_one_object_each),
        cmocka_unit_test(blob__is_decompressed_across_its_parts),
        cmocka_unit_test(blob__carries_the_largest_payload),
        cmocka_unit_test(encode__sends_a_large_body_to_framing),
        cmocka_unit_test(blob__that_is_damaged_is_corrupt_and_can_be_fetched_again),
        cmocka_unit_test(blob__that_is_no_frame_is_corrupt),
        cmocka_unit_test(blob__reference_that_is_doctored_is_corrupt),
        cmocka_unit_test(blob__reference_notices_every_flipped_bit),
        cmocka_unit_test(decode__says_when_the_payload_lies_in_blobs),
        cmocka_unit_test(blob__is_not_for_small_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
