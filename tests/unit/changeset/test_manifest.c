/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest: round trip, one encoding per picture, limits, changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hash.h"
#include "tests/unit/changeset/sample.h"

static void assert_same_bytes(const struct hadb_manifest *manifest, struct hadb_slice expected)
{
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_manifest_encode(manifest, &bytes, NULL), 0);
    assert_true(hadb_slice_eq(hadb_buf_slice(&bytes), expected));
    hadb_buf_deinit(&bytes);
}

static void manifest__comes_back_as_it_went_in(void **state)
{
    (void)state;
    struct hadb_manifest manifest;
    struct hadb_manifest read;
    struct hadb_buf bytes = {0};
    sample_manifest(&manifest);
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    assert_int_equal(hadb_manifest_decode(hadb_buf_slice(&bytes), &read, NULL), 0);
    assert_int_equal(read.version, 9);
    assert_memory_equal(read.nonce.b, manifest.nonce.b, sizeof(read.nonce.b));
    assert_int_equal(read.boundary_slot, 40);
    assert_int_equal(read.boundary_term, 3);
    assert_int_equal(read.swept_slot, 20);
    assert_int_equal(read.swept_term, 1);
    assert_int_equal(read.terms_floor, 1);
    assert_int_equal(read.snapshots_len, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct hadb_manifest_snapshot *a = &manifest.snapshots[i];
        const struct hadb_manifest_snapshot *b = &read.snapshots[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->parts, b->parts);
        assert_int_equal(a->bytes, b->bytes);
        assert_int_equal(a->time_unix_ms, b->time_unix_ms);
        assert_memory_equal(&a->pos, &b->pos, sizeof(a->pos));
        assert_memory_equal(&a->last_hash, &b->last_hash, sizeof(a->last_hash));
        assert_memory_equal(&a->digest, &b->digest, sizeof(a->digest));
    }
    assert_int_equal(read.terms_len, 2);
    assert_memory_equal(read.terms, manifest.terms, 2 * sizeof(*read.terms));
    assert_int_equal(read.condemned_len, 2);
    assert_string_equal(read.condemned[0], "0000000000000001-older");
    assert_string_equal(read.condemned[1], "0000000000000005-old");
    assert_same_bytes(&read, hadb_buf_slice(&bytes));
    hadb_manifest_deinit(&manifest);
    hadb_manifest_deinit(&read);
    hadb_manifest_deinit(&read); /* twice is fine */
    hadb_buf_deinit(&bytes);
}

static void manifest__that_is_empty_comes_back(void **state)
{
    (void)state;
    struct hadb_manifest manifest = {.version = 1};
    struct hadb_manifest read;
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    assert_int_equal(bytes.len, HADB_MANIFEST_HEADER_BYTES);
    assert_int_equal(hadb_manifest_decode(hadb_buf_slice(&bytes), &read, NULL), 0);
    assert_int_equal(read.version, 1);
    assert_null(hadb_manifest_newest(&read));
    hadb_manifest_deinit(&read);
    hadb_buf_deinit(&bytes);
}

static void manifest__keeps_sections_that_it_does_not_know(void **state)
{
    (void)state;
    struct hadb_manifest manifest;
    struct hadb_manifest copy;
    sample_manifest(&manifest);
    assert_int_equal(manifest.sections_len, 1);
    assert_int_equal(manifest.sections[0].tag, 77);
    assert_int_equal(manifest.sections[0].bytes.len, 5);
    assert_int_equal(hadb_manifest_copy(&manifest, &copy, NULL), 0);
    copy.version++;
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_manifest_encode(&copy, &bytes, NULL), 0);
    assert_memory_equal(bytes.data + bytes.len - 5, "\xde\xad\xbe\xef\x00", 5);
    hadb_buf_deinit(&bytes);
    hadb_manifest_deinit(&copy);
    hadb_manifest_deinit(&manifest);
}

/* Decodes the sample with @len bytes at @offset replaced; -1: from the end. */
static int doctored(size_t offset, const void *data, size_t len)
{
    struct hadb_buf bytes = {0};
    struct hadb_manifest read;
    sample_payload(HADB_ENTRY_MANIFEST, &bytes);
    assert_true(offset + len <= bytes.len);
    memcpy(bytes.data + offset, data, len);
    int r = hadb_manifest_decode(hadb_buf_slice(&bytes), &read, NULL);
    if (r == 0) {
        assert_same_bytes(&read, hadb_buf_slice(&bytes));
        hadb_manifest_deinit(&read);
    }
    hadb_buf_deinit(&bytes);
    return r;
}

