/* SPDX-License-Identifier: Apache-2.0 */
/* Opening damaged logs: cut anywhere, every bit flipped, zeros and garbage behind, files missing or foreign. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "engines/kv/kv_private.h"
#include "tests/unit/engines/kvrig.h"

/* A recorded history of one segment: what the engine held, and how long the file was, after each step. */
struct history {
    struct kvrig rig;
    struct hadb_buf file; /* after the last step */
    size_t ends[KVRIG_STEPS + 1];
    struct picture pictures[KVRIG_STEPS + 1];
    size_t known_synced; /* some record says that all below was on disk */
};

/* Steps with an fsync behind each, or only those of rewinds. */
static void record(struct history *history, bool synced)
{
    struct kvrig *rig = &history->rig;
    memset(history, 0, sizeof(*history));
    kvrig_init(rig, 1);
    kvrig_must_open(rig);
    for (unsigned i = 0; i <= KVRIG_STEPS; i++) {
        kvrig_read(rig, KVRIG_SEGMENT_1, &history->file);
        history->ends[i] = history->file.len;
        history->pictures[i] = kvrig_picture(rig);
        if (i == 1) {
            history->pictures[1] = history->pictures[0]; /* an unfinished ingest is no state */
        }
        if (i < KVRIG_STEPS) {
            struct hadb_error err = {0};
            int r = kvrig_step(rig, i, &err);
            if (r != 0) {
                fail_msg("step %u: %d %s", i, r, err.message);
            }
            assert_int_equal(synced ? hadb_engine_sync(&rig->engine, NULL) : 0, 0);
        }
    }
    /* The last record that an fsync stands behind, if another one follows. */
    unsigned last = KVRIG_STEPS;
    while (history->ends[last - 1] == history->ends[last]) {
        last--;
    }
    unsigned i = last - 1;
    while (!synced && i % 6 != 1) {
        i--; /* the state after a rewind */
    }
    history->known_synced = history->ends[i];
    assert_true(i > 6 && history->known_synced < history->file.len);
}

static void history_deinit(struct history *history)
{
    hadb_buf_deinit(&history->file);
    kvrig_deinit(&history->rig);
}

/* Opens @bytes as the only segment of a fresh file system. */
static int open_bytes(struct kvrig *rig, struct hadb_slice bytes, struct hadb_error *err)
{
    kvrig_init(rig, 2);
    assert_int_equal(hadb_fs_mkdir_all(&rig->fault.inner, KVRIG_FOLDER, NULL), 0);
    kvrig_write(rig, KVRIG_SEGMENT_1, bytes);
    return kvrig_open(rig, err);
}

/* The last step that is whole in the first @len bytes. */
static unsigned whole_steps(const struct history *history, size_t len)
{
    unsigned i = 0;
    while (i < KVRIG_STEPS && history->ends[i + 1] <= len) {
        i++;
    }
    return i;
}

static void expect_picture(struct kvrig *rig, const struct picture *want)
{
    struct picture got = kvrig_picture(rig);
    assert_int_equal(got.last_txid, want->last_txid);
    assert_true(kvrig_picture_eq(&got, want));
}

static void expect_corrupt(const struct hadb_error *err)
{
    assert_int_equal(err->code, HADB_ECORRUPT);
    assert_non_null(strstr(err->message, "seg-"));
    assert_non_null(strstr(err->message, "at offset "));
    assert_non_null(strstr(err->message, "restore this database from storage"));
}

/* The engine goes on from where it is, and what it writes is there when opened again. */
static void expect_goes_on(struct kvrig *rig)
{
    assert_int_equal(kvrig_put(rig, "after", "recovery", NULL), 0);
    struct picture want = kvrig_picture(rig);
    kvrig_close(rig);
    kvrig_must_open(rig);
    expect_picture(rig, &want);
    struct hadb_engine_stats stats;
    hadb_engine_stats(&rig->engine, &stats);
    assert_int_equal(stats.cut_bytes, 0);
}

