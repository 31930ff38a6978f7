/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as the small texts of a node's data folder, on a file system in memory: up to the first NUL node.id, behind it
 * the label of a database. An id is read back unchanged and never written over; a label that is taken is a
 * name and an engine that could have been written. */
#include <strings.h>

#include "base/env.h"
#include "base/hash.h"
#include "base/id.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "node/folder.h"
#include "tests/support/memfs.h"

#define UUID "01234567-89ab-7cde-8f01-23456789abcd"
#define TEXT_BYTES_MAX 1024u

static void quiet(void *arg, enum hadb_log_level level, const char *component, const char *database,
                  const char *text)
{
    (void)arg;
    (void)level;
    (void)component;
    (void)database;
    (void)text;
}

static void write_file(const struct hadb_fs *fs, const char *path, struct hadb_slice bytes)
{
    struct hadb_fs_file *file = NULL;
    HADB_ASSERT(hadb_fs_open(fs, path, HADB_FS_WRITE | HADB_FS_CREATE, &file, NULL) == 0);
    HADB_ASSERT(hadb_fs_write_at(fs, file, 0, bytes.data, bytes.len, NULL) == 0);
    hadb_fs_close(fs, file);
}

static void expect_file(const struct hadb_fs *fs, const char *path, struct hadb_slice bytes)
{
    struct hadb_buf now = {0};
    HADB_ASSERT(hadb_fs_read_file(fs, path, 2 * TEXT_BYTES_MAX, &now, NULL) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&now), bytes));
    hadb_buf_deinit(&now);
}

static void read_label(const struct hadb_folder *folder, struct hadb_slice label)
{
    struct hadb_folder_known known = {0};
    struct hadb_buf again = {0};
    HADB_ASSERT(hadb_folder_index(folder, &known, NULL) == 0 && known.len <= 1);
    if (known.len == 1) {
        const struct hadb_folder_db *db = &known.items[0];
        HADB_ASSERT(hadb_name_valid(db->name) && hadb_name_valid(db->engine));
        HADB_ASSERT(hadb_folder_known_find(&known, db->name, db->engine) == db);
        HADB_ASSERT(hadb_buf_printf(&again, "%s=%s", db->name, db->engine) == 0);
        HADB_ASSERT(hadb_slice_starts(label, hadb_buf_slice(&again)));
    }
    hadb_buf_deinit(&again);
    hadb_folder_known_deinit(&known);
}

static void run(const struct hadb_env *env, struct hadb_slice id, struct hadb_slice label)
{
    struct hadb_folder folder = {0};
    struct hadb_error err = {0};
    char text[HADB_ID_TEXT_BYTES];
    HADB_ASSERT(hadb_fs_mkdir_all(&env->fs, "/n/db/" UUID, NULL) == 0);
    write_file(&env->fs, "/n/node.id", id);
    write_file(&env->fs, "/n/db/" UUID "/name", label);
    int r = hadb_folder_open(env, "/n", &folder, &err);
    if (r == 0) {
        hadb_id_format(&folder.id, text);
        HADB_ASSERT(!hadb_id_is_zero(&folder.id) && id.len >= sizeof(text) - 1);
        HADB_ASSERT(strncasecmp(text, id.data, sizeof(text) - 1) == 0);
        read_label(&folder, label);
    } else {
        HADB_ASSERT(r == HADB_ECORRUPT && err.code == r && strstr(err.message, "node.id"));
    }
    hadb_folder_close(&folder);
    expect_file(&env->fs, "/n/node.id", id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    len = HADB_MIN(len, TEXT_BYTES_MAX);
    const uint8_t *zero = len ? memchr(data, 0, len) : NULL;
    size_t id_len = zero ? (size_t)(zero - data) : len;
    struct test_memfs *memfs = test_memfs_new(1);
    struct hadb_env env = *hadb_env_host();
    env.fs = test_memfs_fs(memfs);
    env.log = quiet;
    fuzz_memory_start();
    run(&env, hadb_slice(data, id_len),
        zero ? hadb_slice(zero + 1, len - id_len - 1) : hadb_slice("", 0));
    fuzz_memory_end(HADB_PATH_BYTES_MAX, 16384);
    test_memfs_free(memfs);
    return 0;
}
