/* SPDX-License-Identifier: Apache-2.0 */
/* The container: what goes in comes out, and nothing that was touched comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "tests/unit/changeset/sample.h"

#define KINDS_MAX HADB_ENTRY_NAME

/* ---- an allocator that remembers the largest request ---- */

static size_t largest;

static void *watch_realloc(void *arg, void *ptr, size_t size)
{
    (void)arg;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    largest = HADB_MAX(largest, size);
    return realloc(ptr, size);
}

static void watch_start(void)
{
    static const struct hadb_allocator watch = {.realloc = watch_realloc};
    largest = 0;
    hadb_allocator_set(&watch);
}

static void watch_stop(void)
{
    hadb_allocator_set(NULL);
}

/* ---- helpers ---- */

static int decode(const struct hadb_buf *object)
{
    struct hadb_entry entry;
    struct hadb_buf payload = {0};
    struct hadb_hash hash;
    struct hadb_error err = {0};
    int r = hadb_entry_decode(hadb_buf_slice(object), &entry, &payload, &hash, &err);
    assert_int_equal(err.code, r < 0 ? r : 0);
    if (r < 0) {
        assert_int_equal(payload.len, 0);
        assert_int_not_equal(err.message[0], 0);
    }
    hadb_buf_deinit(&payload);
    return r;
}

static void assert_same_header(const struct hadb_entry *a, const struct hadb_entry *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->flags, b->flags);
    assert_memory_equal(a->db.b, b->db.b, sizeof(a->db.b));
    assert_int_equal(a->term, b->term);
    assert_int_equal(a->slot, b->slot);
    assert_int_equal(a->first_txid, b->first_txid);
    assert_int_equal(a->last_txid, b->last_txid);
    assert_memory_equal(a->prev.b, b->prev.b, sizeof(a->prev.b));
    assert_memory_equal(a->incarnation.b, b->incarnation.b, sizeof(a->incarnation.b));
    assert_memory_equal(a->put_id.b, b->put_id.b, sizeof(a->put_id.b));
    assert_int_equal(a->pages_after, b->pages_after);
    assert_int_equal(a->checksum_after, b->checksum_after);
    assert_int_equal(a->time_unix_ms, b->time_unix_ms);
    assert_int_equal(a->durable_slot, b->durable_slot);
}

/* ---- round trip ---- */

static void entry__comes_back_as_it_went_in(void **state)
{
    (void)state;
    for (int kind = 1; kind <= KINDS_MAX; kind++) {
        for (int level = 0; level <= HADB_ZSTD_LEVEL_MAX; level += 19) {
            struct hadb_buf object = {0};
            struct hadb_buf payload = {0};
            struct hadb_buf again = {0};
            struct hadb_hash hash;
            struct hadb_hash read_hash;
            struct hadb_hash direct;
            struct hadb_entry entry = sample_entry((enum hadb_entry_kind)kind);
            struct hadb_entry read;
            entry.pages_after = 0x1122334455667788u;
            entry.checksum_after = 0x99aabbccddeeff00u;
            sample_payload((enum hadb_entry_kind)kind, &payload);
            assert_int_equal(
                hadb_entry_encode(&entry, hadb_buf_slice(&payload), level, &object, &hash, NULL),
                0);
            assert_int_equal(
                hadb_entry_decode(hadb_buf_slice(&object), &read, &again, &read_hash, NULL), 0);
            assert_same_header(&entry, &read);
            assert_true(hadb_slice_eq(hadb_buf_slice(&payload), hadb_buf_slice(&again)));
            assert_int_equal(read.raw_bytes, payload.len);
            assert_int_equal(read.stored_bytes, object.len - HADB_ENTRY_HEADER_BYTES);
            hadb_sha256(object.data, object.len, &direct);
            assert_true(hadb_hash_eq(&hash, &direct));
            assert_true(hadb_hash_eq(&read_hash, &direct));
            hadb_buf_deinit(&object);
            hadb_buf_deinit(&payload);
            hadb_buf_deinit(&again);
        }
    }
}