static void open__cuts_a_log_that_ends_anywhere_back_to_its_last_whole_record(void **state)
{
    (void)state;
    static struct history history;
    record(&history, false);
    for (size_t len = 0; len <= history.file.len; len++) {
        struct kvrig rig;
        struct hadb_error err = {0};
        int r = open_bytes(&rig, hadb_slice(history.file.data, len), &err);
        if (len < HADB__KV_SEGMENT_HEADER_BYTES) {
            assert_int_equal(r, HADB_ECORRUPT);
            expect_corrupt(&err);
            kvrig_deinit(&rig);
            continue;
        }
        assert_int_equal(r, 0);
        unsigned whole = whole_steps(&history, len);
        expect_picture(&rig, &history.pictures[whole]);
        struct hadb_engine_stats stats;
        hadb_engine_stats(&rig.engine, &stats);
        /* A rewind with nothing to undo writes no record: compare with the end, not the step. */
        assert_int_equal(stats.cut_bytes, len - history.ends[whole]);
        assert_int_equal(stats.recovery[0] != '\0', stats.cut_bytes > 0);
        assert_int_equal(rig.warnings > 0, stats.cut_bytes > 0);
        expect_goes_on(&rig);
        kvrig_deinit(&rig);
    }
    history_deinit(&history);
}

static void open__of_a_log_with_any_bit_flipped_gives_a_prefix_or_reports_it(void **state)
{
    (void)state;
    static struct history history;
    record(&history, false);
    for (size_t at = 0; at < history.file.len; at++) {
        for (unsigned bit = 0; bit < 8; bit += at % 3 + 1) {
            history.file.data[at] ^= (uint8_t)(1u << bit);
            struct kvrig rig;
            struct hadb_error err = {0};
            int r = open_bytes(&rig, hadb_buf_slice(&history.file), &err);
            history.file.data[at] ^= (uint8_t)(1u << bit);
            if (at < HADB__KV_SEGMENT_HEADER_BYTES) {
                assert_true(r == HADB_ECORRUPT || r == HADB_EVERSION);
            } else if (at < history.known_synced) {
                assert_int_equal(r, HADB_ECORRUPT);
                expect_corrupt(&err);
            } else { /* may be a torn write */
                assert_int_equal(r, 0);
                unsigned whole = whole_steps(&history, at);
                expect_picture(&rig, &history.pictures[whole]);
                struct hadb_engine_stats stats;
                hadb_engine_stats(&rig.engine, &stats);
                assert_int_equal(stats.cut_bytes, history.file.len - history.ends[whole]);
            }
            kvrig_deinit(&rig);
        }
    }
    history_deinit(&history);
}

static void open__of_a_synced_log_with_any_bit_flipped_reports_it(void **state)
{
    (void)state;
    static struct history history;
    record(&history, true);
    for (size_t at = HADB__KV_SEGMENT_HEADER_BYTES; at < history.file.len; at++) {
        history.file.data[at] ^= (uint8_t)(1u << at % 8);
        struct kvrig rig;
        struct hadb_error err = {0};
        int r = open_bytes(&rig, hadb_buf_slice(&history.file), &err);
        history.file.data[at] ^= (uint8_t)(1u << at % 8);
        if (at < history.known_synced) {
            assert_int_equal(r, HADB_ECORRUPT);
            expect_corrupt(&err);
        } else { /* nothing behind the last record tells that it was synced */
            assert_int_equal(r, 0);
            expect_picture(&rig, &history.pictures[whole_steps(&history, at)]);
        }
        kvrig_deinit(&rig);
    }
    history_deinit(&history);
}

static void open__of_a_closed_log_with_any_bit_flipped_reports_it(void **state)
{
    (void)state;
    static struct history history;
    record(&history, false);
    size_t end = history.file.len;
    kvrig_close(&history.rig);
    kvrig_read(&history.rig, KVRIG_SEGMENT_1, &history.file);
    assert_int_equal(history.file.len, end + HADB__KV_RECORD_HEADER_BYTES);
    for (size_t at = HADB__KV_SEGMENT_HEADER_BYTES; at < history.file.len; at++) {
        history.file.data[at] ^= (uint8_t)(1u << at % 8);
        struct kvrig rig;
        struct hadb_error err = {0};
        int r = open_bytes(&rig, hadb_buf_slice(&history.file), &err);
        history.file.data[at] ^= (uint8_t)(1u << at % 8);
        assert_int_equal(r, at < end ? HADB_ECORRUPT : 0);
        if (r == 0) {
            expect_picture(&rig, &history.pictures[KVRIG_STEPS]);
        } else {
            expect_corrupt(&err);
        }
        kvrig_deinit(&rig);
    }
    history_deinit(&history);
}

