/* SPDX-License-Identifier: Apache-2.0 */
/* Set-up and words of the engine suites; see rig.h. One thread. */
#include "tests/contract/engine/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPS_MAX 64u

int rig_setup(void **state)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    assert_non_null(rig);
    rig->name = rig_engine;
    rig->durable = strcmp(rig_engine, "memory") != 0;
    rig->term = 1;
    test_tmp_make(rig->path);
    rig_open(rig);
    *state = rig;
    return 0;
}

int rig_teardown(void **state)
{
    struct rig *rig = *state;
    rig_close(rig);
    test_tmp_remove(rig->path);
    free(rig);
    return 0;
}

void rig_open(struct rig *rig)
{
    struct hadb_error err = {0};
    int r = hadb_engine_open(rig->name, rig->path, &rig->options, NULL, &rig->engine, &err);
    if (r != 0) {
        fail_msg("open: %d %s", r, err.message);
    }
}

void rig_close(struct rig *rig)
{
    hadb_engine_close(&rig->engine);
}

void rig_reopen(struct rig *rig)
{
    if (rig->durable) {
        rig_close(rig);
        rig_open(rig);
    }
}

void rig_encode(const struct rig *rig, hadb_txid txid, const char *words, struct hadb_buf *out)
{
    struct hadb_op ops[OPS_MAX];
    size_t len = 0;
    for (const char *at = words; *at;) {
        size_t word_len = strcspn(at, " ");
        const char *equals = memchr(at, '=', word_len);
        assert_true(len < OPS_MAX && (*at == '-') == (equals == NULL));
        if (equals) {
            ops[len] = (struct hadb_op){
                .type = HADB_OP_PUT,
                .key = hadb_slice(at, (size_t)(equals - at)),
                .value = hadb_slice(equals + 1, word_len - (size_t)(equals + 1 - at)),
            };
        } else {
            ops[len] =
                (struct hadb_op){.type = HADB_OP_DELETE, .key = hadb_slice(at + 1, word_len - 1)};
        }
        len++;
        at += word_len;
        at += strspn(at, " ");
    }
    struct hadb_error err = {0};
    int r = hadb_txn_encode(rig->term, txid, (int64_t)txid * 1000, ops, len, out, &err);
    if (r != 0) {
        fail_msg("encode: %d %s", r, err.message);
    }
}

void rig_apply(struct rig *rig, const char *words)
{
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    struct hadb_buf txn = {0};
    rig_encode(rig, position.last_txid + 1, words, &txn);
    struct hadb_error err = {0};
    int r = hadb_engine_apply(&rig->engine, hadb_buf_slice(&txn), NULL, &err);
    if (r != 0) {
        fail_msg("apply: %d %s", r, err.message);
    }
    hadb_buf_deinit(&txn);
}

struct hadb_pos rig_pos(hadb_txid txid)
{
    struct hadb_pos pos = {.term = 1, .slot = txid, .txid = txid};
    memset(pos.hash.b, (int)(txid & 0xff), sizeof(pos.hash.b));
    return pos;
}

void rig_mark(struct rig *rig, hadb_txid txid)
{
    struct hadb_pos pos = rig_pos(txid);
    struct hadb_error err = {0};
    int r = hadb_engine_mark(&rig->engine, &pos, &err);
    if (r != 0) {
        fail_msg("mark: %d %s", r, err.message);
    }
}

void rig_expect_range(struct rig *rig, void *view, const struct hadb_range *range,
                      const char *words)
{
    struct hadb_buf text = {0};
    void *own = NULL, *scan = NULL;
    if (!view) {
        assert_int_equal(hadb_engine_view_open(&rig->engine, &own, NULL, NULL), 0);
    }
    int r = hadb_engine_scan_open(&rig->engine, view ? view : own, range, &scan, NULL);
    assert_int_equal(r, 0);
    struct hadb_item item;
    while ((r = hadb_engine_scan_next(&rig->engine, scan, &item, NULL)) == 0) {
        assert_int_equal(hadb_buf_printf(&text, "%s%.*s=%.*s", text.len ? " " : "",
                                         (int)item.key.len, (const char *)item.key.data,
                                         (int)item.value.len,
                                         item.value.len ? (const char *)item.value.data : ""),
                         0);
    }
    assert_int_equal(r, HADB_END);
    assert_int_equal(hadb_engine_scan_next(&rig->engine, scan, &item, NULL), HADB_END);
    hadb_engine_scan_close(&rig->engine, scan);
    hadb_engine_view_close(&rig->engine, own);
    assert_string_equal(hadb_buf_cstr(&text), words);
    hadb_buf_deinit(&text);
}

void rig_expect(struct rig *rig, void *view, const char *words)
{
    const struct hadb_range all = {0};
    rig_expect_range(rig, view, &all, words);
}

void rig_expect_position(struct rig *rig, hadb_txid mark, hadb_txid last)
{
    struct hadb_engine_position position;
    hadb_engine_position(&rig->engine, &position);
    struct hadb_pos want = rig_pos(mark);
    assert_int_equal(position.mark.txid, mark);
    assert_int_equal(position.last_txid, last);
    if (mark > 0) {
        assert_memory_equal(&position.mark, &want, sizeof(want));
    }
}