static void entry__appends_behind_what_is_in_the_buffer(void **state)
{
    (void)state;
    struct hadb_buf object = {0};
    struct hadb_hash first;
    struct hadb_hash second;
    sample_object(HADB_ENTRY_SEAL, 0, &object, &first);
    size_t len = object.len;
    sample_object(HADB_ENTRY_SEAL, 0, &object, &second);
    assert_int_equal(object.len, 2 * len);
    assert_memory_equal(object.data, object.data + len, len);
    assert_true(hadb_hash_eq(&first, &second));
    hadb_buf_deinit(&object);
}

static void entry__is_compressed_only_when_that_is_smaller(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_entry read;
    struct hadb_buf noise = {0};
    struct hadb_buf zeros = {0};
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    sample_noise(1, 100000, &noise);
    assert_int_equal(hadb_entry_encode(&entry, hadb_buf_slice(&noise), 3, &object, &hash, NULL), 0);
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&object), &read, NULL, NULL), 0);
    assert_int_equal(read.codec, HADB_CODEC_NONE);
    assert_int_equal(read.stored_bytes, noise.len);
    assert_int_equal(decode(&object), 0);
    hadb_buf_clear(&object);
    assert_int_equal(hadb_buf_reserve(&zeros, noise.len), 0);
    memset(zeros.data, 0, noise.len);
    zeros.len = noise.len;
    assert_int_equal(hadb_entry_encode(&entry, hadb_buf_slice(&zeros), 3, &object, &hash, NULL), 0);
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&object), &read, NULL, NULL), 0);
    assert_int_equal(read.codec, HADB_CODEC_ZSTD);
    assert_true(read.stored_bytes < 100);
    assert_int_equal(read.raw_bytes, zeros.len);
    assert_int_equal(decode(&object), 0);
    hadb_buf_deinit(&noise);
    hadb_buf_deinit(&zeros);
    hadb_buf_deinit(&object);
}

static void entry__with_an_empty_payload_comes_back(void **state)
{
    (void)state;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_SNAPSHOT);
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    assert_int_equal(hadb_entry_encode(&entry, hadb_slice(NULL, 0), 3, &object, &hash, NULL), 0);
    assert_int_equal(object.len, HADB_ENTRY_HEADER_BYTES);
    assert_int_equal(decode(&object), 0);
    hadb_buf_deinit(&object);
}

static void peek__needs_the_header_alone_unless_the_hash_is_wanted(void **state)
{
    (void)state;
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    struct hadb_hash read_hash;
    struct hadb_entry read;
    sample_object(HADB_ENTRY_SEAL, 0, &object, &hash);
    struct hadb_slice header = hadb_slice(object.data, HADB_ENTRY_HEADER_BYTES);
    assert_int_equal(hadb_entry_peek(header, &read, NULL, NULL), 0);
    assert_int_equal(read.kind, HADB_ENTRY_SEAL);
    assert_int_equal(hadb_entry_peek(header, &read, &read_hash, NULL), HADB_ECORRUPT);
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&object), &read, &read_hash, NULL), 0);
    assert_true(hadb_hash_eq(&hash, &read_hash));
    object.data[object.len - 1] ^= 1;
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&object), &read, NULL, NULL), 0);
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&object), &read, &read_hash, NULL),
                     HADB_ECORRUPT);
    hadb_buf_deinit(&object);
}

/* ---- damage ---- */