static void open__cuts_zeros_and_garbage_behind_the_last_record(void **state)
{
    (void)state;
    static struct history history;
    record(&history, true);
    struct test_rng rng;
    test_rng_init(&rng, 3);
    static const size_t lengths[] = {1, 7, 8, 31, 32, 33, 511, 512, 513, 4096, 70000, 1500000};
    for (size_t i = 0; i < HADB_LEN(lengths); i++) {
        for (int zeros = 0; zeros < 2; zeros++) {
            struct hadb_buf bytes = {0};
            int r = hadb_buf_append(&bytes, history.file.data, history.file.len);
            assert_int_equal(r, 0);
            assert_int_equal(hadb_buf_reserve(&bytes, lengths[i]), 0);
            memset(bytes.data + bytes.len, 0, lengths[i]);
            if (!zeros) {
                test_rng_fill(&rng, bytes.data + bytes.len, lengths[i]);
            }
            bytes.len += lengths[i];
            struct kvrig rig;
            assert_int_equal(open_bytes(&rig, hadb_buf_slice(&bytes), NULL), 0);
            expect_picture(&rig, &history.pictures[KVRIG_STEPS]);
            struct hadb_engine_stats stats;
            hadb_engine_stats(&rig.engine, &stats);
            assert_int_equal(stats.cut_bytes, lengths[i]);
            assert_non_null(strstr(stats.recovery, "seg-0000000000000001.kv"));
            expect_goes_on(&rig);
            kvrig_deinit(&rig);
            hadb_buf_deinit(&bytes);
        }
    }
    history_deinit(&history);
}

/* Zeros in the middle are a lost write as long as nothing says that they were synced. */
static void open__cuts_at_a_hole_that_was_not_synced_and_reports_one_that_was(void **state)
{
    (void)state;
    for (int synced = 0; synced < 2; synced++) {
        static struct history history;
        record(&history, synced);
        const size_t hole = history.ends[KVRIG_STEPS - 4] + 8;
        memset(history.file.data + hole, 0, 40);
        struct kvrig rig;
        struct hadb_error err = {0};
        int r = open_bytes(&rig, hadb_buf_slice(&history.file), &err);
        if (synced) {
            assert_int_equal(r, HADB_ECORRUPT);
            expect_corrupt(&err);
        } else {
            assert_int_equal(r, 0);
            expect_picture(&rig, &history.pictures[whole_steps(&history, hole)]);
            struct hadb_engine_stats stats;
            hadb_engine_stats(&rig.engine, &stats);
            assert_non_null(strstr(stats.recovery, "unsynced behind it"));
            expect_goes_on(&rig);
        }
        kvrig_deinit(&rig);
        history_deinit(&history);
    }
}

/* A database of several segments, closed in order. */
static void make_segments(struct kvrig *rig, uint64_t segments)
{
    kvrig_init(rig, 4);
    rig->options.segment_bytes_max = 600;
    kvrig_must_open(rig);
    struct hadb_engine_stats stats = {0};
    for (unsigned i = 0; stats.segments < segments; i++) {
        assert_int_equal(kvrig_step(rig, 2 + i % (KVRIG_STEPS - 2), NULL) <= 0, 1);
        hadb_engine_stats(&rig->engine, &stats);
    }
    assert_int_equal(kvrig_put(rig, "last", "one", NULL), 0);
}

