/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system in memory that forgets what was not synced.
 *
 * Every file has a current image and a synced one; every folder has current entries and synced ones.
 * test_memfs_crash() is a power cut: data that was not synced is lost, kept or torn, folder
 * changes (create, rename, link, unlink) that no sync_dir covered are lost or kept, all by the
 * seed; all handles go dead (EIO) and locks are gone. What was synced is never touched.
 *
 * A file whose data was synced is still lost when its folder was not: POSIX promises no more.
 * Paths: "/a/b" and "a/b" are the same; the root always exists. Safe from any thread.
 */
#ifndef HADB_TESTS_MEMFS_H
#define HADB_TESTS_MEMFS_H
#include "hadb/env.h"

struct test_memfs;

/* What a power cut does to what was not synced. */
enum test_memfs_crash {
    TEST_MEMFS_DROP, /* all of it is gone */
    TEST_MEMFS_KEEP, /* all of it is there (as after kill -9) */
    TEST_MEMFS_TORN, /* each file: a prefix of the new bytes, cut anywhere; folders: lost or kept */
    TEST_MEMFS_MIXED, /* each file: any subset of its new 512-byte sectors; folders: lost or kept */
    TEST_MEMFS_RANDOM, /* one of the four, per crash */
};

struct test_memfs *test_memfs_new(uint64_t seed); /* aborts when out of memory, as all of memfs */
void test_memfs_free(struct test_memfs *memfs);   /* all handles closed before */
struct hadb_fs test_memfs_fs(struct test_memfs *memfs);
void test_memfs_crash(struct test_memfs *memfs, enum test_memfs_crash how);
/* Writes beyond @bytes in all files together fail with ENOSPC, after writing what fits. */
void test_memfs_capacity(struct test_memfs *memfs, uint64_t bytes);
/* Bytes in all files that can be reached by name now. */
uint64_t test_memfs_bytes(struct test_memfs *memfs);
#endif