static void entry__notices_every_flipped_bit(void **state)
{
    (void)state;
    for (int kind = 1; kind <= KINDS_MAX; kind++) {
        struct hadb_buf object = {0};
        struct hadb_hash hash;
        sample_object((enum hadb_entry_kind)kind, 19, &object, &hash);
        for (size_t bit = 0; bit < object.len * 8; bit++) {
            object.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int r = decode(&object);
            /* A flip in the version byte is an unknown version, everything else is damage. */
            assert_int_equal(r, bit / 8 == 5 ? HADB_EVERSION : HADB_ECORRUPT);
            struct hadb_hash flipped;
            hadb_sha256(object.data, object.len, &flipped);
            assert_false(hadb_hash_eq(&hash, &flipped)); /* and the chain would notice too */
            object.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(decode(&object), 0);
        hadb_buf_deinit(&object);
    }
}

static void entry__notices_every_truncation_and_a_byte_too_many(void **state)
{
    (void)state;
    for (int kind = 1; kind <= KINDS_MAX; kind++) {
        struct hadb_buf object = {0};
        struct hadb_hash hash;
        sample_object((enum hadb_entry_kind)kind, 19, &object, &hash);
        size_t whole = object.len;
        for (size_t len = 0; len < whole; len++) {
            object.len = len;
            assert_int_equal(decode(&object), HADB_ECORRUPT);
        }
        object.len = whole;
        assert_int_equal(hadb_buf_append(&object, "", 1), 0);
        assert_int_equal(decode(&object), HADB_ECORRUPT);
        hadb_buf_deinit(&object);
    }
}

/* Sets one byte of an otherwise intact seal, with right hashes, and decodes it. */
static int doctored(size_t offset, uint8_t value)
{
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    sample_object(HADB_ENTRY_SEAL, 0, &object, &hash);
    assert_int_not_equal(object.data[offset], value);
    object.data[offset] = value;
    sample_reseal(object.data, object.len);
    int r = decode(&object);
    hadb_buf_deinit(&object);
    return r;
}

static void entry__of_a_newer_release_is_a_version_error(void **state)
{
    (void)state;
    assert_int_equal(doctored(5, 2), HADB_EVERSION); /* format version */
    assert_int_equal(doctored(5, 0), HADB_EVERSION);
    assert_int_equal(doctored(6, 0), HADB_EVERSION); /* kind */
    assert_int_equal(doctored(6, 7), HADB_EVERSION);
    assert_int_equal(doctored(6, 255), HADB_EVERSION);
    assert_int_equal(doctored(7, 2), HADB_EVERSION); /* codec */
    assert_int_equal(doctored(8, 4), HADB_EVERSION); /* flags */
    assert_int_equal(doctored(9, 0x80), HADB_EVERSION);
}

static void entry__uses_no_byte_that_must_be_zero(void **state)
{
    (void)state;
    for (size_t offset = 10; offset < 16; offset++) {
        assert_int_equal(doctored(offset, 1), HADB_EVERSION);
    }
    for (size_t offset = 156; offset < 216; offset++) { /* AEAD block without an algorithm */
        assert_int_equal(doctored(offset, 0x80), HADB_EVERSION);
    }
    for (size_t offset = 240; offset < 256; offset++) {
        assert_int_equal(doctored(offset, 1), HADB_EVERSION);
    }
}

static void entry__that_is_encrypted_is_not_supported(void **state)
{
    (void)state;
    for (size_t offset = 152; offset < 156; offset++) {
        assert_int_equal(doctored(offset, 1), HADB_ENOTSUP);
    }
}

static void entry__with_fields_that_contradict_its_kind_is_corrupt(void **state)
{
    (void)state;
    assert_int_equal(doctored(8, HADB_ENTRY_FLAG_LAST), HADB_ECORRUPT); /* last part of a seal */
    assert_int_equal(doctored(8, HADB_ENTRY_FLAG_BLOB), HADB_ECORRUPT);
    assert_int_equal(doctored(48, 101), HADB_ECORRUPT); /* first txid is not last txid */
    assert_int_equal(doctored(6, HADB_ENTRY_DATA), 0);  /* header and hashes are fine with that */
    assert_int_equal(doctored(7, HADB_CODEC_ZSTD), HADB_ECORRUPT);
    assert_int_equal(doctored(232, 1), HADB_ECORRUPT); /* a seal knows of no durable slot */
}

static void entry__is_refused_when_its_header_makes_no_sense(void **state)
{
    (void)state;
    struct hadb_buf out = {0};
    struct hadb_hash hash;
    struct hadb_error err = {0};
    struct hadb_slice payload = hadb_slice_str("payload");
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    entry.first_txid = 0;
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry.first_txid = entry.last_txid + 1;
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry = sample_entry(HADB_ENTRY_DATA);
    entry.durable_slot = entry.slot; /* it cannot be durable before it exists */
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry = sample_entry(HADB_ENTRY_DATA);
    entry.flags = HADB_ENTRY_FLAG_BLOB;
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry.flags = HADB_ENTRY_FLAG_LAST;
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry = sample_entry(HADB_ENTRY_SEAL);
    entry.first_txid--;
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry = sample_entry(HADB_ENTRY_SNAPSHOT);
    entry.first_txid = 1ull << 32;
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry = sample_entry((enum hadb_entry_kind)7);
    assert_int_equal(hadb_entry_encode(&entry, payload, 0, &out, &hash, &err), HADB_EINVAL);
    entry = sample_entry(HADB_ENTRY_DATA);
    assert_int_equal(hadb_entry_encode(&entry, payload, -1, &out, &hash, &err), HADB_EINVAL);
    assert_int_equal(hadb_entry_encode(&entry, payload, HADB_ZSTD_LEVEL_MAX + 1, &out, &hash, &err),
                     HADB_EINVAL);
    assert_int_equal(out.len, 0);
}

/* ---- limits ---- */

static void entry__over_the_limit_of_its_kind_is_refused(void **state)
{
    (void)state;
    struct hadb_hash hash;
    struct hadb_buf out = {0};
    for (int k = 1; k <= KINDS_MAX; k++) {
        enum hadb_entry_kind kind = (enum hadb_entry_kind)k;
        struct hadb_entry entry = sample_entry(kind);
        /* The length alone must be enough to refuse: the bytes are never looked at. */
        struct hadb_slice payload = hadb_slice("", hadb_entry_payload_max(kind) + 1);
        struct hadb_framed framed;
        assert_int_equal(hadb_entry_encode(&entry, payload, 1, &out, &hash, NULL), HADB_ETOOBIG);
        assert_int_equal(hadb_entry_frame(&entry, payload, 1, &framed, NULL), HADB_ETOOBIG);
    }
    assert_int_equal(out.cap, 0);
}

static void entry__claims_are_checked_before_memory_is_taken(void **state)
{
    (void)state;
    const uint64_t claims[] = {HADB_ENTRY_RAW_BYTES_MAX + 1ull, 1ull << 32, 1ull << 40, 1ull << 63,
                               UINT64_MAX};
    for (size_t i = 0; i < HADB_LEN(claims); i++) {
        for (size_t field = 216; field <= 224; field += 8) {
            for (uint16_t flags = 0; flags <= HADB_ENTRY_FLAG_BLOB; flags++) {
                struct hadb_buf object = {0};
                struct hadb_hash hash;
                sample_object(HADB_ENTRY_DATA, 19, &object, &hash);
                hadb_put_u16(object.data + 8, flags);
                hadb_put_u64(object.data + field, claims[i]);
                sample_reseal(object.data, object.len);
                watch_start();
                assert_int_equal(decode(&object), HADB_ECORRUPT);
                watch_stop();
                assert_int_equal(largest, 0);
                hadb_buf_deinit(&object);
            }
        }
    }
}

/* An object whose body is @frame and which declares @raw_bytes, all hashes right. */
static void forge(struct hadb_slice frame, uint64_t raw_bytes, struct hadb_buf *object)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_hash hash;
    assert_int_equal(hadb_entry_encode(&entry, frame, 0, object, &hash, NULL), 0);
    object->data[7] = HADB_CODEC_ZSTD;
    hadb_put_u64(object->data + 224, raw_bytes);
    sample_reseal(object->data, object->len);
}