static void open__reports_any_damage_to_a_sealed_segment(void **state)
{
    (void)state;
    struct kvrig rig;
    make_segments(&rig, 3);
    kvrig_close(&rig);
    struct hadb_buf file = {0};
    kvrig_read(&rig, KVRIG_SEGMENT_2, &file);
    for (size_t at = 0; at < file.len; at++) {
        file.data[at] ^= 0x10;
        kvrig_write(&rig, KVRIG_SEGMENT_2, hadb_buf_slice(&file));
        struct hadb_error err = {0};
        int r = kvrig_open(&rig, &err);
        file.data[at] ^= 0x10;
        bool version = at >= HADB__KV_SEGMENT_VERSION && at < HADB__KV_SEGMENT_HEADER_LEN;
        assert_int_equal(r, version ? HADB_EVERSION : HADB_ECORRUPT);
        assert_non_null(strstr(err.message, "seg-0000000000000002.kv"));
    }
    for (size_t len = 0; len < file.len; len++) {
        kvrig_write(&rig, KVRIG_SEGMENT_2, hadb_slice(file.data, len));
        assert_int_equal(kvrig_open(&rig, NULL), HADB_ECORRUPT);
    }
    kvrig_write(&rig, KVRIG_SEGMENT_2, hadb_buf_slice(&file));
    kvrig_must_open(&rig);
    hadb_buf_deinit(&file);
    kvrig_deinit(&rig);
}

static void open__reports_a_missing_or_foreign_or_swapped_segment(void **state)
{
    (void)state;
    struct kvrig rig, other;
    make_segments(&rig, 3);
    make_segments(&other, 3);
    kvrig_close(&rig);
    kvrig_close(&other);
    struct hadb_buf one = {0}, two = {0}, foreign = {0};
    kvrig_read(&rig, KVRIG_SEGMENT_1, &one);
    kvrig_read(&rig, KVRIG_SEGMENT_2, &two);
    kvrig_read(&other, KVRIG_SEGMENT_2, &foreign);
    const struct hadb_fs *fs = &rig.fault.inner;

    struct hadb_error err = {0};
    assert_int_equal(hadb_fs_unlink(fs, KVRIG_SEGMENT_2, NULL), 0);
    assert_int_equal(kvrig_open(&rig, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, "seg-0000000000000002.kv is missing"));
    kvrig_write(&rig, KVRIG_SEGMENT_2, hadb_buf_slice(&foreign));
    assert_int_equal(kvrig_open(&rig, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, "another database"));
    kvrig_write(&rig, KVRIG_SEGMENT_2, hadb_buf_slice(&one));
    assert_int_equal(kvrig_open(&rig, &err), HADB_ECORRUPT);
    assert_int_equal(hadb_fs_unlink(fs, KVRIG_SEGMENT_1, NULL), 0);
    kvrig_write(&rig, KVRIG_SEGMENT_2, hadb_buf_slice(&two));
    assert_int_equal(kvrig_open(&rig, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, "seg-0000000000000001.kv is missing"));
    kvrig_write(&rig, KVRIG_SEGMENT_1, hadb_buf_slice(&one));
    kvrig_must_open(&rig);

    hadb_buf_deinit(&one);
    hadb_buf_deinit(&two);
    hadb_buf_deinit(&foreign);
    kvrig_deinit(&rig);
    kvrig_deinit(&other);
}

static void open__leaves_strange_files_alone_and_removes_unborn_segments(void **state)
{
    (void)state;
    struct kvrig rig;
    make_segments(&rig, 2);
    kvrig_close(&rig);
    static const char *const strange[] = {"/db/seg-0000000000000009.kv.bak", "/db/seg-9.kv",
                                          "/db/seg-000000000000000A.kv", "/db/notes",
                                          "/db/xseg-0000000000000009.kv"};
    for (size_t i = 0; i < HADB_LEN(strange); i++) {
        kvrig_write(&rig, strange[i], hadb_slice_str("mine"));
    }
    kvrig_write(&rig, "/db/seg-0000000000000003.kv.new", hadb_slice_str("half a header"));
    kvrig_must_open(&rig);
    struct hadb_buf bytes = {0};
    for (size_t i = 0; i < HADB_LEN(strange); i++) {
        kvrig_read(&rig, strange[i], &bytes);
        assert_string_equal(hadb_buf_cstr(&bytes), "mine");
    }
    int r =
        hadb_fs_read_file(&rig.fault.inner, "/db/seg-0000000000000003.kv.new", 100, &bytes, NULL);
    assert_int_equal(r, HADB_ABSENT);
    hadb_buf_deinit(&bytes);
    kvrig_deinit(&rig);
}