static void manifest__with_a_section_it_must_understand_is_a_version_error(void **state)
{
    (void)state;
    struct hadb_buf bytes = {0};
    sample_payload(HADB_ENTRY_MANIFEST, &bytes);
    size_t last_section = bytes.len - 5 - 8;
    hadb_buf_deinit(&bytes);
    assert_int_equal(doctored(last_section, "\x4d\x00\x00\x00", 4), 0);
    assert_int_equal(doctored(last_section, "\x4d\x00\x00\x80", 4), HADB_EVERSION);
    assert_int_equal(doctored(0, "\x02", 1), HADB_EVERSION);
    assert_int_equal(doctored(0, "\x00", 1), HADB_EVERSION);
}

static void manifest__with_broken_invariants_is_corrupt(void **state)
{
    (void)state;
    const size_t snapshot = HADB_MANIFEST_HEADER_BYTES + 8;
    const size_t snapshot_bytes = HADB_MANIFEST_SNAPSHOT_BYTES + 49;
    const size_t terms = snapshot + 2 * snapshot_bytes + 8;
    const size_t condemned = terms + 2 * HADB_MANIFEST_TERM_BYTES + 8;
    assert_int_equal(doctored(1, "\x01", 1), HADB_ECORRUPT);            /* must be zero */
    assert_int_equal(doctored(48, "\x29", 1), HADB_ECORRUPT);           /* swept above boundary */
    assert_int_equal(doctored(64, "\x02", 1), HADB_ECORRUPT);           /* floor above a term */
    assert_int_equal(doctored(snapshot - 8, "\x00", 1), HADB_ECORRUPT); /* tag 0 */
    assert_int_equal(doctored(snapshot - 8, "\x02", 1), HADB_ECORRUPT); /* tag twice, wrong list */
    assert_int_equal(doctored(snapshot, "\x30", 1), HADB_ECORRUPT);     /* name length */
    assert_int_equal(doctored(snapshot, "\xff", 1), HADB_ECORRUPT);
    assert_int_equal(doctored(snapshot + 1, "\x01", 1), HADB_ECORRUPT); /* must be zero */
    assert_int_equal(doctored(snapshot + 4, "\x00", 1), HADB_ECORRUPT); /* no parts */
    assert_int_equal(doctored(snapshot + HADB_MANIFEST_SNAPSHOT_BYTES, "\x00", 1), HADB_ECORRUPT);
    assert_int_equal(doctored(snapshot + HADB_MANIFEST_SNAPSHOT_BYTES, "\x7f", 1), HADB_ECORRUPT);
    assert_int_equal(doctored(terms, "\x02", 1), HADB_ECORRUPT);         /* the same term twice */
    assert_int_equal(doctored(terms, "\x03", 1), HADB_ECORRUPT);         /* descending */
    assert_int_equal(doctored(condemned, "\x00", 1), HADB_ECORRUPT);     /* empty name */
    assert_int_equal(doctored(condemned + 16, "9", 1), HADB_ECORRUPT);   /* names out of order */
    assert_int_equal(doctored(condemned + 3, "\x00", 1), HADB_ECORRUPT); /* zero in a name */
}

static void manifest__notices_every_truncation(void **state)
{
    (void)state;
    struct hadb_buf bytes = {0};
    struct hadb_manifest read;
    size_t fine = 0;
    sample_payload(HADB_ENTRY_MANIFEST, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        int r = hadb_manifest_decode(hadb_slice(bytes.data, len), &read, NULL);
        if (r == 0) { /* cut between two sections: the object's own length and hash notice that */
            fine++;
            assert_same_bytes(&read, hadb_slice(bytes.data, len));
            hadb_manifest_deinit(&read);
        } else {
            assert_int_equal(r, HADB_ECORRUPT);
        }
    }
    assert_int_equal(fine, 4); /* behind the header and behind three of four sections */
    hadb_buf_deinit(&bytes);
}