/* The zstd frame of @len zero bytes, taken out of an object that our encoder made. */
static void zero_frame(size_t len, struct hadb_buf *frame)
{
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf zeros = {0};
    struct hadb_buf object = {0};
    struct hadb_hash hash;
    assert_int_equal(hadb_buf_reserve(&zeros, len), 0);
    memset(zeros.data, 0, len);
    zeros.len = len;
    assert_int_equal(hadb_entry_encode(&entry, hadb_buf_slice(&zeros), 1, &object, &hash, NULL), 0);
    assert_int_equal(hadb_buf_append(frame, object.data + HADB_ENTRY_HEADER_BYTES,
                                     object.len - HADB_ENTRY_HEADER_BYTES),
                     0);
    hadb_buf_deinit(&zeros);
    hadb_buf_deinit(&object);
}

static void bomb__that_holds_more_than_it_declares_is_refused(void **state)
{
    (void)state;
    struct hadb_buf frame = {0};
    struct hadb_buf object = {0};
    zero_frame(16u << 20, &frame);
    forge(hadb_buf_slice(&frame), frame.len + 1, &object);
    watch_start();
    assert_int_equal(decode(&object), HADB_ECORRUPT);
    watch_stop();
    assert_int_equal(largest, 0);
    hadb_buf_deinit(&frame);
    hadb_buf_deinit(&object);
}