static void open__refuses_a_newer_format(void **state)
{
    (void)state;
    struct kvrig rig;
    make_segments(&rig, 1);
    kvrig_close(&rig);
    struct hadb_buf file = {0};
    kvrig_read(&rig, KVRIG_SEGMENT_1, &file);
    hadb_put_u32(file.data + HADB__KV_SEGMENT_VERSION, 2);
    hadb_put_u32(file.data + HADB__KV_SEGMENT_CRC, hadb_crc32c(0, file.data, HADB__KV_SEGMENT_CRC));
    kvrig_write(&rig, KVRIG_SEGMENT_1, hadb_buf_slice(&file));
    struct hadb_error err = {0};
    assert_int_equal(kvrig_open(&rig, &err), HADB_EVERSION);
    assert_non_null(strstr(err.message, "format 2"));
    hadb_buf_deinit(&file);
    kvrig_deinit(&rig);
}

/* Records whose checksum holds but which make no sense: a bug or an attack, never served. */
static void open__refuses_intact_records_that_contradict_the_log(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 5);
    kvrig_must_open(&rig);
    assert_int_equal(kvrig_put(&rig, "a", "1", NULL), 0);
    struct hadb_buf file = {0}, txn = {0};
    kvrig_read(&rig, KVRIG_SEGMENT_1, &file);
    kvrig_close(&rig);
    const struct hadb_op op = {.type = HADB_OP_PUT, .key = hadb_slice_str("k")};
    assert_int_equal(hadb_txn_encode(1, 7, 0, &op, 1, &txn, NULL), 0); /* 2 is next */
    struct hadb__kv_segment_header header;
    assert_int_equal(hadb__kv_segment_header_decode(file.data, &header, NULL), 0);
    uint8_t mark[HADB__KV_MARK_BYTES];
    hadb__kv_mark_encode(&(struct hadb_pos){.txid = 9}, mark);
    const struct {
        enum hadb__kv_type type;
        uint8_t flags;
        struct hadb_slice payload;
    } bad[] = {
        {HADB__KV_APPLY, 0, hadb_buf_slice(&txn)},
        {HADB__KV_APPLY, 0, hadb_slice("garbage", 7)},
        {HADB__KV_APPLY, HADB__KV_FLAG_MARK, hadb_slice("short", 5)},
        {HADB__KV_APPLY, HADB__KV_FLAG_MARK, hadb_slice(mark, sizeof(mark))},
        {HADB__KV_MARK, 0, hadb_slice(mark, sizeof(mark))},
        {HADB__KV_MARK, 0, hadb_slice(mark, 20)},
        {HADB__KV_INGEST, 0, hadb_slice("1234567890123456789012345", 25)},
        {HADB__KV_INGEST, 0, hadb_slice(NULL, 0)}, /* not empty: "a" is there */
    };
    for (size_t i = 0; i < HADB_LEN(bad); i++) {
        struct hadb_buf bytes = {0};
        size_t len = (size_t)hadb__kv_record_bytes(bad[i].payload.len);
        assert_int_equal(hadb_buf_append(&bytes, file.data, file.len), 0);
        assert_int_equal(hadb_buf_reserve(&bytes, len), 0);
        uint8_t *at = bytes.data + bytes.len;
        if (bad[i].payload.len) {
            memcpy(at + HADB__KV_RECORD_HEADER_BYTES, bad[i].payload.data, bad[i].payload.len);
        }
        const struct hadb__kv_record record = {.type = bad[i].type,
                                               .flags = bad[i].flags,
                                               .len = (uint32_t)bad[i].payload.len,
                                               .position = bytes.len};
        hadb__kv_record_seal(at, &record, hadb__kv_seed(&header.db));
        bytes.len += len;
        struct kvrig copy;
        struct hadb_error err = {0};
        assert_int_equal(open_bytes(&copy, hadb_buf_slice(&bytes), &err), HADB_ECORRUPT);
        expect_corrupt(&err);
        kvrig_deinit(&copy);
        hadb_buf_deinit(&bytes);
    }
    hadb_buf_deinit(&file);
    hadb_buf_deinit(&txn);
    kvrig_deinit(&rig);
}