static void manifest__with_two_snapshots_of_one_name_is_corrupt(void **state)
{
    (void)state;
    struct hadb_manifest manifest;
    struct hadb_buf bytes = {0};
    sample_manifest(&manifest);
    const size_t name = HADB_MANIFEST_HEADER_BYTES + 8 + HADB_MANIFEST_SNAPSHOT_BYTES;
    const size_t next = name + 49 + HADB_MANIFEST_SNAPSHOT_BYTES;
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    memcpy(bytes.data + next, bytes.data + name, 49);
    assert_int_equal(doctored(next, bytes.data + name, 49), HADB_ECORRUPT);
    memcpy(manifest.snapshots[1].name, manifest.snapshots[0].name, 50);
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), HADB_EINVAL);
    hadb_buf_deinit(&bytes);
    hadb_manifest_deinit(&manifest);
}

static void manifest__with_a_condemned_snapshot_is_refused(void **state)
{
    (void)state;
    struct hadb_manifest manifest;
    struct hadb_buf bytes = {0};
    sample_manifest(&manifest);
    assert_int_equal(hadb_manifest_condemn(&manifest, manifest.snapshots[0].name, NULL), 0);
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), HADB_EINVAL);
    assert_int_equal(bytes.len, 0);
    hadb_manifest_deinit(&manifest);
}

/* ---- limits ---- */

static void fill_condemned(struct hadb_manifest *manifest)
{
    char name[HADB_MANIFEST_NAME_BYTES_MAX + 1];
    for (unsigned i = 0; i < HADB_MANIFEST_CONDEMNED_MAX; i++) {
        snprintf(name, sizeof(name), "%0127u", i);
        assert_int_equal(hadb_manifest_condemn(manifest, name, NULL), 0);
    }
}

static void fill_snapshots(struct hadb_manifest *manifest)
{
    for (unsigned i = 0; i < HADB_MANIFEST_SNAPSHOTS_MAX; i++) {
        struct hadb_manifest_snapshot snapshot = {.parts = 1, .pos.slot = i};
        snprintf(snapshot.name, sizeof(snapshot.name), "s%0126u", i);
        assert_int_equal(hadb_manifest_add_snapshot(manifest, &snapshot, NULL), 0);
    }
}

static void manifest__with_every_list_full_still_fits(void **state)
{
    (void)state;
    struct hadb_manifest manifest = {0};
    struct hadb_manifest read;
    struct hadb_buf bytes = {0};
    struct hadb_manifest_snapshot one_more = {.name = "x", .parts = 1};
    fill_condemned(&manifest);
    fill_snapshots(&manifest);
    for (uint64_t i = 1; i <= HADB_MANIFEST_TERMS_MAX; i++) {
        struct hadb_manifest_term term = {.term = i};
        assert_int_equal(hadb_manifest_add_term(&manifest, &term, NULL), 0);
    }
    assert_int_equal(hadb_manifest_condemn(&manifest, "y", NULL), HADB_ETOOBIG);
    assert_int_equal(hadb_manifest_add_snapshot(&manifest, &one_more, NULL), HADB_ETOOBIG);
    assert_int_equal(hadb_manifest_drop_snapshot(&manifest, 0, NULL), HADB_ETOOBIG);
    assert_int_equal(manifest.snapshots_len, HADB_MANIFEST_SNAPSHOTS_MAX);
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    assert_true(bytes.len < HADB_MANIFEST_BYTES_MAX - HADB_ENTRY_HEADER_BYTES);
    assert_int_equal(hadb_manifest_decode(hadb_buf_slice(&bytes), &read, NULL), 0);
    hadb_manifest_deinit(&read);
    hadb_manifest_deinit(&manifest);
    hadb_buf_deinit(&bytes);
}

