/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures the engines alone: small puts in batches of 64, point reads, a scan. Prints one JSON line with
 * absolute figures of this machine; nothing is claimed and nothing compared.
 *
 *   bench_engine [keys]        default 200000; kv writes below $TMPDIR or /tmp and removes it again
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/fs.h"
#include "base/url.h"
#include "hadb/engine.h"

#define BATCH 64u
#define VALUE_BYTES 100u

struct figures {
    double puts, gets, items;
};

static void must(int r, const struct hadb_error *err)
{
    if (r < 0) {
        fprintf(stderr, "bench_engine: %s\n", err->message);
        exit(1);
    }
}

/* Spreads 0..keys-1 without repeating, so that puts do not come in key order. */
static void make_key(uint64_t i, uint64_t keys, char out[24])
{
    uint64_t mixed = (i * 2654435761u) % keys;
    snprintf(out, 24, "key-%016" PRIx64, mixed);
}

static double per_second(uint64_t count, uint64_t start_ns)
{
    return (double)count * 1e9 / (double)(hadb_now_ns(NULL) - start_ns + 1);
}

static double put_all(struct hadb_engine *engine, uint64_t keys)
{
    static const uint8_t value[VALUE_BYTES] = "value";
    struct hadb_error err = {0};
    struct hadb_buf txns = {0};
    hadb_txid txid = 0;
    uint64_t start = hadb_now_ns(NULL);
    for (uint64_t i = 0; i < keys;) {
        char names[BATCH][24];
        struct hadb_op ops[BATCH];
        size_t len = 0;
        for (; len < BATCH && i < keys; len++, i++) {
            make_key(i, keys, names[len]);
            ops[len] = (struct hadb_op){.type = HADB_OP_PUT,
                                        .key = hadb_slice_str(names[len]),
                                        .value = hadb_slice(value, sizeof(value))};
        }
        hadb_buf_clear(&txns);
        must(hadb_txn_encode(1, ++txid, 0, ops, len, &txns, &err), &err);
        must(hadb_engine_apply(engine, hadb_buf_slice(&txns), NULL, &err), &err);
        if (txid % 64 == 0) {
            struct hadb_pos mark = {.term = 1, .slot = txid, .txid = txid};
            must(hadb_engine_mark(engine, &mark, &err), &err);
        }
    }
    hadb_buf_deinit(&txns);
    return per_second(keys, start);
}

static double get_all(struct hadb_engine *engine, uint64_t keys)
{
    struct hadb_error err = {0};
    struct hadb_buf value = {0};
    uint64_t start = hadb_now_ns(NULL);
    for (uint64_t i = 0; i < keys; i++) {
        char name[24];
        make_key(i * 7, keys, name);
        int r = hadb_engine_get(engine, NULL, hadb_slice_str(name), &value, NULL, &err);
        must(r == HADB_ABSENT ? HADB_EIO : r, &err);
    }
    hadb_buf_deinit(&value);
    return per_second(keys, start);
}

static double scan_all(struct hadb_engine *engine, uint64_t keys)
{
    struct hadb_error err = {0};
    void *view = NULL, *scan = NULL;
    const struct hadb_range all = {0};
    struct hadb_item item;
    uint64_t len = 0, start = hadb_now_ns(NULL);
    int r = hadb_engine_view_open(engine, &view, NULL, &err);
    must(r, &err);
    must(hadb_engine_scan_open(engine, view, &all, &scan, &err), &err);
    while ((r = hadb_engine_scan_next(engine, scan, &item, &err)) == 0) {
        len++;
    }
    must(r == HADB_END && len == keys ? 0 : HADB_EIO, &err);
    hadb_engine_scan_close(engine, scan);
    hadb_engine_view_close(engine, view);
    return per_second(len, start);
}

static struct figures measure(const char *name, const char *path, uint64_t keys)
{
    struct hadb_engine engine = {0};
    struct hadb_error err = {0};
    must(hadb_engine_open(name, path, NULL, NULL, &engine, &err), &err);
    struct figures out;
    out.puts = put_all(&engine, keys);
    out.gets = get_all(&engine, keys);
    out.items = scan_all(&engine, keys);
    hadb_engine_close(&engine);
    return out;
}

int main(int argc, char **argv)
{
    uint64_t keys = 200000;
    if (argc > 2 || (argc == 2 && !hadb_parse_u64(argv[1], 64, 100000000, &keys))) {
        fprintf(stderr, "usage: bench_engine [keys, 64 to 100000000]\n");
        return 2;
    }
    const char *tmp = getenv("TMPDIR");
    char path[HADB_PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/bench-engine-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(path)) {
        perror("bench_engine: mkdtemp");
        return 1;
    }
    struct figures memory = measure("memory", NULL, keys);
    struct figures kv = measure("kv", path, keys);
    hadb_fs_remove_all(NULL, path, NULL);
    printf("{\"bench\":\"engine\",\"keys\":%" PRIu64 ",\"value_bytes\":%u,\"batch\":%u,"
           "\"memory_puts_per_s\":%.0f,\"memory_gets_per_s\":%.0f,\"memory_scan_items_per_s\":%.0f,"
           "\"kv_puts_per_s\":%.0f,\"kv_gets_per_s\":%.0f,\"kv_scan_items_per_s\":%.0f}\n",
           keys, VALUE_BYTES, BATCH, memory.puts, memory.gets, memory.items, kv.puts, kv.gets,
           kv.items);
    return 0;
}