/* Behind the bad record @headers that claim all bytes up to the end: each is to be checked, and fails. */
static int open_made_up(size_t headers, struct kvrig *rig, struct hadb_error *err)
{
    struct kvrig from;
    struct hadb_buf file = {0};
    kvrig_init(&from, 5);
    kvrig_must_open(&from);
    kvrig_read(&from, KVRIG_SEGMENT_1, &file);
    kvrig_close(&from);
    size_t start = file.len, len = (headers + 1) * HADB__KV_RECORD_HEADER_BYTES;
    assert_int_equal(hadb_buf_reserve(&file, len), 0);
    memset(file.data + start, 0, len);
    file.len += len;
    for (size_t at = start + HADB__KV_RECORD_HEADER_BYTES; at < file.len;
         at += HADB__KV_RECORD_HEADER_BYTES) {
        size_t left = file.len - at - HADB__KV_RECORD_HEADER_BYTES;
        hadb_put_u32(file.data + at + HADB__KV_RECORD_LEN, (uint32_t)left);
        file.data[at + HADB__KV_RECORD_TYPE] = HADB__KV_APPLY;
        hadb_put_u64(file.data + at + HADB__KV_RECORD_POSITION, at);
    }
    int r = open_bytes(rig, hadb_buf_slice(&file), err);
    hadb_buf_deinit(&file);
    kvrig_deinit(&from);
    return r;
}

/* To look behind a bad record is to check what looks like records; made-up ones would take hours. */
static void open__gives_up_on_an_end_that_is_made_to_take_long(void **state)
{
    (void)state;
    struct kvrig rig;
    struct hadb_error err = {0};
    assert_int_equal(open_made_up(10, &rig, &err), 0); /* cut off, as any torn end */
    kvrig_deinit(&rig);
    assert_int_equal(open_made_up(32768, &rig, &err), HADB_ECORRUPT);
    expect_corrupt(&err);
    kvrig_deinit(&rig);
}

static void read__reports_a_value_that_changed_on_disk(void **state)
{
    (void)state;
    struct kvrig rig;
    kvrig_init(&rig, 6);
    kvrig_must_open(&rig);
    assert_int_equal(kvrig_put(&rig, "a", "first value", NULL), 0);
    assert_int_equal(kvrig_put(&rig, "b", "second value", NULL), 0);
    struct hadb_buf file = {0}, value = {0};
    kvrig_read(&rig, KVRIG_SEGMENT_1, &file);
    uint8_t *at = memmem(file.data, file.len, "second value", 12);
    assert_non_null(at);
    size_t offset = (size_t)(at - file.data);
    at[3] ^= 0x40;
    kvrig_write(&rig, KVRIG_SEGMENT_1, hadb_buf_slice(&file));
    struct hadb_error err = {0};
    struct hadb_slice b = hadb_slice_str("b");
    assert_int_equal(hadb_engine_get(&rig.engine, NULL, b, &value, NULL, &err), HADB_ECORRUPT);
    expect_corrupt(&err);
    char want[64];
    snprintf(want, sizeof(want), "seg-0000000000000001.kv at offset %zu", offset);
    assert_non_null(strstr(err.message, want));
    assert_int_equal(value.len, 0);
    int r = hadb_engine_get(&rig.engine, NULL, hadb_slice_str("a"), &value, NULL, NULL);
    assert_int_equal(r, 0);
    assert_string_equal(hadb_buf_cstr(&value), "first value");
    struct hadb_hash hash;
    r = hadb_engine_digest(&rig.engine, NULL, hadb_slice(NULL, 0), &hash, NULL);
    assert_int_equal(r, HADB_ECORRUPT);
    hadb_buf_clear(&value);
    assert_int_equal(hadb_engine_tail(&rig.engine, 0, 1, &value, NULL), 0);
    size_t len = value.len;
    r = hadb_engine_tail(&rig.engine, 0, SIZE_MAX, &value, &err);
    assert_int_equal(r, HADB_ECORRUPT);
    assert_int_equal(value.len, len); /* nothing of a failed call stays */

    kvrig_write(&rig, KVRIG_SEGMENT_1, hadb_slice(file.data, offset + 2));
    assert_int_equal(hadb_engine_get(&rig.engine, NULL, b, &value, NULL, &err), HADB_ECORRUPT);
    assert_non_null(strstr(err.message, "cut off"));
    hadb_buf_deinit(&value);
    hadb_buf_deinit(&file);
    kvrig_deinit(&rig);
}

