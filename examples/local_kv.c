/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key-value database in a folder, used like any embedded database: no node, no storage, no cluster.
 *
 *     cc local_kv.c $(pkg-config --cflags --libs hadb) -o local_kv && ./local_kv /tmp/fruit
 */
#include <stdio.h>
#include <string.h>

#include <hadb/hadb.h>

static struct hadb_slice text(const char *s)
{
    return (struct hadb_slice){s, strlen(s)};
}

static int fail(const char *what, const struct hadb_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: local_kv FOLDER\n");
        return 2;
    }
    struct hadb_error err = {0};
    struct hadb_db *db = NULL;
    if (hadb_kv_open_local(argv[1], "kv", NULL, &db, &err) != 0) {
        return fail("open", &err);
    }

    /* One write, and the version that it gave the key. */
    struct hadb_kv_result written;
    int r = hadb_kv_put(db, text("apple"), text("green"), NULL, &written, &err);
    if (r != 0) {
        return fail("put", &err);
    }

    /* A conditional write: only if nobody changed the key since. */
    struct hadb_kv_options only_if = {.if_version = written.version};
    r = hadb_kv_put(db, text("apple"), text("red"), &only_if, NULL, &err);
    printf("apple turns red: %s\n", r == 0 ? "done" : "refused");
    r = hadb_kv_put(db, text("apple"), text("blue"), &only_if, NULL, &err);
    printf("apple turns blue: %s\n", r == HADB_NOT_MET ? "refused" : "done");

    /* Several writes at once: all of them, or none. */
    const struct hadb_kv_op ops[] = {
        {.type = HADB_OP_PUT, .key = text("banana"), .value = text("yellow")},
        {.type = HADB_OP_PUT, .key = text("cherry"), .value = text("dark red")},
        {.type = HADB_OP_DELETE, .key = text("durian")},
    };
    if (hadb_kv_batch(db, ops, 3, NULL, NULL, &err) != 0) {
        return fail("batch", &err);
    }

    /* Everything, in key order, as of one moment. */
    struct hadb_kv_items items = {0};
    struct hadb_range all = {0};
    if (hadb_kv_scan(db, &all, 0, NULL, &items, NULL, &err) != 0) {
        return fail("scan", &err);
    }
    for (size_t i = 0; i < items.len; i++) {
        const struct hadb_item *item = &items.items[i];
        printf("%.*s is %.*s\n", (int)item->key.len, (const char *)item->key.data,
               (int)item->value.len, (const char *)item->value.data);
    }
    hadb_kv_items_deinit(&items);
    hadb_db_close(db, 0);
    return 0;
}