/* A manifest of @count sections of @len bytes each, tags from 4 or @tag on. */
static int sections(unsigned count, uint32_t tag, size_t len)
{
    static uint8_t zeros[HADB_MANIFEST_BYTES_MAX];
    struct hadb_manifest manifest = {.version = 1};
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    for (unsigned i = 0; i < count; i++) {
        uint8_t header[8];
        hadb_put_u32(header, tag + i);
        hadb_put_u32(header + 4, (uint32_t)len);
        assert_int_equal(hadb_buf_append(&bytes, header, sizeof(header)), 0);
        assert_int_equal(hadb_buf_append(&bytes, zeros, len), 0);
    }
    int r = hadb_manifest_decode(hadb_buf_slice(&bytes), &manifest, NULL);
    if (r == 0) {
        assert_same_bytes(&manifest, hadb_buf_slice(&bytes));
    }
    hadb_manifest_deinit(&manifest);
    hadb_buf_deinit(&bytes);
    return r;
}

static void manifest__over_a_limit_is_corrupt(void **state)
{
    (void)state;
    const size_t room =
        HADB_MANIFEST_BYTES_MAX - HADB_ENTRY_HEADER_BYTES - HADB_MANIFEST_HEADER_BYTES - 8;
    assert_int_equal(sections(HADB_MANIFEST_SECTIONS_MAX, 4, 1), 0);
    assert_int_equal(sections(HADB_MANIFEST_SECTIONS_MAX + 1, 4, 1), HADB_ECORRUPT);
    assert_int_equal(sections(1, 4, room), 0);
    assert_int_equal(sections(1, 4, room + 1), HADB_ECORRUPT);
    assert_int_equal(sections(1, 4, 0), HADB_ECORRUPT);
    assert_int_equal(sections(1, 2, (HADB_MANIFEST_TERMS_MAX + 1) * HADB_MANIFEST_TERM_BYTES),
                     HADB_ECORRUPT);
    assert_int_equal(sections(1, 2, HADB_MANIFEST_TERM_BYTES - 1), HADB_ECORRUPT);
    /* Zero bytes are empty condemned names, more than there may be. */
    assert_int_equal(sections(1, 3, HADB_MANIFEST_CONDEMNED_MAX + 1), HADB_ECORRUPT);
}

static void manifest__that_would_not_fit_into_its_object_is_refused(void **state)
{
    (void)state;
    struct hadb_manifest manifest;
    struct hadb_buf bytes = {0};
    struct hadb_buf *future;
    sample_manifest(&manifest);
    future = &manifest.sections[0].bytes;
    assert_int_equal(hadb_buf_reserve(future, HADB_MANIFEST_BYTES_MAX), 0);
    memset(future->data, 1, HADB_MANIFEST_BYTES_MAX);
    future->len = HADB_MANIFEST_BYTES_MAX - HADB_ENTRY_HEADER_BYTES;
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), HADB_ETOOBIG);
    future->len = HADB_MANIFEST_BYTES_MAX / 2;
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    hadb_manifest_deinit(&manifest);
    hadb_buf_deinit(&bytes);
}

/* ---- changes ---- */

static void terms__drop_the_oldest_and_raise_the_floor(void **state)
{
    (void)state;
    struct hadb_manifest manifest = {0};
    for (uint64_t i = 1; i <= HADB_MANIFEST_TERMS_MAX + 3; i++) {
        struct hadb_manifest_term term = {.term = i, .last_slot = 2 * i};
        assert_int_equal(hadb_manifest_add_term(&manifest, &term, NULL), 0);
    }
    assert_int_equal(manifest.terms_len, HADB_MANIFEST_TERMS_MAX);
    assert_int_equal(manifest.terms_floor, 4);
    assert_int_equal(manifest.terms[0].term, 4);
    assert_null(hadb_manifest_find_term(&manifest, 3));
    assert_int_equal(hadb_manifest_find_term(&manifest, 4)->last_slot, 8);
    /* What was dropped may be offered again; it stays dropped. */
    struct hadb_manifest_term old = {.term = 3, .last_slot = 6};
    assert_int_equal(hadb_manifest_add_term(&manifest, &old, NULL), 0);
    assert_null(hadb_manifest_find_term(&manifest, 3));
    struct hadb_buf bytes = {0};
    assert_int_equal(hadb_manifest_encode(&manifest, &bytes, NULL), 0);
    hadb_buf_deinit(&bytes);
    hadb_manifest_deinit(&manifest);
}