static void read_only__changes_no_byte_and_needs_no_lock(void **state)
{
    (void)state;
    static struct history history;
    record(&history, false);
    struct kvrig *rig = &history.rig; /* still open, still locked */
    struct hadb_engine_options options = {.read_only = true};
    struct hadb_engine reader = {0};
    int r = hadb_engine_open("kv", KVRIG_FOLDER, &options, &rig->env, &reader, NULL);
    assert_int_equal(r, 0);
    struct hadb_engine writer = rig->engine;
    rig->engine = reader;
    expect_picture(rig, &history.pictures[KVRIG_STEPS]);
    rig->engine = writer;
    hadb_engine_close(&reader);

    kvrig_close(rig);
    history.file.len -= 3;
    kvrig_write(rig, KVRIG_SEGMENT_1, hadb_buf_slice(&history.file));
    rig->options = options;
    kvrig_must_open(rig);
    expect_picture(rig, &history.pictures[whole_steps(&history, history.file.len)]);
    struct hadb_engine_stats stats;
    hadb_engine_stats(&rig->engine, &stats);
    assert_true(stats.cut_bytes > 0);
    kvrig_close(rig);
    struct hadb_buf now = {0};
    kvrig_read(rig, KVRIG_SEGMENT_1, &now);
    assert_true(hadb_slice_eq(hadb_buf_slice(&now), hadb_buf_slice(&history.file)));
    hadb_buf_deinit(&now);

    struct hadb_error err = {0};
    r = hadb_engine_open("kv", "/nowhere", &options, &rig->env, &reader, &err);
    assert_int_equal(r, HADB_ENODB);
    assert_non_null(strstr(err.message, "/nowhere"));
    history_deinit(&history);
}

static void segments__count_what_is_live_in_them(void **state)
{
    (void)state;
    struct kvrig rig;
    make_segments(&rig, 4);
    for (int round = 0; round < 3; round++) {
        const struct kv *kv = rig.engine.self;
        struct hadb_engine_stats stats;
        hadb_engine_stats(&rig.engine, &stats);
        uint64_t records = 0, bytes = 0;
        for (size_t i = 0; i < kv->log.segments_len; i++) {
            records += kv->log.segments[i]->live_records;
            bytes += kv->log.segments[i]->live_bytes;
            assert_true(kv->log.segments[i]->live_bytes <= kv->log.segments[i]->size);
        }
        assert_int_equal(records, stats.keys);
        assert_int_equal(bytes, stats.live_bytes);
        if (round == 0) {
            assert_int_equal(hadb_engine_rewind(&rig.engine, NULL), 0);
        } else {
            kvrig_close(&rig);
            kvrig_must_open(&rig);
        }
    }
    kvrig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__cuts_a_log_that_ends_anywhere_back_to_its_last_whole_record),
        cmocka_unit_test(open__of_a_log_with_any_bit_flipped_gives_a_prefix_or_reports_it),
        cmocka_unit_test(open__of_a_synced_log_with_any_bit_flipped_reports_it),
        cmocka_unit_test(open__of_a_closed_log_with_any_bit_flipped_reports_it),
        cmocka_unit_test(open__cuts_zeros_and_garbage_behind_the_last_record),
        cmocka_unit_test(open__cuts_at_a_hole_that_was_not_synced_and_reports_one_that_was),
        cmocka_unit_test(open__reports_any_damage_to_a_sealed_segment),
        cmocka_unit_test(open__reports_a_missing_or_foreign_or_swapped_segment),
        cmocka_unit_test(open__leaves_strange_files_alone_and_removes_unborn_segments),
        cmocka_unit_test(open__refuses_a_newer_format),
        cmocka_unit_test(open__refuses_intact_records_that_contradict_the_log),
        cmocka_unit_test(open__gives_up_on_an_end_that_is_made_to_take_long),
        cmocka_unit_test(read__reports_a_value_that_changed_on_disk),
        cmocka_unit_test(read_only__changes_no_byte_and_needs_no_lock),
        cmocka_unit_test(segments__count_what_is_live_in_them),
    };
    return cmocka_run_group_tests_name("kv recovery", tests, NULL, NULL);
}