static void bomb__whose_frame_lies_about_its_size_never_grows_over_it(void **state)
{
    (void)state;
    struct hadb_buf frame = {0};
    struct hadb_buf object = {0};
    const uint64_t real = 16u << 20;
    const uint64_t lie = 1u << 16;
    zero_frame(real, &frame);
    /* Frame header: magic 4, descriptor 1, then window and content size; ours has 4 bytes of size. */
    uint8_t size[4];
    hadb_put_u32(size, (uint32_t)real);
    uint8_t *at = memmem(frame.data, 12, size, sizeof(size));
    assert_non_null(at);
    hadb_put_u32(at, (uint32_t)lie);
    forge(hadb_buf_slice(&frame), lie, &object);
    watch_start();
    assert_int_equal(decode(&object), HADB_ECORRUPT);
    watch_stop();
    assert_true(largest < 4u << 20); /* the output and zstd's own state */
    hadb_buf_deinit(&frame);
    hadb_buf_deinit(&object);
}

static void bomb__of_an_impossible_ratio_is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    struct hadb_buf frame = {0};
    struct hadb_buf object = {0};
    const uint64_t lie = HADB_ENTRY_RAW_BYTES_MAX;
    zero_frame(1u << 20, &frame);
    uint8_t size[4];
    hadb_put_u32(size, 1u << 20);
    uint8_t *at = memmem(frame.data, 12, size, sizeof(size));
    assert_non_null(at);
    hadb_put_u32(at, (uint32_t)lie);
    assert_true(frame.len < 100);
    forge(hadb_buf_slice(&frame), lie, &object);
    watch_start();
    assert_int_equal(decode(&object), HADB_ECORRUPT);
    watch_stop();
    assert_int_equal(largest, 0);
    hadb_buf_deinit(&frame);
    hadb_buf_deinit(&object);
}

static void frame__followed_by_anything_or_cut_off_is_corrupt(void **state)
{
    (void)state;
    const uint64_t raw = 1u << 20;
    struct hadb_buf frame = {0};
    zero_frame(raw, &frame);
    size_t whole = frame.len;
    for (size_t len = 1; len <= whole + 1; len++) {
        struct hadb_buf object = {0};
        struct hadb_buf cut = {0};
        assert_int_equal(hadb_buf_append(&cut, frame.data, HADB_MIN(len, whole)), 0);
        if (len > whole) {
            assert_int_equal(hadb_buf_append(&cut, "\x28", 1), 0);
        }
        forge(hadb_buf_slice(&cut), raw, &object);
        assert_int_equal(decode(&object), len == whole ? 0 : HADB_ECORRUPT);
        hadb_buf_deinit(&object);
        hadb_buf_deinit(&cut);
    }
    hadb_buf_deinit(&frame);
}

static void frame__twice_in_one_body_is_corrupt(void **state)
{
    (void)state;
    const uint64_t raw = 1u << 20;
    struct hadb_buf frame = {0};
    struct hadb_buf object = {0};
    zero_frame(raw, &frame);
    zero_frame(raw, &frame);
    forge(hadb_buf_slice(&frame), raw, &object);
    assert_int_equal(decode(&object), HADB_ECORRUPT);
    hadb_buf_clear(&object);
    forge(hadb_buf_slice(&frame), 2 * raw, &object);
    assert_int_equal(decode(&object), HADB_ECORRUPT);
    hadb_buf_deinit(&object);
    hadb_buf_deinit(&frame);
}

/* ---- transactions ---- */