static void terms__may_be_repeated_but_not_contradicted(void **state)
{
    (void)state;
    struct hadb_manifest manifest = {0};
    struct hadb_manifest_term term = {.term = 5, .last_slot = 9, .seal_hash = sample_hash(1)};
    assert_int_equal(hadb_manifest_add_term(&manifest, &term, NULL), 0);
    assert_int_equal(hadb_manifest_add_term(&manifest, &term, NULL), 0);
    assert_int_equal(manifest.terms_len, 1);
    term.seal_hash = sample_hash(2);
    assert_int_equal(hadb_manifest_add_term(&manifest, &term, NULL), HADB_EINVAL);
    term.term = 4;
    assert_int_equal(hadb_manifest_add_term(&manifest, &term, NULL), HADB_EINVAL);
    assert_int_equal(manifest.terms_len, 1);
    hadb_manifest_deinit(&manifest);
}

static void snapshot__that_is_dropped_is_condemned_and_never_used_again(void **state)
{
    (void)state;
    struct hadb_manifest manifest;
    sample_manifest(&manifest);
    struct hadb_manifest_snapshot first = manifest.snapshots[0];
    struct hadb_manifest_snapshot second = manifest.snapshots[1];
    assert_string_equal(hadb_manifest_newest(&manifest)->name, second.name);
    assert_int_equal(hadb_manifest_add_snapshot(&manifest, &first, NULL), HADB_EINVAL);
    assert_int_equal(hadb_manifest_drop_snapshot(&manifest, 0, NULL), 0);
    assert_int_equal(manifest.snapshots_len, 1);
    assert_string_equal(manifest.snapshots[0].name, second.name);
    assert_int_equal(manifest.condemned_len, 3);
    assert_int_equal(hadb_manifest_add_snapshot(&manifest, &first, NULL), HADB_EINVAL);
    assert_true(hadb_manifest_absolve(&manifest, first.name));
    assert_false(hadb_manifest_absolve(&manifest, first.name));
    assert_int_equal(manifest.condemned_len, 2);
    first.name[0] = '\0';
    assert_int_equal(hadb_manifest_add_snapshot(&manifest, &first, NULL), HADB_EINVAL);
    second.name[0] = 'x';
    second.parts = 0;
    assert_int_equal(hadb_manifest_add_snapshot(&manifest, &second, NULL), HADB_EINVAL);
    hadb_manifest_deinit(&manifest);
}

static void condemned__names_stay_in_order(void **state)
{
    (void)state;
    const char *names[] = {"m", "c", "z", "a", "m", "n"};
    struct hadb_manifest manifest = {0};
    for (size_t i = 0; i < HADB_LEN(names); i++) {
        assert_int_equal(hadb_manifest_condemn(&manifest, names[i], NULL), 0);
    }
    assert_int_equal(manifest.condemned_len, 5);
    for (size_t i = 1; i < manifest.condemned_len; i++) {
        assert_true(strcmp(manifest.condemned[i - 1], manifest.condemned[i]) < 0);
    }
    assert_int_equal(hadb_manifest_condemn(&manifest, "", NULL), HADB_EINVAL);
    assert_int_equal(hadb_manifest_condemn(&manifest, "a b", NULL), HADB_EINVAL);
    hadb_manifest_deinit(&manifest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest__comes_back_as_it_went_in),
        cmocka_unit_test(manifest__that_is_empty_comes_back),
        cmocka_unit_test(manifest__keeps_sections_that_it_does_not_know),
        cmocka_unit_test(manifest__with_a_section_it_must_understand_is_a_version_error),
        cmocka_unit_test(manifest__with_broken_invariants_is_corrupt),
        cmocka_unit_test(manifest__notices_every_truncation),
        cmocka_unit_test(manifest__with_two_snapshots_of_one_name_is_corrupt),
        cmocka_unit_test(manifest__with_a_condemned_snapshot_is_refused),
        cmocka_unit_test(manifest__with_every_list_full_still_fits),
        cmocka_unit_test(manifest__over_a_limit_is_corrupt),
        cmocka_unit_test(manifest__that_would_not_fit_into_its_object_is_refused),
        cmocka_unit_test(terms__drop_the_oldest_and_raise_the_floor),
        cmocka_unit_test(terms__may_be_repeated_but_not_contradicted),
        cmocka_unit_test(snapshot__that_is_dropped_is_condemned_and_never_used_again),
        cmocka_unit_test(condemned__names_stay_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
