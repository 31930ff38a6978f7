/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a record of the lease store file:, on a file system in memory; as they are, and with length and checksum
 * put right. What can be read is the record and nothing else, and can be replaced by whoever has its tag only;
 * what cannot is never replaced. */
#include "base/env.h"
#include "base/fs.h"
#include "base/hash.h"
#include "fuzz/input.h"
#include "fuzz/memory.h"
#include "hadb/lease.h"
#include "tests/support/memfs.h"

#define HEADER_BYTES 40u
#define LEN_MAX (128u << 10)

static void write_file(const struct hadb_fs *fs, const char *path, struct hadb_slice bytes)
{
    struct hadb_fs_file *file = NULL;
    HADB_ASSERT(hadb_fs_open(fs, path, HADB_FS_WRITE | HADB_FS_CREATE, &file, NULL) == 0);
    HADB_ASSERT(hadb_fs_write_at(fs, file, 0, bytes.data, bytes.len, NULL) == 0);
    hadb_fs_close(fs, file);
}

static void read_it(struct hadb_lease *lease, const struct hadb_call *call, struct hadb_slice file)
{
    struct hadb_buf record = {0};
    struct hadb_tag tag = {0}, other = {.s = "1-00"}, fresh = {0};
    struct hadb_error err = {0};
    struct hadb_slice next = hadb_slice_str("next");
    int r = hadb_lease_read(lease, call, "k", &record, &tag, &err);
    if (r != 0) {
        HADB_ASSERT(r == HADB_ECORRUPT && err.code == r && strstr(err.message, "/k") != NULL);
        r = hadb_lease_write_if_match(lease, call, "k", next, NULL, &fresh, NULL);
        HADB_ASSERT(r == HADB_ECORRUPT);
        return;
    }
    HADB_ASSERT(file.len >= HEADER_BYTES && record.len <= HADB_LEASE_RECORD_BYTES_MAX);
    struct hadb_slice body =
        hadb_slice((const uint8_t *)file.data + HEADER_BYTES, file.len - HEADER_BYTES);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&record), body));
    r = hadb_lease_write_if_match(lease, call, "k", next, NULL, &fresh, NULL);
    HADB_ASSERT(r == HADB_CAS_LOST);
    r = hadb_lease_write_if_match(lease, call, "k", next, &other, &fresh, NULL);
    HADB_ASSERT(r == HADB_CAS_LOST);
    HADB_ASSERT(hadb_lease_write_if_match(lease, call, "k", next, &tag, &fresh, NULL) == 0);
    HADB_ASSERT(strcmp(tag.s, fresh.s) != 0);
    HADB_ASSERT(hadb_lease_read(lease, call, "k", &record, &other, NULL) == 0);
    HADB_ASSERT(strcmp(other.s, fresh.s) == 0);
    HADB_ASSERT(hadb_slice_eq(hadb_buf_slice(&record), next));
    hadb_buf_deinit(&record);
}

static void try_file(struct hadb_slice file)
{
    struct test_memfs *memfs = test_memfs_new(1);
    struct hadb_env env = *hadb_env_host();
    struct hadb_lease lease = {0};
    env.fs = test_memfs_fs(memfs);
    struct hadb_call call = hadb_call_within(&env, 60000);
    fuzz_memory_start();
    HADB_ASSERT(hadb_lease_open("file:///l", &env, &lease, NULL) == 0);
    write_file(&env.fs, "/l/k", file);
    read_it(&lease, &call, file);
    hadb_lease_close(&lease);
    size_t cap = HADB_MIN(file.len, HEADER_BYTES + (size_t)HADB_LEASE_RECORD_BYTES_MAX);
    fuzz_memory_end(2 * cap + 4096, 4 * cap + 16384);
    test_memfs_free(memfs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    len = HADB_MIN(len, LEN_MAX);
    try_file(hadb_slice(data, len));
    if (len < HEADER_BYTES) {
        return 0;
    }
    uint8_t *copy = malloc(len);
    HADB_ASSERT(copy != NULL);
    memcpy(copy, data, len);
    hadb_put_u32(copy + 32, (uint32_t)(len - HEADER_BYTES));
    uint32_t crc = hadb_crc32c(0, copy, 36);
    hadb_put_u32(copy + 36, hadb_crc32c(crc, copy + HEADER_BYTES, len - HEADER_BYTES));
    try_file(hadb_slice(copy, len));
    free(copy);
    return 0;
}