static void data__must_be_the_transactions_of_the_header(void **state)
{
    (void)state;
    struct hadb_buf payload = {0};
    struct hadb_error err = {0};
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    sample_payload(HADB_ENTRY_DATA, &payload);
    struct hadb_slice whole = hadb_buf_slice(&payload);
    assert_int_equal(hadb_entry_check_data(&entry, whole, &err), 0);
    entry.first_txid++;
    assert_int_equal(hadb_entry_check_data(&entry, whole, &err), HADB_ECORRUPT);
    entry.first_txid--;
    entry.last_txid++;
    assert_int_equal(hadb_entry_check_data(&entry, whole, &err), HADB_ECORRUPT);
    entry.last_txid -= 2;
    assert_int_equal(hadb_entry_check_data(&entry, whole, &err), HADB_ECORRUPT);
    entry.last_txid++;
    assert_int_equal(hadb_entry_check_data(&entry, hadb_slice(whole.data, whole.len - 1), &err),
                     HADB_ECORRUPT);
    assert_int_equal(hadb_entry_check_data(&entry, hadb_slice(NULL, 0), &err), HADB_ECORRUPT);
    hadb_buf_deinit(&payload);
}

static void chain__breaks_at_an_entry_that_was_replaced(void **state)
{
    (void)state;
    struct hadb_buf first = {0};
    struct hadb_buf second = {0};
    struct hadb_hash first_hash;
    struct hadb_hash second_hash;
    struct hadb_entry entry = sample_entry(HADB_ENTRY_DATA);
    struct hadb_buf payload = {0};
    struct hadb_entry read;
    sample_payload(HADB_ENTRY_DATA, &payload);
    struct hadb_slice body = hadb_buf_slice(&payload);
    assert_int_equal(hadb_entry_encode(&entry, body, 0, &first, &first_hash, NULL), 0);
    entry.prev = first_hash;
    entry.slot++;
    assert_int_equal(hadb_entry_encode(&entry, body, 0, &second, &second_hash, NULL), 0);
    assert_int_equal(hadb_entry_peek(hadb_buf_slice(&second), &read, NULL, NULL), 0);
    assert_true(hadb_hash_eq(&read.prev, &first_hash));
    /* The same content by another put is another entry. */
    hadb_buf_clear(&first);
    entry.slot--;
    entry.prev = sample_hash(0x55);
    entry.put_id = sample_id(0x81);
    assert_int_equal(hadb_entry_encode(&entry, body, 0, &first, &first_hash, NULL), 0);
    assert_false(hadb_hash_eq(&read.prev, &first_hash));
    hadb_buf_deinit(&first);
    hadb_buf_deinit(&second);
    hadb_buf_deinit(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entry__comes_back_as_it_went_in),
        cmocka_unit_test(entry__appends_behind_what_is_in_the_buffer),
        cmocka_unit_test(entry__is_compressed_only_when_that_is_smaller),
        cmocka_unit_test(entry__with_an_empty_payload_comes_back),
        cmocka_unit_test(peek__needs_the_header_alone_unless_the_hash_is_wanted),
        cmocka_unit_test(entry__notices_every_flipped_bit),
        cmocka_unit_test(entry__notices_every_truncation_and_a_byte_too_many),
        cmocka_unit_test(entry__of_a_newer_release_is_a_version_error),
        cmocka_unit_test(entry__uses_no_byte_that_must_be_zero),
        cmocka_unit_test(entry__that_is_encrypted_is_not_supported),
        cmocka_unit_test(entry__with_fields_that_contradict_its_kind_is_corrupt),
        cmocka_unit_test(entry__is_refused_when_its_header_makes_no_sense),
        cmocka_unit_test(entry__over_the_limit_of_its_kind_is_refused),
        cmocka_unit_test(entry__claims_are_checked_before_memory_is_taken),
        cmocka_unit_test(bomb__that_holds_more_than_it_declares_is_refused),
        cmocka_unit_test(bomb__whose_frame_lies_about_its_size_never_grows_over_it),
        cmocka_unit_test(bomb__of_an_impossible_ratio_is_refused_before_memory_is_taken),
        cmocka_unit_test(frame__followed_by_anything_or_cut_off_is_corrupt),
        cmocka_unit_test(frame__twice_in_one_body_is_corrupt),
        cmocka_unit_test(data__must_be_the_transactions_of_the_header),
        cmocka_unit_test(chain__breaks_at_an_entry_that_was_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
